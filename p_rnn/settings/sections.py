"""The sections of the settings: what each declares, its defaults and ranges."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Optional, Self, Union

from p_rnn.settings.declare import choice, number, setting

# ruff: noqa: UP007, UP045  (OmegaConf reads Optional and Union on every Python that we support)

# Bounds far above what anybody trains, so that a slip of the pen ends in a line and not in hours.
EPOCHS, LAYERS = {"low": 1, "high": 100_000}, {"low": 1, "high": 1000}
THREADS, LISTED = {"low": 1, "high": 512}, {"low": 1, "high": 100_000}  # LISTED: a top-K list


@dataclass
class Open:
    """A section whose other keys are the parameters of what is chosen by name."""

    parameters: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, **given: Any) -> Self:
        """The section with these settings and parameters, as they stand side by side in YAML."""
        known = {f.name for f in dataclasses.fields(cls)}
        parameters = {key: value for key, value in given.items() if key not in known}
        settings = {key: value for key, value in given.items() if key in known}
        return cls(parameters, **settings)

    def but(self, **given: Any) -> Self:
        """The same section with other settings or parameters."""
        now = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return self.of(**now.pop("parameters") | now | given)


@dataclass
class Component(Open):
    """Something chosen by name, and its parameters; without a name, the model's own."""

    name: Optional[str] = None


def component(name: str, **parameters: Any) -> Component:
    """`component("bpr_max", bpreg=0.5)`."""
    return Component(parameters, name)


# --- data ---------------------------------------------------------------------------------------


@dataclass
class FeatureConfig(Open):
    """A feature of items: where its values come from, and its kind (p_rnn/data/features/)."""

    kind: Optional[str] = setting(
        None, "vector, number, category, tags, text or hashed; null: that of the values"
    )
    columns: Optional[list[str]] = setting(
        None, "properties of the item table, or columns of `file`; null: the feature's own name"
    )
    file: Optional[str] = setting(None, "relative to paths.raw; null: the item table")
    item: Optional[str] = setting(None, "column of item ids in `file`; null: item")
    ids: Optional[str] = setting(None, "item ids of the rows of a .npy or .safetensors file")
    column_separator: Optional[str] = setting(
        None, "of `file`; null: a comma for .csv, a tab for .tsv", later=True
    )
    quoting: Optional[str] = choice(
        None, "double", "backslash", "none", help="of `file`: how quotes are written", later=True
    )
    encoding: Optional[str] = setting(None, "of `file`; null: utf-8", later=True)


@dataclass
class DatasetConfig(Open):
    """Where events come from, and the rules of `prepare`, in the order in which they act."""

    name: str = setting("unnamed", "names the folder of the prepared data", role="output")
    reader: str = setting("table", "what reads the raw files")
    source: str = setting(
        "", "where to get the raw files; shown if they are missing", role="output"
    )
    features: dict[str, FeatureConfig] = setting(
        dict, "features of items by name; {}: one per property of the item table", items=True
    )
    duplicates: str = choice(
        "error", "error", "drop", "keep", help="rows of equal session, item, time and type"
    )
    event_types: Optional[list[str]] = setting(None, "keep only these; null: all")
    time_range: Optional[list[str]] = setting(
        None, "[from, to) in UTC; of a session, its first event counts"
    )
    session_gap_s: Optional[float] = number(
        None, "cut a visitor's stream at pauses longer than this", above=0
    )
    drop_repeats: Union[bool, str] = setting(
        False, "true: immediate repeats of an item; all: every repeat in a session"
    )
    min_session_length: Optional[int] = number(2, "shorter sessions are dropped", low=1)
    min_item_support: Optional[int] = number(5, "items with fewer events are dropped", low=1)
    max_session_length: Optional[int] = number(None, "longer sessions: see long_sessions", low=2)
    long_sessions: Optional[str] = choice(
        None,
        "drop",
        "truncate",
        "split",
        later=True,
        help="drop them (default), keep the latest events, or cut them into several",
    )
    split: str = choice("time", "time", "leave_one_out", "given", help="how test events are chosen")
    valid_path: Optional[str] = setting(
        None, "split=given: file of the validation split", later=True
    )
    test_path: Optional[str] = setting(None, "split=given: file of the test split", later=True)
    validation: bool = setting(True, "set a validation split aside as well")
    test_days: Optional[float] = number(None, "split=time: length of the test split", above=0)
    straddling: Optional[str] = choice(
        None,
        "whole",
        "truncate",
        help="split=time: sessions across the cut go by their first event, or are cut",
    )


# --- model and training -------------------------------------------------------------------------


class Filled:
    """A section whose nulls are filled by `resolve`: null means that the default applies."""


@dataclass
class Hyperparameters(Filled):
    """What people sweep, under RecBole's names. Zero where the chosen combination has no use."""

    learning_rate: float = number(0.05, "step size of the optimizer", above=0, role="training")
    num_layers: int = number(1, "recurrent layers of a subnet", **LAYERS, role="model")
    hidden_size: int = number(100, "hidden units of a subnet", low=1, role="model")
    embedding_size: int = number(
        0, "width of item (and feature) embeddings; default: hidden_size", low=1, role="model"
    )
    dropout_embedding: float = number(
        0.0, "dropout on embeddings", low=0, below=1, role="model", learning=True
    )
    dropout_hidden: float = number(
        0.0, "dropout on each layer's output", low=0, below=1, role="model", learning=True
    )
    batching: str = choice(
        "session_parallel",
        "session_parallel",
        "sequences",
        role="training",
        help="walk sessions side by side, or read windows of events",
    )
    batch_size: int = number(
        64, "parallel sessions; with batching=sequences: targets", low=1, role="training"
    )
    window: int = number(50, "batching=sequences: events read for a target", low=1, role="training")
    stride: int = number(25, "batching=sequences: targets of a window", low=1, role="training")
    shuffle: bool = setting(
        False,
        "batching=session_parallel: read sessions in a new random order in each epoch, not by time",
        role="training",
        later=True,
    )
    reorder: float = number(
        0.0,
        "in training, each event of a session moves by fewer places than this, at random in each "
        "epoch; for data in which neighbouring events have no order",
        low=0,
        role="training",
        later=True,
    )
    pooling_mode: str = choice(
        "sum", "sum", "mean", "max", help="how the tokens of an item are joined", role="model"
    )
    negatives: str = choice(
        "sampled",
        "sampled",
        "full",
        "uniform_one",
        role="training",
        help="sampled, the whole catalogue, or one uniform negative per example",
    )
    num_negatives: int = number(2048, "additional sampled negatives a step", low=0, role="training")
    sample_alpha: float = number(0.5, "P(sample) ~ support^alpha", low=0, role="training")
    num_epochs: int = number(
        10, "passes in which each subnet learns", **EPOCHS, role="training", grows=True
    )


@dataclass
class ModelConfig:
    """An architecture or baseline; null: as the model has it."""

    name: str = setting("id_only", "architecture or baseline", column=True)
    input: Optional[str] = choice(
        None,
        "one_hot",
        "embedding",
        "shared",
        help="how item ids enter; null: shared, one matrix for input and output",
    )
    feature_input: Optional[str] = choice(
        None,
        "direct",
        "embedding",
        help="features times W, or through an embedding first; null: direct",
    )
    output: str = choice(
        "free",
        "free",
        "features",
        "both",
        help="row of an item that scores it: learned for each item, made from its features (so "
        "that items without a click have scores), or their sum",
    )

    @property
    def reads_features(self) -> bool:
        """Whether the model reads features of items, as input or for its scores."""
        return self.feature_input is not None or self.output != "free"


@dataclass
class SubnetConfig:
    """What one subnet has of its own; null: as all."""

    hidden_size: Optional[int] = number(None, "null: as all", low=1)
    num_layers: Optional[int] = number(None, "null: as all", **LAYERS)
    weight: float = setting(1.0, "of its score; where one GRU reads all, of its part of the input")
    num_epochs: Optional[int] = number(None, "null: as all", **EPOCHS, learning=True)


@dataclass
class ScheduleConfig(Component):
    """How the learning rate goes over the epochs of a run (of a stage, with strategy=residual)."""

    warmup_epochs: float = number(0.0, "epochs in which it rises from zero", low=0)


@dataclass
class EarlyStoppingConfig(Filled):
    """When training stops, and which checkpoint is the best."""

    metric: str = setting("", "of validation; default: recall at the largest cutoff")
    patience: Optional[int] = number(
        None, "epochs without a better one; null: the model's own", low=1, grows=True, networks=True
    )
    keep: str = choice("best", "best", "last_stage", help="residual: of all stages, or the last")


@dataclass
class EvaluationConfig:
    """What is measured, and how."""

    cutoffs: list[int] = setting(
        lambda: [1, 5, 10, 20], "K of Recall@K, MRR@K and NDCG@K", figures=True
    )
    ties: str = choice(
        "conservative",
        "standard",
        "conservative",
        "median",
        help="tied items count as none, all or half of them ahead",
    )
    cold_items: str = choice(
        "drop",
        "drop",
        "keep",
        help="items without training events: left out, or targets and ranked",
    )
    exclude_seen: bool = setting(
        False, "leave the items of the session's history out of the ranking", later=True
    )
    most_popular: Optional[int] = number(None, "rank against only these; null: all items", low=1)
    beyond_accuracy: bool = setting(
        False, "coverage, popularity and novelty of the top-K lists", figures=True, grows=True
    )
    baselines: list[str] = setting(
        lambda: ["pop", "session_pop"], "measured beside the model", figures=True, grows=True
    )


@dataclass
class TrackingConfig:
    """What a run tells while it runs."""

    log_every: int = number(100, "updates between TensorBoard points", low=1)
    tensorboard: bool = setting(True, "write TensorBoard events")
    progress: bool = setting(True, "show progress bars, in a terminal or a notebook")


@dataclass
class PathsConfig:
    """Folders."""

    raw: str = setting("data/raw", "raw files; P_RNN_RAW_DATA sets it")
    prepared: str = setting("data/prepared", "prepared data sets")
