"""Prepared folders: what is said of one that cannot be read, and of those without checksums."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from p_rnn.data import checksums
from p_rnn.data.features import prepare_features
from p_rnn.data.item_table import open_item_table
from p_rnn.data.prepare import prepare
from p_rnn.data.readers.options import ColumnsConfig, ItemTableConfig
from p_rnn.data.verify import verified
from p_rnn.settings.errors import UserError
from p_rnn.settings.sections import DatasetConfig, PathsConfig
from tests.conftest import random_log
from tests.damage import ARRAY
from tests.data.older import without_checksums

RULES = DatasetConfig.of(
    name="shop",
    path="clicks.csv",
    columns=ColumnsConfig(),
    item_table=ItemTableConfig(path="items.csv"),
    test_days=2.0,
    min_item_support=1,
)


@pytest.fixture
def paths(tmp_path: Path) -> PathsConfig:
    raw = tmp_path / "raw"
    raw.mkdir()
    random_log(seed=3).to_csv(raw / "clicks.csv", index=False)
    items = pd.DataFrame({"item": range(30), "price": np.arange(30) / 2})
    items["colour"] = [f"c{k % 4}" for k in range(30)]
    items.to_csv(raw / "items.csv", index=False)
    return PathsConfig(str(raw), str(tmp_path / "prepared"))


def fresh(paths: PathsConfig) -> Any:
    """Opened as by a new process."""
    checksums._seen.clear()
    return prepare(RULES, paths)


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOMEM, errno.EMFILE])
def test_what_the_system_refuses_is_not_called_damaged(
    paths: PathsConfig, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    prepare(RULES, paths)

    def load(path: Path, *_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(np, "load", load)
    with pytest.raises(UserError, match=rf"\.npy cannot be read \({os.strerror(number)}\)$"):
        fresh(paths)


def test_a_folder_is_read_once_in_a_process(
    paths: PathsConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(RULES, paths)
    fresh(paths)
    monkeypatch.setattr(checksums, "crc_of", None)
    prepare(RULES, paths)


HARMED = {
    "items": ("huge", "negative", "shorter", "other type", "two dimensions", "objects"),
    "offsets": ("huge", "negative", "reversed", "shorter", "longer", "swapped values"),
    "times": ("shorter", "longer", "other type"),
}


@pytest.mark.parametrize("array", HARMED)
def test_bounds_of_a_folder_without_checksums(paths: PathsConfig, array: str) -> None:
    folder = prepare(RULES, paths).folder
    without_checksums(folder)
    fresh(paths)
    path = folder / "train" / f"{array}.npy"
    before = path.read_bytes()
    for harm in HARMED[array]:
        ARRAY[harm](path)
        with pytest.raises(UserError, match=f"{folder} is damaged"):
            fresh(paths)
        path.write_bytes(before)


def test_counts_of_a_folder_without_checksums(paths: PathsConfig) -> None:
    folder = prepare(RULES, paths).folder
    without_checksums(folder)
    text = (folder / "manifest.json").read_text()
    for key in ("num_items", "num_train_items", "num_seen_items", "fingerprint"):
        manifest = json.loads(text)
        manifest[key] = manifest[key] + (1 if isinstance(manifest[key], int) else "0")
        (folder / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(UserError, match=f"{folder} is damaged"):
            fresh(paths)


def test_large_files_are_compared_on_request(
    paths: PathsConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checksums, "LARGE_BYTES", 100)
    dataset = prepare(RULES, paths)
    prepare_features(RULES, paths, dataset, None)
    assert "files (0." in verified(dataset)
    price = next(dataset.folder.glob("items-*")) / "price.npy"
    ARRAY["swapped values"](price)
    checksums._seen.clear()
    open_item_table(price.parent)
    with pytest.raises(UserError, match=r"price\.npy is not as it was written"):
        verified(dataset)
    without_checksums(price.parent)
    assert "1 folders of older versions have no checksums" in verified(dataset)
