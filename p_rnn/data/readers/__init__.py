"""Readers translate raw files into an events frame and an items frame, and do nothing else.

Filters, splits and indexing are the job of `p_rnn.data.prepare`. A reader is a class whose
keyword-only parameters are the settings that it takes (`p_rnn.settings.components`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from p_rnn.data.readers.atomic import AtomicReader
from p_rnn.data.readers.base import Reader
from p_rnn.data.readers.diginetica import DigineticaReader
from p_rnn.data.readers.frame import FrameReader
from p_rnn.data.readers.globo import GloboReader
from p_rnn.data.readers.movielens import MovieLensReader
from p_rnn.data.readers.retailrocket import RetailRocketReader
from p_rnn.data.readers.sequences import SequencesReader
from p_rnn.data.readers.synthetic import SyntheticReader
from p_rnn.data.readers.table import TableReader
from p_rnn.data.readers.yoochoose import YoochooseReader
from p_rnn.settings.dataset_rules import reader_settings
from p_rnn.settings.sections import DatasetConfig, PathsConfig

READERS: dict[str, Any] = {
    "atomic": AtomicReader,
    "diginetica": DigineticaReader,
    "frame": FrameReader,
    "globo": GloboReader,
    "movielens": MovieLensReader,
    "retailrocket": RetailRocketReader,
    "sequences": SequencesReader,
    "synthetic": SyntheticReader,
    "table": TableReader,
    "yoochoose": YoochooseReader,
}


def make_reader(dataset: DatasetConfig, paths: PathsConfig) -> Reader:
    """The reader of a data set with its settings; refuses settings without effect on it."""
    cls, settings = reader_settings(dataset)
    reader: Reader = cls(Path(paths.raw), dataset.source, **settings)
    return reader


def at_path(dataset: DatasetConfig, path: str) -> DatasetConfig:
    """The same data set with its events at another path."""
    return dataset.but(path=path)


def make_readers(dataset: DatasetConfig, paths: PathsConfig) -> dict[str, Reader]:
    """The reader of each split; only "train" if one log is split by a rule."""
    readers = {"train": make_reader(dataset, paths)}
    for split, path in (("valid", dataset.valid_path), ("test", dataset.test_path)):
        if dataset.split == "given" and path is not None:
            readers[split] = make_reader(at_path(dataset, path), paths)
    return readers
