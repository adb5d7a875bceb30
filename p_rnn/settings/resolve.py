"""From the settings that somebody gave to the settings of a run: fill nulls, refuse nonsense."""

from __future__ import annotations

import importlib
import re
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from p_rnn.settings.config import (
    CellConfig,
    ColumnsConfig,
    Config,
    DatasetConfig,
    EarlyStoppingConfig,
    EvaluationConfig,
    LossConfig,
    OptimizerConfig,
)
from p_rnn.settings.errors import UserError
from p_rnn.settings.ranges import check_ranges, leaves
from p_rnn.settings.registry import suggest

Node = TypeVar("Node")


def _overlay(own: Node, given: Node) -> Node:
    """`own` with every setting that is given (not null) in place of its own."""
    both = {f.name: getattr(given, f.name) for f in fields(given)}  # type: ignore[arg-type]
    return replace(own, **{k: v for k, v in both.items() if v is not None})  # type: ignore[type-var]


def _refuse(inert: bool, key: str, why: str) -> None:
    if inert:
        raise UserError(f"{key} has no effect {why}; leave it out or set it to null")


def resolve(config: Config) -> Config:
    """The settings of a run with every null that matters filled in; idempotent.

    Raises:
        UserError: a value out of range, an impossible combination, or an explicitly given setting
            that has no effect in this combination.
    """
    load_plugins(config.plugins or [])
    check_ranges(config)
    if config.model.family == "counts":
        return _resolve_counts(config)
    for key, value, _ in leaves(config.baseline, "baseline."):
        _refuse(value is not None, key, f"on model={config.model.name}, which is trained")
    if config.model.family == "factors":
        _refuse_recurrent(config)
    config = _resolve_loss(config)
    config = _resolve_sizes(_resolve_negatives(config))
    config = _resolve_features(_resolve_batching(config))
    config.dataset = resolve_dataset(config.dataset)
    config.optimizer = _overlay(
        config.model.optimizer if config.optimizer.name is None else OptimizerConfig(),
        config.optimizer,
    )
    needed = ["learning_rate", "num_epochs"]
    if config.model.family == "recurrent":
        needed.append("num_layers")
    for name in needed:
        if getattr(config, name) is None:
            setattr(config, name, _own(config, name))
    assert config.num_epochs is not None
    if config.schedule.warmup_epochs > config.num_epochs:
        raise UserError(
            f"schedule.warmup_epochs={config.schedule.warmup_epochs} exceeds num_epochs="
            f"{config.num_epochs}, so the learning rate would never be reached"
        )
    # A criterion is taken whole: the metric of the model goes with its patience.
    if config.dataset.validation and config.early_stopping == EarlyStoppingConfig():
        config.early_stopping = replace(config.model.early_stopping)
    return _resolve_validation(config)


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


# What a model that only counts can be told.
FOR_COUNTS = (
    "dataset",
    "model",
    "baseline",
    "selected_features",
    "train_on_validation",
    "evaluation",
    "tracking",
    "paths",
    "seed",
    "device",
    "num_threads",
    "sweep_name",
    "early_stopping.metric",
    "plugins",
)


def _resolve_counts(config: Config) -> Config:
    """Everything about training is refused; what is left are the model's parameters."""
    plain = {key: value for key, value, _ in leaves(Config())}
    why = f"on model={config.model.name}, from which nothing is trained"
    for key, value, _ in leaves(config):
        if not any(key == name or key.startswith(f"{name}.") for name in FOR_COUNTS):
            inert = key not in plain or value != plain[key]
            if inert:
                raise UserError(f"{key} has no effect {why}; leave it out")
    config = _resolve_features(config)
    config.dataset = resolve_dataset(config.dataset)
    config.baseline = _overlay(config.model.baseline, config.baseline)
    return _resolve_validation(config)


def _refuse_recurrent(config: Config) -> None:
    """The settings of GRUs, on a model that has none."""
    why = f"on model={config.model.name}, which has no GRU"
    for name in ("num_layers", "dropout_prob", "dropout_embedding", "dropout_hidden"):
        _refuse(getattr(config, name) is not None, name, why)
    if config.cell != CellConfig():
        raise UserError(f"cell has no effect {why}; leave it out")


def resolve_dataset(dataset: DatasetConfig) -> DatasetConfig:
    """The rules of a data set, checked."""
    check_ranges(dataset)
    if dataset.split == "given":
        _check_given(dataset)
    else:
        for name in ("valid_path", "test_path"):
            value = getattr(dataset, name)
            _refuse(value is not None, f"dataset.{name}", "without dataset.split=given")
    if dataset.split in ("leave_one_out", "given"):
        why = f"with split={dataset.split}"
        _refuse(dataset.test_days is not None, "dataset.test_days", why)
        _refuse(dataset.straddling is not None, "dataset.straddling", why)
    elif dataset.test_days is None:
        raise UserError("dataset.split=time needs dataset.test_days, the length of the test split")
    else:
        dataset = replace(dataset, straddling=dataset.straddling or "whole")
    if not re.fullmatch(r"\w[\w.\-]*", dataset.name):
        raise UserError(
            f"dataset.name='{dataset.name}' names a folder: letters, digits, _ . - only"
        )
    if dataset.columns is not None:
        _check_columns(dataset, dataset.columns)
    if dataset.split == "time" and dataset.columns and dataset.columns.time is None:
        raise UserError(
            "dataset.columns.time=null leaves no times to split by; set "
            "dataset.split=leave_one_out dataset.test_days=null dataset.straddling=null"
        )
    if dataset.drop_repeats not in (False, True, "all"):
        raise UserError(
            f"dataset.drop_repeats={dataset.drop_repeats} must be true (an item clicked again at "
            "once), all (every later event of an item in its session) or false"
        )
    _refuse(
        dataset.long_sessions is not None and dataset.max_session_length is None,
        "dataset.long_sessions",
        "without dataset.max_session_length",
    )
    low, high = dataset.min_session_length, dataset.max_session_length
    if low is not None and high is not None and low > high:
        raise UserError(
            f"dataset.min_session_length={low} exceeds dataset.max_session_length={high}"
        )
    untyped = dataset.columns is not None and dataset.columns.event_type is None
    if dataset.event_types is not None and untyped:
        raise UserError("dataset.event_types needs dataset.columns.event_type, the column of types")
    if dataset.time_range is not None and len(dataset.time_range) != 2:
        raise UserError("dataset.time_range takes two dates, [from, to), in UTC")
    return dataset


def _check_columns(dataset: DatasetConfig, columns: ColumnsConfig) -> None:
    names = columns.session if isinstance(columns.session, list) else [columns.session]
    if not names or not all(isinstance(name, (str, int)) for name in names):
        raise UserError(
            f"dataset.columns.session={columns.session} must be a column, or a list of columns "
            "whose values name a session together"
        )
    if columns.history is not None:
        if columns.time is not None:
            raise UserError(
                "dataset.columns.history makes a session of each row, whose events have no times; "
                "set dataset.columns.time=null"
            )
        _refuse(dataset.session_gap_s is not None, "dataset.session_gap_s", "with columns.history")


def _check_given(dataset: DatasetConfig) -> None:
    """Somebody's own splits are taken as they are, so that figures compare with theirs."""
    if dataset.test_path is None:
        raise UserError("dataset.split=given needs dataset.test_path, the file of the test split")
    if dataset.validation and dataset.valid_path is None:
        raise UserError(
            "dataset.split=given needs dataset.valid_path, or dataset.validation=false where there "
            "is no such file"
        )
    _refuse(
        not dataset.validation and dataset.valid_path is not None,
        "dataset.valid_path",
        "with dataset.validation=false",
    )
    for name in ("min_session_length", "min_item_support", "max_session_length"):
        if getattr(dataset, name) is not None:
            raise UserError(
                f"dataset.{name} would change the given splits; set dataset.{name}=null"
            )


def _own(config: Config, name: str) -> Any:
    value = getattr(config.model.hyperparameters, name)
    if value is None:
        raise UserError(f"{name} is null and model={config.model.name} has no default for it")
    return value


def _resolve_loss(config: Config) -> Config:
    """Loss and negatives from `loss`, from RecBole's `loss_type`, or from the model."""
    if config.loss_type is not None:
        for key, given in (("loss", config.loss.name), ("negatives", config.negatives)):
            if given is not None:
                raise UserError(f"{key} and loss_type={config.loss_type} both given; keep one")
        if config.loss_type == "CE":
            loss, negatives = LossConfig("cross_entropy", logq=0.0), "full"
        else:
            loss, negatives = LossConfig("bpr", output="linear"), "uniform_one"
        loss = _overlay(loss, config.loss)
        return replace(config, loss=loss, negatives=negatives, loss_type=None)
    own = config.model.loss if config.loss.name is None else LossConfig()
    return replace(config, loss=_overlay(own, config.loss))


def _resolve_negatives(config: Config) -> Config:
    kind = config.negatives or _own(config, "negatives")
    count, alpha = config.num_negatives, config.sample_alpha
    if kind != "sampled":
        _refuse(count is not None, "num_negatives", f"with negatives={kind}")
        _refuse(alpha is not None, "sample_alpha", f"with negatives={kind}")
        if config.loss.logq:
            raise UserError(
                f"loss.logq={config.loss.logq} corrects for sampling and needs negatives=sampled, "
                f"not {kind}; set it to 0"
            )
        return replace(config, negatives=kind)
    if count is None:
        count = _own(config, "num_negatives")
    if count == 0:
        _refuse(alpha is not None, "sample_alpha", "with num_negatives=0")
    elif alpha is None:
        alpha = _own(config, "sample_alpha")
    return replace(config, negatives=kind, num_negatives=count, sample_alpha=alpha)


def _resolve_sizes(config: Config) -> Config:
    """Hidden and embedding size, and the two dropouts."""
    hidden = config.hidden_size or _own(config, "hidden_size")
    embedding, model = config.embedding_size, config.model
    of_id = config.subnet("id").hidden_size or hidden
    embeds = model.input in ("embedding", "shared") or model.feature_input == "embedding"
    how = [
        f"model.{k}={v}"
        for k, v in (("input", model.input), ("feature_input", model.feature_input))
        if v
    ]
    inputs = f"with {' and '.join(how) or 'no input'}"
    if embeds:
        own_size = of_id if model.input == "shared" else hidden
        embedding = embedding or model.hyperparameters.embedding_size or own_size
    else:
        _refuse(embedding is not None, "embedding_size", inputs)
        _refuse(config.dropout_embedding is not None, "dropout_embedding", inputs)
    own, both = config.model.hyperparameters, config.dropout_prob
    names = ("dropout_embedding", "dropout_hidden")
    separate = [config.dropout_embedding, config.dropout_hidden]
    # Without an embedding to drop out, only dropout_hidden is left to be set.
    settable = separate if embeds else separate[1:]
    _refuse(
        both is not None and None not in settable,
        "dropout_prob",
        f"{inputs} and {' and '.join(names[-len(settable) :])} given",
    )
    filled = []
    for given, default in zip(separate, [own.dropout_embedding, own.dropout_hidden], strict=True):
        fallback = (own.dropout_prob if default is None else default) if both is None else both
        filled.append(fallback or 0.0 if given is None else given)
    return replace(
        config,
        hidden_size=hidden,
        embedding_size=embedding,
        dropout_prob=None,
        dropout_embedding=filled[0] if embeds else None,
        dropout_hidden=filled[1],
    )


def _resolve_batching(config: Config) -> Config:
    kind = config.batching or _own(config, "batching")
    window, stride = config.window, config.stride
    size = config.batch_size or _own(config, "batch_size")
    if size == 1 and config.num_negatives == 0:
        raise UserError(
            "batch_size=1 with num_negatives=0 leaves nothing to tell a target from; give "
            "batch_size=2 or more, or num_negatives=1 or more"
        )
    if kind == "sequences":
        window = window or _own(config, "window")
        most = min(window, size)
        stride = stride or min(_own(config, "stride"), most)
        if stride > most:
            raise UserError(
                f"stride={stride} exceeds window={window} or batch_size={size}: a window has at "
                f"most {window} targets, and a batch of {size} targets holds whole windows"
            )
    else:
        _refuse(window is not None, "window", f"with batching={kind}")
        _refuse(stride is not None, "stride", f"with batching={kind}")
    return replace(config, batching=kind, batch_size=size, window=window, stride=stride)


def _resolve_features(config: Config) -> Config:
    """What can be said of features before the data set is there."""
    if config.model.feature_input is None:
        why = f"with model={config.model.name}, which reads no features"
        _refuse(config.selected_features is not None, "selected_features", why)
        _refuse(config.pooling_mode is not None, "pooling_mode", why)
        return config
    chosen = config.selected_features
    if chosen is not None and (not chosen or len(set(chosen)) < len(chosen)):
        raise UserError(f"selected_features={chosen} must name one feature or more, each once")
    return config


def metric_names(cutoffs: list[int]) -> list[str]:
    return [f"{metric}@{k}" for k in cutoffs for metric in ("recall", "mrr", "ndcg")]


def check_evaluation(evaluation: EvaluationConfig) -> None:
    """Refuse cutoffs that are no cutoffs."""
    check_ranges(evaluation)
    if not evaluation.cutoffs or min(evaluation.cutoffs) < 1:
        raise UserError("evaluation.cutoffs needs at least one number, each at least 1")
    if len(set(evaluation.cutoffs)) != len(evaluation.cutoffs):
        raise UserError(f"evaluation.cutoffs={evaluation.cutoffs} names a cutoff twice")


def _resolve_validation(config: Config) -> Config:
    check_evaluation(config.evaluation)
    stopping = config.early_stopping
    if not config.dataset.validation:
        why = "without a validation split (dataset.validation=false)"
        _refuse(stopping.patience is not None, "early_stopping.patience", why)
        _refuse(stopping.metric is not None, "early_stopping.metric", why)
        _refuse(config.train_on_validation, "train_on_validation", why)
        return config
    metric = stopping.metric or f"recall@{max(config.evaluation.cutoffs)}"
    known = metric_names(config.evaluation.cutoffs)
    if metric not in known:
        raise UserError(f"early_stopping.metric='{metric}' is not measured{suggest(metric, known)}")
    return replace(config, early_stopping=replace(stopping, metric=metric))
