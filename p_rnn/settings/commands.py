"""Settings of the commands other than `train`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from omegaconf import MISSING

from p_rnn.settings.declare import choice, number, setting
from p_rnn.settings.sections import LISTED, THREADS, DatasetConfig, PathsConfig

# ruff: noqa: UP045  (OmegaConf reads Optional and Union on every Python that we support)


@dataclass
class PrepareConfig:
    """Settings of `prepare`."""

    dataset: DatasetConfig = setting(DatasetConfig, "data set", role="data")
    plugins: Optional[list[str]] = setting(None, "modules that register readers or kinds of yours")
    paths: PathsConfig = setting(PathsConfig, "folders", role="machine")
    verify: bool = setting(False, "compare every prepared file with its checksum")


@dataclass
class EvaluationOverrides:
    """What `evaluate` may measure differently; null: as in training."""

    cutoffs: Optional[list[int]] = setting(None, "K of Recall@K and so on; null: as in training")
    ties: Optional[str] = choice(None, "standard", "conservative", "median", help="tied items")
    cold_items: Optional[str] = choice(
        None, "drop", "keep", help="items without training events: left out, or targets and ranked"
    )
    exclude_seen: Optional[bool] = setting(None, "leave the items of the history out")
    most_popular: Optional[int] = number(None, "rank against only these; 0: all items", low=0)
    baselines: Optional[list[str]] = setting(None, "measured beside the model")
    beyond_accuracy: Optional[bool] = setting(None, "coverage, popularity and novelty of the lists")


@dataclass
class EvaluateConfig:
    """Settings of `evaluate`."""

    checkpoint: str = setting(MISSING, "a best.pt, final.pt or last.pt, or the folder of a run")
    split: str = choice("test", "valid", "test", help="what is measured")
    events: Optional[str] = setting(None, "other events in the same format, relative to paths.raw")
    evaluation: EvaluationOverrides = setting(EvaluationOverrides, "null: as in training")
    device: str = setting("auto", "auto, cpu or cuda")
    num_threads: Optional[int] = number(None, "of the CPU; null: PyTorch's choice", **THREADS)
    raw: Optional[str] = setting(None, "paths.raw, where the files have moved since training")
    prepared: Optional[str] = setting(None, "paths.prepared, where the data have moved since")


@dataclass
class SessionColumns:
    """Names of the columns of a file of sessions; null: as in the data set."""

    session: Any = setting(None, "session id; a list: columns that identify it together")
    item: Optional[str] = setting(None, "item id")
    time: Optional[str] = setting(None, "time of the event; without such a column: file order")


@dataclass
class RecommendConfig:
    """Settings of `recommend`."""

    checkpoint: str = setting(MISSING, "a best.pt or final.pt, or the folder of a run")
    session: Optional[list[str]] = setting(None, "item ids, oldest first: session=[a,b,c]")
    sessions: Optional[str] = setting(None, "file of events; recommends for each session in it")
    interactive: bool = setting(False, "click through a session in the terminal")
    k: int = number(20, "how many items", **LISTED)
    exclude_seen: bool = setting(False, "leave the items of the session out")
    candidates: Optional[list[str]] = setting(None, "item ids to choose from; null: all")
    output: Optional[str] = setting(None, "with sessions: a .csv, .tsv, .jsonl or .parquet file")
    columns: SessionColumns = setting(SessionColumns, "of sessions; null: as in the data set")
    time_unit: Optional[str] = choice(
        None, "s", "ms", "us", "ns", "iso", help="of sessions; null: as in the data set"
    )
    separator: Optional[str] = setting(None, "of sessions; null: as in the data set")
    quoting: Optional[str] = choice(
        None, "double", "backslash", "none", help="of sessions; null: as in the data set"
    )
    encoding: Optional[str] = setting(None, "of sessions; null: as in the data set")
    names: Optional[list[str]] = setting(
        None, "columns of sessions, if its first line does not have them"
    )
    missing_ids: Optional[str] = choice(
        None, "error", "drop", help="rows without an id; null: as in the data set"
    )
    device: str = setting("auto", "auto, cpu or cuda")
    num_threads: Optional[int] = number(None, "of the CPU; null: PyTorch's choice", **THREADS)
    prepared: Optional[str] = setting(None, "paths.prepared, where the data have moved since")


@dataclass
class ExportConfig:
    """Settings of `export`."""

    checkpoint: str = setting(MISSING, "a best.pt or final.pt, or the folder of a run")
    output: str = setting(MISSING, "folder")
    formats: list[str] = setting(
        lambda: ["vectors"], "vectors, onnx, projector (of TensorBoard), or several"
    )
    max_items: Optional[int] = number(
        None, "projector: only the most popular items; null: 20000", low=1
    )
    overwrite: bool = setting(False, "write into a folder that has other files; they stay")
    num_threads: Optional[int] = number(None, "of the CPU; null: PyTorch's choice", **THREADS)
    prepared: Optional[str] = setting(None, "paths.prepared, where the data have moved since")
