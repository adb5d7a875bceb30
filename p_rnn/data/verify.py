"""Reads all that was prepared, and compares it with its checksums."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from p_rnn.data.checksums import FILES, read_manifest, undamaged
from p_rnn.data.dataset import Dataset, open_dataset
from p_rnn.data.features.folders import open_feature
from p_rnn.data.item_table import open_item_table


def verified(dataset: Dataset) -> str:
    """A line about what was compared: the events, item tables and features of a data set.

    Raises:
        UserError: the first folder that is damaged.
    """
    began, files, size, older = time.perf_counter(), 0, 0, 0
    open_dataset(dataset.folder, whole=True)
    for folder in sorted(dataset.folder.glob("items-*")):
        open_item_table(folder, whole=True)
    for folder in _features(dataset):
        name, _, fingerprint = folder.name.rpartition("-")
        open_feature(folder, name, fingerprint, dataset, whole=True)
    for folder in _folders(dataset):
        with undamaged(folder, f"delete {folder}"):
            content = read_manifest(folder).get(FILES)
        older += content is None
        files += len(content or ())
        size += sum(count for count, _ in (content or {}).values())
    line = f"{files} files ({size / 1e6:,.1f} MB) are as they were written"
    if older:
        line += f"; {older} folders of older versions have no checksums"
    return f"{line} ({time.perf_counter() - began:.1f} s)"


def _folders(dataset: Dataset) -> Iterator[Path]:
    yield dataset.folder
    yield from dataset.folder.glob("items-*")
    yield from _features(dataset)


def _features(dataset: Dataset) -> list[Path]:
    """The folders of features, without those that another process is just writing."""
    return sorted(dataset.folder.glob("features/[!.]*-*"))
