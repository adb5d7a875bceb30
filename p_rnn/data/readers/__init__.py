"""Readers translate raw files into an events frame and an items frame, and nothing else.

Every rule (filters, splits, indexing) lives in `p_rnn.data.prepare`. A reader is a class whose
keyword-only parameters are the settings of `ReaderConfig` that it takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from p_rnn.config import DatasetConfig, PathsConfig, ReaderConfig
from p_rnn.data.readers.atomic import AtomicReader
from p_rnn.data.readers.diginetica import DigineticaReader
from p_rnn.data.readers.globo import GloboReader
from p_rnn.data.readers.movielens import MovieLensReader
from p_rnn.data.readers.retailrocket import RetailRocketReader
from p_rnn.data.readers.sequences import SequencesReader
from p_rnn.data.readers.synthetic import SyntheticReader
from p_rnn.data.readers.table import TableReader
from p_rnn.data.readers.yoochoose import YoochooseReader
from p_rnn.registry import lookup, settings_for


class Reader(Protocol):
    """What `prepare` asks of a reader.

    The constructor is `Reader(raw: Path, source: str, **settings)`: the folder `paths.raw`, and
    `dataset.source` to be quoted when files are missing. It touches no file.

    `version` is raised by whoever changes what a reader makes of the same files and settings, so
    that data prepared by an older one are prepared again.
    """

    version: int

    def sources(self) -> list[Path]:
        """The raw files of the events; their content decides whether to prepare again.

        Raises:
            UserError: a file is missing; the message says where to get it.
        """

    def item_sources(self) -> list[Path]:
        """The raw files of the items frame; empty where there is none."""

    def events(self) -> Iterator[pd.DataFrame]:
        """Chunks in file order: `session`, `item` (int64 or str), `time`, maybe `event_type`.

        `time` is float64 in seconds since 1970 (whole milliseconds are exact in it), never
        missing. Ids are never missing.

        Raises:
            UserError: unreadable content; the message names file and, where known, the line.
        """

    def items(self) -> pd.DataFrame | None:
        """`item` (unique, same type as in the events) and one column per property.

        A value is a number, a string, a list of strings or integers, or a float32 vector of one
        length per column; missing values are NaN or None.

        With a column `time` (s) the properties are dated: an item may have many rows, and of each
        property its last value before the end of training counts.
        """


READERS: dict[str, Any] = {
    "atomic": AtomicReader,
    "diginetica": DigineticaReader,
    "globo": GloboReader,
    "movielens": MovieLensReader,
    "retailrocket": RetailRocketReader,
    "sequences": SequencesReader,
    "synthetic": SyntheticReader,
    "table": TableReader,
    "yoochoose": YoochooseReader,
}


def make_reader(dataset: DatasetConfig, paths: PathsConfig) -> Reader:
    """The reader of a data set, with its settings; refuses settings that it does not take."""
    cls = lookup("dataset.reader", READERS, dataset.reader)
    settings = settings_for("dataset", cls, dataset, of=ReaderConfig, name=dataset.reader)
    reader: Reader = cls(Path(paths.raw), dataset.source, **settings)
    return reader
