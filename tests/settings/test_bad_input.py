"""Wrong things that users really put in: one clear line each, and nothing half-written."""

from __future__ import annotations

import errno
import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from p_rnn.runs.experiment import train
from p_rnn.settings.config import Config
from p_rnn.settings.errors import UserError
from tests.conftest import random_log

Make = Callable[[Path, pd.DataFrame], None]


def log_with(**columns: object) -> Make:
    def make(raw: Path, log: pd.DataFrame) -> None:
        log.assign(**columns).to_csv(raw / "bad.csv", index=False)

    return make


def non_numeric_time(raw: Path, log: pd.DataFrame) -> None:
    log = log.astype({"time": object})
    log.loc[6, "time"] = "yesterday"
    log.to_csv(raw / "bad.csv", index=False)


def truncated_gz(raw: Path, log: pd.DataFrame) -> None:
    whole = gzip.compress(log.to_csv(index=False).encode())
    (raw / "bad.csv.gz").write_bytes(whole[: len(whole) // 2])


def truncated_zip(raw: Path, log: pd.DataFrame) -> None:
    with zipfile.ZipFile(raw / "bad.zip", "w") as file:
        file.writestr("part.csv", log.to_csv(index=False))
    whole = (raw / "bad.zip").read_bytes()
    (raw / "bad.zip").write_bytes(whole[: len(whole) // 2])


def empty_file(raw: Path, log: pd.DataFrame) -> None:
    (raw / "bad.csv").write_text("")


def header_only(raw: Path, log: pd.DataFrame) -> None:
    log[:0].to_csv(raw / "bad.csv", index=False)


def twice(raw: Path, log: pd.DataFrame) -> None:
    pd.concat([log, log[:3]]).to_csv(raw / "bad.csv", index=False)


def nothing(raw: Path, log: pd.DataFrame) -> None:
    pass


def rename_item(raw: Path, log: pd.DataFrame) -> None:
    log.rename(columns={"item": "itemid"}).to_csv(raw / "bad.csv", index=False)


def sheet(raw: Path, log: pd.DataFrame) -> None:
    (raw / "bad.xlsx").write_bytes(b"PK")


CASES: list[tuple[str, Make, list[str], list[str]]] = [
    ("missing", nothing, [], ["bad.csv is missing", "your own files", "paths.raw"]),
    ("columns", rename_item, [], ["bad.csv", "'item'", "itemid"]),
    ("times", non_numeric_time, [], ["bad.csv", "line 8", "yesterday"]),
    ("empty", empty_file, [], ["bad.csv", "empty"]),
    ("header", header_only, [], ["bad.csv", "contains no events"]),
    ("gz", truncated_gz, ["dataset.path=bad.csv.gz"], ["bad.csv.gz", "truncated"]),
    ("zip", truncated_zip, ["dataset.path=bad.zip"], ["bad.zip"]),
    ("duplicates", twice, [], ["3 events are duplicates", "dataset.duplicates=drop"]),
    ("length1", log_with(session=range(1284)), [], ["min_session_length", "1284 sessions"]),
    ("filtered", log_with(), ["dataset.min_item_support=10000"], ["min_item_support"]),
    ("one item", log_with(item=7), ["dataset.duplicates=keep"], ["only one item"]),
    ("slots", log_with(), ["batch_size=5000"], ["batch_size=5000", "at most"]),
    (
        "days",
        log_with(),
        ["dataset.test_days=99"],
        ["train split", "dataset.test_days=99.0 is longer than the log"],
    ),
    ("both", log_with(), ["dataset.test_days=6"], ["test_days=6.0, for test and validation each"]),
    ("sheet", sheet, ["dataset.path=bad.xlsx"], ["bad.xlsx is not a text file: export it as CSV"]),
    ("types", log_with(), ["dataset.event_types=[view]"], ["columns.event_type"]),
    ("range", log_with(), ["dataset.time_range=[soon,later]"], ["dataset.time_range"]),
]


@pytest.mark.parametrize(("name", "make", "overrides", "said"), CASES, ids=[c[0] for c in CASES])
def test_bad_input_is_one_line(
    name: str,
    make: Make,
    overrides: list[str],
    said: list[str],
    tiny: Callable[..., Config],
    tmp_path: Path,
) -> None:
    log = random_log(seed=1)
    assert len(log) == 1284
    make(tmp_path / "raw", log)
    config = tiny("dataset.path=bad.csv", "dataset.source='your own files'", *overrides)
    with pytest.raises(UserError) as caught:
        train(config, tmp_path / "run")
    message = str(caught.value)
    assert "\n" not in message
    for text in said:
        assert text in message
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert not list(tmp_path.glob("prepared/.*"))


def test_full_disk_leaves_nothing(
    tiny: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = np.save, []

    def save(path: Path, array: np.ndarray) -> None:
        calls.append(path)
        if len(calls) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, array)

    monkeypatch.setattr(np, "save", save)
    with pytest.raises(UserError, match=r"the disk is full: .*paths\.prepared"):
        train(tiny(), tmp_path / "run")
    assert not list((tmp_path / "prepared").iterdir())


@pytest.mark.parametrize("damage", ["foreign", "array", "manifest"])
def test_damaged_prepared_folder_is_named(
    damage: str, tiny: Callable[..., Config], tmp_path: Path
) -> None:
    train(tiny(), tmp_path / "run")
    (folder,) = (tmp_path / "prepared").iterdir()
    if damage == "foreign":
        (folder / "manifest.json").write_text('{"format": "something else"}')
    elif damage == "array":
        (folder / "train" / "items.npy").write_bytes(b"no array")
    else:
        (folder / "manifest.json").unlink()
    with pytest.raises(UserError, match=f"{folder.name}.*delete") as caught:
        train(tiny(), tmp_path / "again")
    assert "\n" not in str(caught.value)
