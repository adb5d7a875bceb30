"""The typed tree of settings: the only place where a setting and its range are declared.

The same tree serves Hydra (as a schema), Python callers (`train(Config(...))`) and checkpoints (as
plain dicts). Everywhere, null means "not given": the model's own default, or a rule that is off.
`p_rnn.settings.resolve` fills the nulls, and refuses what is impossible or would have no effect.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, Union

from omegaconf import MISSING

# ruff: noqa: UP007, UP045  (OmegaConf reads Optional and Union on every Python that we support)

_PACKAGE = Path(__file__).resolve().parents[1]
# YAML files that settings are composed from: inside an installed package, beside it in a checkout.
CONF = next(p for p in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if p.is_dir())


def number(default: Any, low: float | None = None, high: float | None = None, **more: Any) -> Any:
    """A numeric setting within low <= value <= high; `above` and `below` are the open bounds."""
    return field(default=default, metadata={"low": low, "high": high, **more})


def choice(default: str | None, *options: str, **more: Any) -> Any:
    """A setting that takes one of a few words."""
    return field(default=default, metadata={"options": options, **more})


def later() -> Any:
    """A setting that older versions did not have. Where it is null, prepared data and checkpoints
    of these versions stay valid (`p_rnn.data.prepare.fingerprinted`)."""
    return field(default=None, metadata={"later": True})


# --- data ---------------------------------------------------------------------------------------


@dataclass
class ColumnsConfig:
    """Names of the columns of an event table."""

    # Of the session, or of the visitor whose stream session_gap_s cuts; a list of columns whose
    # values name it together
    session: Any = "session"
    item: str = "item"
    time: Optional[str] = "time"  # null: the order of the lines is the order in time
    event_type: Optional[str] = None
    history: Optional[str] = later()  # a list of the items before `item`: a row is a session


@dataclass
class ItemTableConfig:
    """A table of items: one column of item ids, the others are properties."""

    path: Optional[str] = None  # relative to paths.raw; null: there is no such table
    item: str = "item"
    columns: Optional[list[str]] = None  # null: all others
    list_separator: Optional[str] = None  # splits the values of multi-valued columns
    list_columns: Optional[list[str]] = None  # the multi-valued columns
    # Where items have several rows: refuse rows that disagree, or let the last one count
    on_conflict: Optional[str] = choice(None, "error", "last", later=True)
    # Of text files; null: as those of the events (names: the first line has them)
    separator: Optional[str] = later()
    quoting: Optional[str] = choice(None, "double", "backslash", "none", later=True)
    encoding: Optional[str] = later()
    names: Optional[list[str]] = field(default=None, metadata={"later": True})


@dataclass
class SyntheticConfig:
    """The embedded world (p_rnn/synthetic/world.py)."""

    num_events: int = number(180_000, low=1000, high=1_000_000_000)
    num_items: int = number(10_000, low=100)
    num_intents: int = number(32, low=1, high=1000)
    num_days: int = number(10, low=3, high=100)  # the last one tests, the one before validates
    mean_session_length: float = number(10.0, low=2, high=20)  # events
    seed: int = number(0, low=0)


@dataclass
class ReaderConfig:
    """Settings of the readers; each reader takes some and refuses the others."""

    path: Optional[str] = None  # file, folder or zip of the events, relative to paths.raw
    columns: Optional[ColumnsConfig] = None
    names: Optional[list[str]] = field(
        default=None, metadata={"later": True}
    )  # of the columns of text files without a header
    separator: Optional[str] = None  # null: "," for .csv, a tab for .tsv
    # Whether fields may stand in double quotes, and how a quote is written inside: "" or \\"
    quoting: Optional[str] = choice(None, "double", "backslash", "none", later=True)
    encoding: Optional[str] = later()  # of text files; null: utf-8
    missing_ids: Optional[str] = choice(None, "error", "drop", later=True)
    where: Optional[str] = later()  # keep only these rows, as "rating >= 4"
    time_unit: Optional[str] = choice(None, "s", "ms", "us", "ns", "iso")
    item_table: Optional[ItemTableConfig] = None
    properties: Optional[list[str]] = None  # of items, besides those that are always read
    download: Optional[bool] = None  # fetch the public files when they are missing
    synthetic: Optional[SyntheticConfig] = None


@dataclass
class FeatureConfig:
    """A feature of items: its values, its kind and how they are fitted (p_rnn/data/features/)."""

    kind: Optional[str] = choice(  # null: that of the property's values
        None, "vector", "number", "category", "tags", "text", "hashed"
    )
    # Properties of the item table, or columns of `file`; null: the one of the feature's own name
    columns: Optional[list[str]] = None
    file: Optional[str] = None  # relative to paths.raw; null: the item table
    item: Optional[str] = None  # of `file`: the column of item ids, default "item"
    ids: Optional[str] = None  # the item ids of the rows of a .npy or .safetensors file
    separator: Optional[str] = None  # of the values in a text column; null: blanks
    column_separator: Optional[str] = later()  # of `file`; null: "," for .csv, a tab for .tsv
    quoting: Optional[str] = choice(None, "double", "backslash", "none", later=True)  # of `file`
    encoding: Optional[str] = later()  # of `file`; null: utf-8
    normalize: Optional[bool] = None  # vector: each to length 1
    log: Optional[bool] = None  # number: log(1 + x) before scaling
    ngrams: Optional[int] = number(None, low=1, high=3)  # text: up to so many words; 2
    stop_words: Optional[bool] = None  # text: leave out the common English ones; true
    min_df: Optional[int] = number(None, low=1)  # text, category, tags: items with the token; 1
    max_df: Optional[float] = number(None, above=0, high=1)  # text: share of items with it; 1
    max_tokens: Optional[int] = number(None, low=1)  # text, category, tags: the most frequent
    num_buckets: Optional[int] = number(None, low=2)  # hashed


@dataclass
class DatasetConfig(ReaderConfig):
    """Where events come from, and the rules of `prepare`, in the order in which they act."""

    features: dict[str, FeatureConfig] = field(default_factory=dict)  # {}: one per property

    name: str = "unnamed"
    reader: str = "table"
    source: str = ""  # where a person gets the raw files; printed when they are missing
    duplicates: str = choice("error", "error", "drop", "keep")  # same session, item, time and type
    event_types: Optional[list[str]] = None  # keep only these
    time_range: Optional[list[str]] = (
        None  # [from, to) in UTC; of a session, its first event counts
    )
    session_gap_s: Optional[float] = number(
        None, above=0
    )  # cut a visitor's stream at longer pauses
    drop_repeats: Union[bool, str] = False  # immediate repeats of an item; all: every one
    min_session_length: Optional[int] = number(2, low=1)
    min_item_support: Optional[int] = number(5, low=1)
    max_session_length: Optional[int] = number(None, low=2)
    # Longer ones are dropped (bots), cut down to their latest events, or cut into sessions
    long_sessions: Optional[str] = choice(None, "drop", "truncate", "split", later=True)
    split: str = choice("time", "time", "leave_one_out", "given")
    valid_path: Optional[str] = later()  # split=given: files beside `path`, which trains
    test_path: Optional[str] = later()
    validation: bool = True  # set a validation split aside as well
    test_days: Optional[float] = number(None, above=0)  # split=time only
    straddling: Optional[str] = choice(None, "whole", "truncate")  # split=time only


# --- model and training -------------------------------------------------------------------------


@dataclass
class LossConfig:
    """A loss and its parameters; a parameter that the loss does not take must stay null."""

    name: Optional[str] = None  # null: the model's own
    elu_param: Optional[float] = number(None, low=0)
    bpreg: Optional[float] = number(None, low=0)
    logq: Optional[float] = number(None, low=0)
    output: Optional[str] = choice(None, "linear", "tanh")


@dataclass
class OptimizerConfig:
    """An optimizer and its parameters."""

    name: Optional[str] = None  # null: the model's own
    momentum: Optional[float] = number(None, low=0, below=1)
    weight_decay: Optional[float] = number(None, low=0)  # of the rows that an update touches
    beta1: Optional[float] = number(None, low=0, below=1)
    beta2: Optional[float] = number(None, low=0, below=1)
    eps: Optional[float] = number(None, above=0)


@dataclass
class Hyperparameters:
    """What people sweep, under RecBole's names; null = the model's own default."""

    learning_rate: Optional[float] = number(None, above=0)
    num_layers: Optional[int] = number(None, low=1)
    hidden_size: Optional[int] = number(None, low=1)
    embedding_size: Optional[int] = number(None, low=1)  # null: hidden_size
    dropout_prob: Optional[float] = number(None, low=0, below=1)  # sets the two below
    dropout_embedding: Optional[float] = number(None, low=0, below=1)
    dropout_hidden: Optional[float] = number(None, low=0, below=1)
    batching: Optional[str] = choice(None, "session_parallel", "sequences")
    batch_size: Optional[int] = number(None, low=1)  # parallel sessions; of sequences: targets
    window: Optional[int] = number(None, low=1)  # batching=sequences: events read for a target
    stride: Optional[int] = number(None, low=1)  # batching=sequences: targets of a window
    # Over the tokens of an item; filled in where it is used, as only the data tell if it matters
    pooling_mode: Optional[str] = choice(None, "sum", "mean", "max")
    negatives: Optional[str] = choice(None, "sampled", "full", "uniform_one")
    num_negatives: Optional[int] = number(None, low=0)  # additional samples a step
    sample_alpha: Optional[float] = number(None, low=0)  # P(sample) ~ support^alpha
    num_epochs: Optional[int] = number(None, low=1)


@dataclass
class BaselineConfig:
    """Parameters of models that count; those that a model does not take must stay null."""

    neighbours: Optional[int] = number(None, low=1)  # items, or sessions of v_sknn
    shrinkage: Optional[float] = number(None, low=0)  # sessions added to every item's
    sample_size: Optional[int] = number(None, low=1)  # latest sessions that are compared
    idf: Optional[float] = number(None, low=0)  # power of idf in the scores; 0 = without
    repeats: Optional[bool] = None  # whether items of the session itself are recommended
    half_life_days: Optional[float] = number(None, above=0)  # of an event's weight
    steps: Optional[int] = number(None, low=1)  # events after an item that count as followers
    similar_items: Optional[int] = number(None, low=1)  # by their features
    backoff: Optional[float] = number(None, low=0)  # events that the features stand for


@dataclass
class EarlyStoppingConfig:
    # Of validation; it chooses the best checkpoint. null: recall at the largest cutoff
    metric: Optional[str] = None
    patience: Optional[int] = number(None, low=1)  # epochs without a better one; null = never stop


@dataclass
class InputConfig:
    """How items enter the networks; null: the architecture does not read them so."""

    input: Optional[str] = choice(None, "one_hot", "embedding", "shared")  # ids
    feature_input: Optional[str] = choice(None, "direct", "embedding")  # features


@dataclass
class ModelConfig(InputConfig):
    """An architecture and its own defaults."""

    name: str = "id_only"
    # Networks with GRUs; factors of items alone; or counts, from which nothing is trained
    family: str = choice("recurrent", "recurrent", "factors", "counts")
    baseline: BaselineConfig = field(default_factory=BaselineConfig)
    hyperparameters: Hyperparameters = field(default_factory=Hyperparameters)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)


@dataclass
class SubnetConfig:
    """What one subnet has of its own; null = as all."""

    hidden_size: Optional[int] = number(None, low=1)
    num_layers: Optional[int] = number(None, low=1)
    # Of its score; where one GRU reads everything, of its part of the input
    weight: float = 1.0
    num_epochs: Optional[int] = number(None, low=1)


@dataclass
class CellConfig:
    """A recurrent cell; a setting that it does not read must stay null."""

    name: str = "gru"
    # gru: after = torch.nn.GRUCell (null); before = the reset gate acts on h ahead of U_n
    reset: Optional[str] = choice(None, "after", "before")


@dataclass
class ScheduleConfig:
    """How the learning rate goes over the epochs of a run (of a stage, with strategy=residual)."""

    name: str = "constant"
    warmup_epochs: float = number(0.0, low=0)  # in which it rises from zero


@dataclass
class StrategyConfig:
    """Which subnet learns when."""

    name: str = "simultaneous"


@dataclass
class EvaluationConfig:
    cutoffs: list[int] = field(default_factory=lambda: [1, 5, 10, 20])
    ties: str = choice("conservative", "standard", "conservative", "median")
    cold_items: str = choice("drop", "drop", "keep")
    most_popular: Optional[int] = number(None, low=1)  # rank against only these; null = all items
    baselines: list[str] = field(default_factory=lambda: ["pop", "session_pop"])


@dataclass
class TrackingConfig:
    log_every: int = number(100, low=1)  # updates between TensorBoard points and checks for NaN
    tensorboard: bool = True
    progress: bool = True  # progress bars


@dataclass
class PathsConfig:
    raw: str = "data/raw"
    prepared: str = "data/prepared"


@dataclass
class Config(Hyperparameters):
    """Everything that `p_rnn.runs.experiment.train` depends on."""

    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    selected_features: Optional[list[str]] = None  # null: all that the data set has
    subnets: dict[str, SubnetConfig] = field(default_factory=dict)  # by name: id, or a feature
    strategy: StrategyConfig = field(default_factory=StrategyConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    loss_type: Optional[str] = choice(None, "CE", "BPR")  # RecBole's word for loss and negatives
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    clip_norm: Optional[float] = number(None, above=0)  # of all gradients together, at most
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    # Decay of an exponential moving average of the weights, which is what is evaluated and kept
    ema: Optional[float] = number(None, above=0, below=1)
    cell: CellConfig = field(default_factory=CellConfig)
    baseline: BaselineConfig = field(default_factory=BaselineConfig)
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)
    train_on_validation: bool = False  # test a model trained on both, for the best number of epochs
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)
    seed: int = number(0, low=0)
    device: str = "auto"
    num_threads: Optional[int] = number(None, low=1)  # of the CPU; null = PyTorch's choice
    # Of matrix products on a GPU: high = TF32, medium = bfloat16 where the library has it
    matmul_precision: str = choice("highest", "highest", "high", "medium")
    # The training step. never: the plain one; always: C++ on a CPU, torch.compile on a GPU;
    # products: C++, but the products of scores by PyTorch; graph: a CUDA graph; auto: the quickest
    compile: str = choice("auto", "auto", "always", "products", "graph", "never")
    plugins: Optional[list[str]] = None  # modules that register models, cells, losses, ... of yours
    resume: Optional[str] = None  # a last.pt to go on from
    sweep_name: Optional[str] = None  # folder of a multirun; null = the time

    def subnet(self, name: str) -> SubnetConfig:
        """What a subnet has of its own."""
        return self.subnets.get(name, SubnetConfig())


# --- the other scripts --------------------------------------------------------------------------


@dataclass
class PrepareConfig:
    """scripts/prepare.py"""

    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)


@dataclass
class EvaluationOverrides:
    """What scripts/evaluate.py may measure differently; null = as in training."""

    cutoffs: Optional[list[int]] = None
    ties: Optional[str] = choice(None, "standard", "conservative", "median")
    cold_items: Optional[str] = choice(None, "drop", "keep")
    most_popular: Optional[int] = number(None, low=0)  # 0 = all items
    baselines: Optional[list[str]] = None


@dataclass
class EvaluateConfig:
    """scripts/evaluate.py"""

    checkpoint: str = MISSING
    split: str = choice("test", "valid", "test")
    events: Optional[str] = None  # other events in the same format, relative to paths.raw
    evaluation: EvaluationOverrides = field(default_factory=EvaluationOverrides)
    device: str = "auto"
    num_threads: Optional[int] = number(None, low=1)
    raw: Optional[str] = None  # paths.raw and paths.prepared, where they have moved since training
    prepared: Optional[str] = None
