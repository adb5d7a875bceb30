"""Settings of a run: nulls filled, ranges, and every refusal in one line."""

from __future__ import annotations

import copy
import re
from dataclasses import fields
from functools import cache

import pytest
from omegaconf import OmegaConf

from p_rnn.models.architectures import check_model
from p_rnn.settings.config import Config, Settings
from p_rnn.settings.dataset_rules import resolve_dataset
from p_rnn.settings.errors import UserError
from p_rnn.settings.hydra_glue import load_config, typed
from p_rnn.settings.resolve import check_evaluation, resolve
from p_rnn.settings.sections import EarlyStoppingConfig, EvaluationConfig, Hyperparameters
from p_rnn.settings.stored import from_dict
from p_rnn.settings.tree import leaves, plain


@cache
def composed(*groups: str) -> Config:
    return load_config("dataset=table", "dataset.path=x.csv", *groups)


def settings(*overrides: str) -> Config:
    """As on the command line; composing takes long, so only choices of groups go through it."""
    groups = [word for word in overrides if word.startswith(("loss=", "optimizer="))]
    others = [word for word in overrides if word not in groups]
    given = OmegaConf.create(plain(composed(*groups)))
    return typed(OmegaConf.merge(given, OmegaConf.from_dotlist(others)), Config)


def resolved(*overrides: str) -> Settings:
    return resolve(settings(*overrides))


def test_nulls_become_the_defaults_of_the_model() -> None:
    config = resolved()
    found = {f.name: getattr(config, f.name) for f in fields(Hyperparameters)}
    assert found == {
        "learning_rate": 0.05,
        "num_layers": 1,
        "hidden_size": 100,
        "embedding_size": 100,  # hidden_size
        "dropout_embedding": 0.0,
        "dropout_hidden": 0.0,
        "batching": "session_parallel",
        "batch_size": 64,
        "window": 0,  # of sequences
        "stride": 0,
        "shuffle": False,
        "reorder": 0.0,
        "pooling_mode": "",  # of features
        "negatives": "sampled",
        "num_negatives": 2048,
        "sample_alpha": 0.5,
        "num_epochs": 10,
    }
    assert config.loss.name == "cross_entropy"
    assert config.loss.parameters == {"logq": 1.0, "smoothing": 0.0}
    assert config.optimizer.name == "adagrad"
    assert config.early_stopping.metric == "recall@20"
    assert config.dataset.straddling == "whole"


CHOICES: list[tuple[str, ...]] = [
    (),
    ("num_negatives=0",),
    ("negatives=full", "loss=cross_entropy"),
    ("negatives=uniform_one", "loss=bpr"),
    ("loss_type=CE",),
    ("loss_type=BPR",),
    ("loss=cross_entropy", "loss.logq=1"),
    ("loss.logq=0.5",),
    ("optimizer=adam",),
    ("optimizer.momentum=0.3",),
    ("model.input=one_hot",),
    ("model.input=one_hot", "dropout_prob=0.2"),
    ("model.input=embedding", "embedding_size=7"),
    ("hidden_size=12", "dropout_prob=0.2", "dropout_hidden=0.1"),
    ("dataset.validation=false",),
    ("dataset.split=leave_one_out", "dataset.test_days=null", "dataset.straddling=null"),
    ("early_stopping.metric=mrr@5", "early_stopping.patience=2", "train_on_validation=true"),
]


@pytest.mark.parametrize("overrides", CHOICES, ids=lambda words: "-".join(words) or "none")
def test_resolving_leaves_its_argument_alone(overrides: tuple[str, ...]) -> None:
    config = settings(*overrides)
    before = copy.deepcopy(config)
    once = resolve(config)
    assert config == before
    assert resolve(config) == once
    assert not [f.name for f in fields(Hyperparameters) if getattr(once, f.name) is None]
    assert plain(from_dict(plain(once), "stored")) == plain(once)


def test_a_config_of_python_runs_the_embedded_world() -> None:
    config = resolve(Config())
    assert (config.dataset.reader, config.loss.name, config.learning_rate) == (
        "synthetic",
        "cross_entropy",
        0.05,
    )


GIVEN = {
    "learning_rate": 0.3,
    "num_layers": 2,
    "hidden_size": 9,
    "batch_size": 5,
    "num_negatives": 3,
    "sample_alpha": 0.25,
    "num_epochs": 4,
    "dropout_embedding": 0.2,
    "dropout_hidden": 0.1,
    "dataset.straddling": "truncate",
    "loss.smoothing": 0.0,
    "optimizer.momentum": 0.9,
    "early_stopping.metric": "ndcg@10",
}


def test_given_settings_stay() -> None:
    config = resolved(*(f"{key}={value}" for key, value in GIVEN.items()))
    found = {key: value for key, value, _ in leaves(config) if key in GIVEN}
    assert found == GIVEN
    assert config.loss.parameters["logq"] == 1  # the others of the model's own loss stay too
    zero = resolved("dropout_embedding=0", "sample_alpha=0", "loss.logq=0")
    assert (zero.dropout_embedding, zero.sample_alpha) == (0, 0)
    assert zero.loss.parameters["logq"] == 0


def test_another_loss_or_optimizer_does_not_inherit_from_the_models_own() -> None:
    config = resolved("loss=top1", "optimizer=adam")
    assert config.loss.name == "top1"
    assert config.loss.parameters == {}
    assert set(config.optimizer.parameters) == {"beta1", "beta2", "eps", "weight_decay"}


@pytest.mark.parametrize(
    ("word", "loss", "output", "negatives"),
    [("CE", "cross_entropy", None, "full"), ("BPR", "bpr", "linear", "uniform_one")],
)
def test_loss_type(word: str, loss: str, output: str | None, negatives: str) -> None:
    config = resolved(f"loss_type={word}")
    assert (config.loss.name, config.loss.parameters.get("output")) == (loss, output)
    assert not config.loss.parameters.get("logq")
    assert (config.negatives, config.loss_type) == (negatives, None)
    assert (config.num_negatives, config.sample_alpha) == (0, 0)


@pytest.mark.parametrize(
    ("overrides", "embedding", "hidden"),
    [
        ((), 0.0, 0.0),
        (("dropout_prob=0.3",), 0.3, 0.3),
        (("dropout_prob=0.3", "dropout_hidden=0.1"), 0.3, 0.1),
        (("dropout_prob=0.3", "dropout_embedding=0"), 0.0, 0.3),
        (("dropout_embedding=0.2",), 0.2, 0.0),
        (("model.name=gru4recf",), 0.3, 0.0),
        (("model.name=gru4recf", "dropout_prob=0.2"), 0.2, 0.2),
        (("model.input=one_hot", "dropout_prob=0.3"), 0.0, 0.3),
    ],
)
def test_dropout_prob_sets_both(
    overrides: tuple[str, ...], embedding: float, hidden: float
) -> None:
    config = resolved(*overrides)
    assert (config.dropout_embedding, config.dropout_hidden) == (embedding, hidden)
    assert config.dropout_prob is None


@pytest.mark.parametrize(
    ("overrides", "size"),
    [
        ((), 100),
        (("hidden_size=8",), 8),
        (("hidden_size=8", "embedding_size=8"), 8),
        (("model.input=embedding", "embedding_size=6"), 6),
        (("model.name=gru4recf",), 64),
        (("model.input=embedding",), 100),
        (("model.input=one_hot",), 0),
    ],
)
def test_embedding_size(overrides: tuple[str, ...], size: int) -> None:
    assert resolved(*overrides).embedding_size == size


def test_num_negatives_zero_needs_no_alpha() -> None:
    config = resolved("num_negatives=0")
    assert (config.num_negatives, config.sample_alpha) == (0, 0)


@pytest.mark.parametrize("others", ["num_negatives=1", "negatives=full", "negatives=uniform_one"])
@pytest.mark.parametrize("batching", ["session_parallel", "sequences"])
def test_one_target_at_a_time_with_something_to_tell_it_from(others: str, batching: str) -> None:
    assert resolved("batch_size=1", f"batching={batching}", others).batch_size == 1


LEAVE_ONE_OUT = ("dataset.split=leave_one_out",)
REFUSED: dict[tuple[str, ...], str] = {
    ("loss_type=CE", "loss=top1"): "loss and loss_type=CE both given",
    ("loss_type=BPR", "negatives=full"): "negatives and loss_type=BPR both given",
    ("loss_type=CE", "num_negatives=5"): "num_negatives has no effect",
    ("loss_type=CE", "loss.logq=1"): "loss.logq",
    ("reorder=1",): r"reorder=1.0 has no effect: events move by fewer places",
    ("negatives=full", "num_negatives=5"): "num_negatives has no effect with negatives=full",
    ("negatives=full", "sample_alpha=0.1"): "sample_alpha has no effect with negatives=full",
    ("negatives=uniform_one", "num_negatives=5"): "num_negatives has no effect",
    ("negatives=uniform_one", "sample_alpha=0"): "sample_alpha has no effect",
    ("negatives=full", "loss=cross_entropy", "loss.logq=1"): "loss.logq.*negatives=sampled",
    ("num_negatives=0", "sample_alpha=0.5"): "sample_alpha has no effect with num_negatives=0",
    ("batch_size=1", "num_negatives=0"): "batch_size=1 with num_negatives=0 leaves nothing to tell",
    (
        "batching=sequences",
        "batch_size=1",
        "stride=1",
        "num_negatives=0",
    ): "batch_size=1 with num_negatives=0 leaves nothing to tell a target from; give batch_size=2",
    ("model.input=one_hot", "embedding_size=9"): "embedding_size has no effect",
    ("model.input=one_hot", "dropout_embedding=0.1"): "dropout_embedding has no effect",
    ("embedding_size=9",): "embedding_size=9 must equal the hidden_size=100",
    ("dropout_prob=0.1", "dropout_embedding=0", "dropout_hidden=0"): "dropout_prob has no effect",
    ("dataset.validation=false", "early_stopping.patience=3"): "early_stopping.patience has no",
    ("dataset.validation=false", "early_stopping.metric=mrr@5"): "early_stopping.metric has no",
    ("dataset.validation=false", "train_on_validation=true"): "train_on_validation has no effect",
    ("early_stopping.keep=last_stage",): "keep has no effect with strategy=simultaneous",
    ("early_stopping.metric=recal@20",): "did you mean 'recall@20'",
    ("early_stopping.metric=recall@7",): "recall@7' is not measured",
    ("evaluation.cutoffs=[]",): "cutoffs needs at least one",
    ("evaluation.cutoffs=[0,5]",): "cutoffs needs at least one",
    ("evaluation.cutoffs=[5,10,5]",): "names a cutoff twice",
    ("dataset.test_days=null",): "needs dataset.test_days",
    ("dataset.path=null",): "dataset.path is null, but reader=table needs it",
    (*LEAVE_ONE_OUT, "dataset.straddling=null"): "test_days has no effect",
    (*LEAVE_ONE_OUT, "dataset.test_days=null"): "straddling has no effect",
    ("dataset.min_session_length=5", "dataset.max_session_length=4"): "exceeds",
    ("dataset.event_types=[view]",): "event_types needs dataset.columns.event_type",
    ("dataset.time_range=['2017-10-01']",): "time_range takes two dates",
}


def test_early_stopping_is_the_models_own_unless_given() -> None:
    own = "model.name=gru4recf"
    assert resolved(own).early_stopping == EarlyStoppingConfig("recall@20", 10)
    assert resolved(own, "early_stopping.patience=7").early_stopping.patience == 7
    # A criterion is taken whole: who gives a metric gives the patience too.
    assert resolved(own, "early_stopping.metric=mrr@5").early_stopping.patience is None
    assert resolved(own, "dataset.validation=false").early_stopping == EarlyStoppingConfig()


def test_a_shared_embedding_has_the_size_of_the_id_subnet() -> None:
    config = load_config(
        "dataset=table", "dataset.path=x.csv", "model=parallel", "subnets.id.hidden_size=30"
    )
    assert resolve(config).embedding_size == 30
    check_model(resolve(config))


def refused(says: str, *overrides: str) -> None:
    with pytest.raises(UserError, match=says) as error:
        check_model(resolved(*overrides))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("overrides", REFUSED, ids="-".join)
def test_impossible_and_inert_settings_are_refused(overrides: tuple[str, ...]) -> None:
    refused(REFUSED[overrides], *overrides)


def test_dropout_prob_without_effect_is_refused_for_one_hot_too() -> None:
    refused(
        "dropout_prob has no effect",
        "model.input=one_hot",
        "dropout_prob=0.3",
        "dropout_hidden=0.1",
    )


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("learning_rate", "0", "above 0"),
        ("learning_rate", "nan", "learning_rate=nan"),
        ("num_layers", "0", "at least 1"),
        ("batch_size", "-3", "at least 1"),
        ("num_negatives", "-1", "at least 0"),
        ("sample_alpha", "-0.1", "at least 0"),
        ("dropout_prob", "1", "below 1"),
        ("dropout_hidden", "-0.1", "at least 0"),
        ("hidden_size", "0", "at least 1"),
        ("optimizer.momentum", "1", "below 1"),
        ("loss.logq", "-1", "at least 0"),
        ("seed", "-1", "at least 0"),
        ("negatives", "smapled", "did you mean 'sampled'"),
        ("loss_type", "XE", "not a choice"),
        ("model.input", "onehot", "did you mean 'one_hot'"),
        ("cell.reset", "between", "not a choice"),
        ("dataset.test_days", "0", "above 0"),
        ("dataset.session_gap_s", "0", "above 0"),
        ("dataset.max_session_length", "1", "at least 2"),
        ("dataset.duplicates", "dorp", "did you mean 'drop'"),
        ("evaluation.ties", "worst", "conservative"),
        ("evaluation.most_popular", "0", "at least 1"),
        ("early_stopping.patience", "0", "at least 1"),
        ("tracking.log_every", "0", "at least 1"),
    ],
)
def test_values_out_of_range_name_the_key(key: str, value: str, says: str) -> None:
    refused(f"^(?={re.escape(key)}=).*{re.escape(says)}", f"{key}={value}")


def test_every_bound_is_checked_on_both_sides() -> None:
    """The edge of every declared closed bound passes, and one beyond does not."""
    for key, _, known in leaves(settings().dataset):
        low = known.get("low")
        if low is None or "." in key:
            continue
        resolve_dataset(settings().dataset.but(**{key: low}))
        with pytest.raises(UserError, match=key):
            resolve_dataset(settings().dataset.but(**{key: low - 1}))


def test_check_evaluation_accepts_the_defaults() -> None:
    check_evaluation(EvaluationConfig())
