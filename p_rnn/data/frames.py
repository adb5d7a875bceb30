"""Data sets in Python: from pandas frames, or by the name of one in conf/dataset/."""

from __future__ import annotations

import dataclasses
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from numpy.typing import NDArray
from omegaconf.errors import OmegaConfBaseException
from pandas.api.types import is_numeric_dtype

from p_rnn.data import dataset as prepared_data
from p_rnn.data.features.sources import properties
from p_rnn.data.frame_columns import Features, event_frame, feature_settings, item_frame
from p_rnn.data.prepare import describe, item_table_folder, prepare
from p_rnn.data.readers.frame import content_hash, held
from p_rnn.settings.errors import UserError
from p_rnn.settings.hydra_glue import load_config
from p_rnn.settings.messages import one_line
from p_rnn.settings.registry import suggest
from p_rnn.settings.sections import DatasetConfig, PathsConfig
from p_rnn.settings.tree import read, simple

# What from_frame takes by arguments of its own, or has no use for.
_OWN = ("name", "reader", "source", "features", "valid_path", "test_path", "parameters")
_RULES = [f.name for f in dataclasses.fields(DatasetConfig) if f.name not in _OWN]
_RULES += ["time_unit", "missing_ids"]


class Dataset:
    """A prepared data set: events in splits, and features of its items.

    Made by `Dataset.from_frame` or `Dataset.from_name`.

    Attributes:
        config: the settings of the section `dataset`.
        paths: where raw files and prepared arrays lie.
        prepared: the opened arrays (`p_rnn.data.dataset.Dataset`).
    """

    def __init__(self, config: DatasetConfig, paths: PathsConfig) -> None:
        self.config, self.paths = config, paths
        self.prepared: prepared_data.Dataset = prepare(config, paths)

    @classmethod
    def from_frame(
        cls,
        events: pd.DataFrame,
        items: pd.DataFrame | None = None,
        *,
        session: str | list[str] = "session",
        item: str = "item",
        time: str | None = "time",
        event_type: str | None = None,
        features: Features = None,
        name: str = "frame",
        folder: Path | str | None = None,
        **rules: Any,
    ) -> Dataset:
        """A data set from pandas frames, which stay as they are.

        Args:
            events: one row per event, in any order; equal times keep the order of the rows.
            items: one row per item, with the column `item` of ids and one column per feature:
                numbers, text, dates, lists of tokens, or vectors (lists or arrays of floats).
            session: column of session or visitor ids; a list: columns that name it together.
            item: column of item ids: integers or text.
            time: column of times: numbers in seconds since 1970 (or in `time_unit`), datetimes, or
                ISO dates as text; without an offset they are in UTC. None: rows are in time order,
                which needs split="leave_one_out".
            event_type: column of event types, for the rule `event_types`.
            features: None: all columns of `items`; a list of columns; or a dict from the name of
                a feature to its kind, or to a dict of its settings.
            name: names the folder of prepared arrays, and that of runs.
            folder: where to put prepared arrays. None: a temporary folder, which is removed with
                this object or at the end of the process.
            rules: settings of the section `dataset` (docs/settings.md), such as min_item_support
                (5), min_session_length (2), test_days (1), split ("time"), session_gap_s,
                drop_repeats, duplicates, validation, missing_ids.

        Raises:
            UserError: a column that is missing, a value that cannot be read, an unknown rule, or
                rules that leave nothing.

        >>> import pandas as pd
        >>> from p_rnn import Dataset
        >>> day = pd.Timedelta("1D")
        >>> clicks = pd.DataFrame({"visit": [1, 1, 2, 2, 3, 3], "sku": ["a", "b"] * 3})
        >>> clicks["at"] = pd.Timestamp("2024-03-01 10:00") + day * clicks["visit"]
        >>> clicks["at"] += pd.to_timedelta(clicks.index, "min")
        >>> products = pd.DataFrame({"sku": ["a", "b"], "tags": [["red", "shoes"], ["socks"]]})
        >>> data = Dataset.from_frame(
        ...     clicks, products, session="visit", item="sku", time="at", min_item_support=1
        ... )
        >>> data
        Dataset 'frame': 6 events, 3 sessions, 2 items; train 1, valid 1, test 1; features: tags
        >>> print(data.describe())
        rule                events  sessions  items  from        to
        read                     6         3      2  2024-03-02  2024-03-04
        duplicates               0         0      0
        min_session_length       0         0      0
        left                     6         3      2  2024-03-02  2024-03-04
        train                    2         1      2  2024-03-02  2024-03-02
        valid                    2         1         2024-03-03  2024-03-03
        test                     2         1         2024-03-04  2024-03-04
        """
        with _in_words_of_python():
            _check_rules(rules)
            declared = feature_settings(features, items)
            columns = {"session": session, "item": item, "time": time, "event_type": event_type}
            own = event_frame(events, columns)
            wares = None if items is None else item_frame(items, item, features, declared)
            frames = [frame for frame in (own, wares) if frame is not None]
            hashes = [content_hash(frame) for frame in frames]
            with _place(folder) as place:
                content = {
                    "name": name,
                    "reader": "frame",
                    "source": str(place),
                    "events": hashes[0],
                    "items": hashes[1] if wares is not None else None,
                    "columns": columns,
                    "time_unit": "s" if time is None or is_numeric_dtype(own[time]) else "iso",
                    "test_days": 1.0 if rules.get("split", "time") == "time" else None,
                    **simple(rules),
                    "features": declared,
                }
                with held(dict(zip(hashes, frames, strict=True))):
                    made = cls(_read(content), PathsConfig(str(Path.cwd()), str(place)))
                if folder is None:
                    weakref.finalize(made, shutil.rmtree, place, ignore_errors=True)
        return made

    @classmethod
    def from_name(cls, name: str, *overrides: str, **settings: Any) -> Dataset:
        """A data set of conf/dataset/, prepared from its raw files.

        Args:
            overrides: as on the command line: "paths.raw=/data", "dataset.synthetic.seed=2".
            settings: of the section `dataset`, nested ones as dicts.

        Raises:
            UserError: an unknown name or setting, or raw files that are missing.

        >>> from p_rnn import Dataset
        >>> world = {"num_events": 3000, "num_items": 200}
        >>> data = Dataset.from_name("synthetic", "paths.prepared=prepared", synthetic=world)
        >>> data.splits["test"]["sessions"] > 10
        True
        """
        config = load_config(f"dataset={name}", *overrides, **{"dataset": settings})
        return cls(config.dataset, config.paths)

    @property
    def name(self) -> str:
        return self.prepared.name

    @property
    def num_items(self) -> int:
        """Items in any split."""
        return self.prepared.num_items

    @property
    def num_events(self) -> int:
        """Events that the rules have left."""
        return int(self._left["events"])

    @property
    def splits(self) -> dict[str, dict[str, int]]:
        """{"train": {"events": ..., "sessions": ...}, ...}."""
        return dict(self.prepared.manifest["splits"])

    @property
    def features(self) -> list[str]:
        """The names of the features that a model may read."""
        table = item_table_folder(self.config, self.paths, self.prepared)
        return list(self.config.features or properties(table))

    @property
    def item_ids(self) -> NDArray[Any]:
        """[num_items]: the raw id of each item index."""
        return self.prepared.item_ids

    def describe(self) -> str:
        """What each rule dropped, and the sizes and dates of the splits, as a table."""
        return describe(self.prepared.manifest)

    @property
    def _left(self) -> dict[str, Any]:
        return next(row for row in self.prepared.manifest["rules"] if row["rule"] == "left")

    def __repr__(self) -> str:
        counts = ", ".join(f"{self._left[key]:,} {key}" for key in ("events", "sessions", "items"))
        splits = ", ".join(f"{split} {n['sessions']:,}" for split, n in self.splits.items())
        features = f"; features: {', '.join(self.features)}" if self.features else ""
        return f"Dataset '{self.name}': {counts}; {splits}{features}"


@contextmanager
def _place(folder: Path | str | None) -> Iterator[Path]:
    """The folder of prepared arrays; a new temporary one goes again if something is wrong."""
    place = Path(folder or tempfile.mkdtemp(prefix="p_rnn-")).absolute()
    try:
        yield place
    except BaseException:
        if folder is None:
            shutil.rmtree(place, ignore_errors=True)
        raise


def _check_rules(rules: Mapping[str, Any]) -> None:
    for name in rules:
        if name not in _RULES:
            raise UserError(f"from_frame has no argument '{name}'{suggest(name, _RULES)}")
    if rules.get("split") == "given":
        raise UserError("split='given' is for files; in frames choose split='time'")


def _read(content: dict[str, Any]) -> DatasetConfig:
    try:
        config = read(content, DatasetConfig)
    except OmegaConfBaseException as error:
        raise UserError(one_line(error, DatasetConfig)) from None
    assert isinstance(config, DatasetConfig)
    return config


@contextmanager
def _in_words_of_python() -> Iterator[None]:
    """Messages name settings as arguments of `from_frame`."""
    try:
        yield
    except UserError as error:
        text = str(error).replace("dataset.item_table.columns", "features")
        for of_files in (
            "; check dataset.item_table.item",
            ", or set dataset.item_table.on_conflict=last",
        ):
            text = text.replace(of_files, "")
        text = re.sub(r"\bdataset\.(columns\.)?(?=\w)", "", text).replace("=null", "=None")
        raise type(error)(text) from None
