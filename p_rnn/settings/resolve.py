"""From the settings that somebody gave to those that run: fill what is null, refuse nonsense."""

from __future__ import annotations

import importlib
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from p_rnn.settings.components import check_parameters, filled, registry
from p_rnn.settings.config import Config, Settings
from p_rnn.settings.dataset_rules import resolve_dataset
from p_rnn.settings.errors import UserError, refuse_inert
from p_rnn.settings.registry import lookup, suggest
from p_rnn.settings.sections import (
    LISTED,
    Component,
    DatasetConfig,
    EarlyStoppingConfig,
    EvaluationConfig,
    Hyperparameters,
    ModelConfig,
    ScheduleConfig,
)
from p_rnn.settings.tree import check_ranges, leaves

Values = dict[str, Any]
DECLARED: dict[str, Any] = {f.name: f.default for f in fields(Hyperparameters)}
# What is chosen where neither somebody nor the model says.
OTHERWISE = {f.name: f.metadata["otherwise"] for f in fields(Settings) if "otherwise" in f.metadata}
# RecBole's words for a loss and its negatives.
LOSS_TYPES = {
    "CE": (Component({}, "cross_entropy"), "full"),
    "BPR": (Component({"output": "linear"}, "bpr"), "uniform_one"),
}


def resolve(config: Config | Settings) -> Settings:
    """The settings of a run; the argument stays as it is.

    Args:
        config: what somebody gave, or the settings of a run, which are run again.

    Raises:
        UserError: a value out of range, an impossible combination, or an explicitly given setting
            that has no effect in this combination.
    """
    load_plugins(config.plugins or [])
    if isinstance(config, Settings):
        return replace(config, dataset=resolve_dataset(config.dataset))
    check_ranges(config)
    dataset = resolve_dataset(config.dataset)
    check_evaluation(config.evaluation)
    if counts(config.model.name):
        return _resolve_counting(config, dataset)
    known = {**registry("baseline"), **registry("model")}  # for the message
    kind = lookup("model", known, config.model.name)
    own = kind.defaults
    loss, negatives = _loss_and_negatives(config, own)
    model = _model(config, own)
    values = _hyperparameters(config, own, model) | {"negatives": negatives}
    unused = unused_keys(values, model, kind.recurrent)
    for key, value, _ in leaves(config):
        refuse_inert(key.startswith("baseline.") and value is not None, key, unused["baseline"])
    for key, why in unused.items():
        refuse_inert(_given(config, key), key, why)
    _check_combination(config, values, loss, unused)
    values |= {key: type(DECLARED[key])() for key in unused if key in values}
    rest = {f.name: getattr(config, f.name) for f in fields(Settings) if f.name not in values}
    rest |= {"dataset": dataset, "model": model, "loss_type": None, "dropout_prob": None}
    rest["loss"] = _without_sampling(filled("loss", loss), values["negatives"])
    rest["optimizer"] = filled(
        "optimizer", _named(config.optimizer, own.get("optimizer"), OTHERWISE["optimizer"])
    )
    rest["strategy"] = filled("strategy", config.strategy)
    rest["schedule"] = filled("schedule", config.schedule)
    if kind.recurrent:
        rest["cell"] = filled("cell", _named(config.cell, None, OTHERWISE["cell"]))
    rest["early_stopping"] = _early_stopping(config, own)
    return Settings(**values, **rest)


def load_plugins(modules: list[str]) -> None:
    """Import modules that register what they bring, from the working folder too.

    Raises:
        UserError: no such module, or one that fails as it is imported.
    """
    if modules and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever a module may do
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"plugins: {name} cannot be imported ({reason})") from error


def counts(model: str) -> bool:
    """Whether a model only counts, so that nothing is trained."""
    return model in registry("baseline")


def _resolve_counting(config: Config, dataset: DatasetConfig) -> Settings:
    """Everything about training is refused; what is left are the model's parameters."""
    name, plain = config.model.name, {key: value for key, value, _ in leaves(Config())}
    for key, value, known in leaves(config):
        if known.get("networks") or key in DECLARED:
            inert = value is not None and value != plain.get(key)
            refuse_inert(inert, key, f"on model={name}, from which nothing is trained")
    ranker = registry("baseline")[name]
    wanted = "direct" if getattr(ranker, "reads_features", False) else None
    if config.model not in (ModelConfig(name), ModelConfig(name, None, wanted)):
        raise UserError(
            f"{name} takes neither model.input nor model.feature_input nor model.output; leave "
            "them out"
        )
    inert = wanted is None and config.selected_features is not None
    refuse_inert(inert, "selected_features", _reads_none(name))
    values: Values = {key: type(default)() for key, default in DECLARED.items()}
    rest = {f.name: getattr(config, f.name) for f in fields(Settings) if f.name not in values}
    rest |= dict.fromkeys(("loss", "optimizer", "cell", "strategy"), Component())
    rest |= {"dataset": dataset, "model": ModelConfig(name, None, wanted)}
    rest["schedule"] = ScheduleConfig()
    rest["baseline"] = check_parameters("baseline", name, ranker, config.baseline)
    rest["early_stopping"] = _early_stopping(config, {})
    return Settings(**values, **rest)


def _given(config: Config, key: str) -> bool:
    """Whether somebody has set it."""
    return getattr(config, key) not in (None, {}, Component())


def _reads_none(name: str) -> str:
    return f"with model={name}, which reads no features"


def _named(given: Component, own: Values | None, otherwise: str) -> Component:
    """What is given by name; else the model's own, of which single parameters may be given."""
    if given.name is not None:
        return given
    parameters = dict(own or {"name": otherwise})
    name = parameters.pop("name", None)
    return Component(parameters | _there(given.parameters), name)


def _there(values: Values) -> Values:
    return {key: value for key, value in values.items() if value is not None}


def _loss_and_negatives(config: Config, own: Values) -> tuple[Component, str]:
    """From `loss` and `negatives`, from RecBole's `loss_type`, or the model's own."""
    negatives = config.negatives or own.get("negatives", DECLARED["negatives"])
    if config.loss_type is None:
        return _named(config.loss, own.get("loss"), OTHERWISE["loss"]), negatives
    for key, given in (("loss", config.loss.name), ("negatives", config.negatives)):
        if given is not None:
            raise UserError(f"{key} and loss_type={config.loss_type} both given; keep one")
    loss, negatives = LOSS_TYPES[config.loss_type]
    return Component(loss.parameters | _there(config.loss.parameters), loss.name), negatives


def _without_sampling(loss: Component, negatives: str) -> Component:
    """A loss corrects only for negatives that are sampled in proportion to the support."""
    if negatives != "sampled" and "logq" in loss.parameters:
        return loss.but(logq=0.0)
    return loss


def _model(config: Config, own: Values) -> ModelConfig:
    given = config.model
    ids, features = given.input or own.get("input"), given.feature_input or own.get("feature_input")
    return ModelConfig(given.name, ids, features, given.output)


def _hyperparameters(config: Config, own: Values, model: ModelConfig) -> Values:
    """Each as given, or as the model has it, or as it is declared."""
    values: Values = {}
    for key, default in DECLARED.items():
        found = (getattr(config, key), own.get(key), default)
        values[key] = next(value for value in found if value is not None)
    if config.dropout_prob is not None:
        for key in ("dropout_embedding", "dropout_hidden"):
            if getattr(config, key) is None:
                values[key] = config.dropout_prob
    if not values["embedding_size"]:
        subnet = config.subnets.get("id") if model.input == "shared" else None
        values["embedding_size"] = (subnet and subnet.hidden_size) or values["hidden_size"]
    if config.stride is None:
        values["stride"] = min(values["stride"], values["window"], values["batch_size"])
    return values


def unused_keys(values: Values, model: ModelConfig, recurrent: bool = True) -> dict[str, str]:
    """{key: why} of what has no effect in a combination."""
    unused = {"baseline": f"on model={model.name}, which is trained"}
    if not recurrent:
        of_grus = ("num_layers", "dropout_prob", "dropout_embedding", "dropout_hidden", "cell")
        unused |= dict.fromkeys(of_grus, f"on model={model.name}, which has no GRU")
    if model.input not in ("embedding", "shared") and model.feature_input != "embedding":
        unused.setdefault("dropout_embedding", _inputs(model))
        unused["embedding_size"] = _inputs(model)
    if values["batching"] != "sequences":
        unused |= dict.fromkeys(("window", "stride"), f"with batching={values['batching']}")
    else:
        unused["shuffle"] = "with batching=sequences, which draws windows in random order"
    if values["negatives"] != "sampled":
        why = f"with negatives={values['negatives']}"
        unused |= dict.fromkeys(("num_negatives", "sample_alpha"), why)
    elif values["num_negatives"] == 0:
        unused["sample_alpha"] = "with num_negatives=0"
    if not model.reads_features:
        names = ("selected_features", "pooling_mode")
        unused |= dict.fromkeys(names, _reads_none(model.name))
    return unused


def _inputs(model: ModelConfig) -> str:
    keys = ("input", "feature_input")
    how = [f"model.{key}={getattr(model, key)}" for key in keys if getattr(model, key)]
    return f"with {' and '.join(how) or 'no input'}"


def _check_combination(
    config: Config, values: Values, loss: Component, unused: dict[str, str]
) -> None:
    """Refuse what each setting allows by itself, but not all together."""
    names = [key for key in ("dropout_embedding", "dropout_hidden") if key not in unused]
    settable = [getattr(config, name) for name in names]
    why = f"{_inputs(_model(config, {}))} and {' and '.join(names)} given"
    refuse_inert(config.dropout_prob is not None and None not in settable, "dropout_prob", why)
    if loss.parameters.get("logq") and values["negatives"] != "sampled":
        raise UserError(
            f"loss.logq={loss.parameters['logq']} corrects for sampling and needs "
            f"negatives=sampled, not {values['negatives']}; set it to 0"
        )
    window, stride, size = (values[key] for key in ("window", "stride", "batch_size"))
    if size == 1 and values["negatives"] == "sampled" and values["num_negatives"] == 0:
        raise UserError(
            "batch_size=1 with num_negatives=0 leaves nothing to tell a target from; give "
            "batch_size=2 or more, or num_negatives=1 or more"
        )
    if stride > min(window, size) and values["batching"] == "sequences":
        raise UserError(
            f"stride={stride} exceeds window={window} or batch_size={size}: a window has at "
            f"most {window} targets, and a batch of {size} targets holds whole windows"
        )
    if 0 < values["reorder"] <= 1:
        raise UserError(
            f"reorder={values['reorder']} has no effect: events move by fewer places than this; "
            "give more than 1, or 0"
        )
    warmup, epochs = config.schedule.warmup_epochs, values["num_epochs"]
    if warmup > epochs:
        raise UserError(
            f"schedule.warmup_epochs={warmup} exceeds num_epochs={epochs}, so the learning rate "
            "would never be reached"
        )
    chosen = config.selected_features
    if chosen is not None and (not chosen or len(set(chosen)) < len(chosen)):
        raise UserError(f"selected_features={chosen} must name one feature or more, each once")


def metric_names(cutoffs: list[int]) -> list[str]:
    """recall@1, mrr@1, ndcg@1, ..."""
    return [f"{metric}@{k}" for k in cutoffs for metric in ("recall", "mrr", "ndcg")]


def check_evaluation(evaluation: EvaluationConfig) -> None:
    """Refuse cutoffs that are no cutoffs."""
    check_ranges(evaluation, "evaluation.")
    if not evaluation.cutoffs or min(evaluation.cutoffs) < 1:
        raise UserError("evaluation.cutoffs needs at least one number, each at least 1")
    if max(evaluation.cutoffs) > LISTED["high"]:
        raise UserError(f"evaluation.cutoffs={evaluation.cutoffs}: at most {LISTED['high']} each")
    if len(set(evaluation.cutoffs)) != len(evaluation.cutoffs):
        raise UserError(f"evaluation.cutoffs={evaluation.cutoffs} names a cutoff twice")


def _early_stopping(config: Config, own: Values) -> EarlyStoppingConfig:
    """As given; else the model's own. A criterion is taken whole: its metric with its patience."""
    given = {f.name: getattr(config.early_stopping, f.name) for f in fields(EarlyStoppingConfig)}
    if not config.dataset.validation:
        why = "without a validation split (dataset.validation=false)"
        for key in given:
            refuse_inert(given[key] is not None, f"early_stopping.{key}", why)
        refuse_inert(config.train_on_validation, "train_on_validation", why)
        return EarlyStoppingConfig()
    keep = given.pop("keep") or "best"
    one_stage = keep != "best" and config.strategy.name != "residual"
    refuse_inert(one_stage, "early_stopping.keep", f"with strategy={config.strategy.name}")
    if not _there(given):
        given = own.get("early_stopping", {})
    metric = given.get("metric") or f"recall@{max(config.evaluation.cutoffs)}"
    known = metric_names(config.evaluation.cutoffs)
    if metric not in known:
        raise UserError(f"early_stopping.metric='{metric}' is not measured{suggest(metric, known)}")
    return EarlyStoppingConfig(**_there(given) | {"metric": metric, "keep": keep})
