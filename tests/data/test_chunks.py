"""Reading in chunks changes nothing: the same arrays, and errors in the right rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from p_rnn import ragged
from p_rnn.data import codes
from p_rnn.data.prepare import prepare
from p_rnn.data.readers import tabular
from p_rnn.data.readers.options import ColumnsConfig
from p_rnn.settings.errors import UserError
from p_rnn.settings.sections import DatasetConfig, PathsConfig
from tests.conftest import random_log

RULES = DatasetConfig.of(
    name="log", path="log.csv", columns=ColumnsConfig(), min_item_support=2, test_days=2.0
)


def arrays(raw: Path, prepared: Path, **rules: object) -> dict[str, bytes]:
    config = RULES.but(**rules)
    folder = prepare(config, PathsConfig(str(raw), str(prepared))).folder
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def log(kind: str, num_sessions: int = 150) -> pd.DataFrame:
    frame = random_log(seed=5, num_sessions=num_sessions)
    frame["kind"] = np.where(frame["item"] % 3, "view", "buy")
    if kind == "text":
        frame["session"] = "visit-" + (frame["session"] + 100).astype(str) + "é" * 3
    elif kind == "one late text":
        frame["item"] = frame["item"].astype(str)
        frame.loc[len(frame) - 2, "item"] = "007"
    elif kind == "unsorted":
        frame = frame.sample(frac=1, random_state=0)
    return frame


@pytest.mark.parametrize("kind", ["integers", "text", "one late text", "unsorted"])
@pytest.mark.parametrize("rows", [1, 7, 100])
def test_chunks_give_the_same_arrays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, rows: int
) -> None:
    frame = log(kind, num_sessions=40 if rows == 1 else 150)  # chunks of a row take long
    frame.to_csv(tmp_path / "log.csv", index=False)
    columns = ColumnsConfig(event_type="kind")
    whole = arrays(tmp_path, tmp_path / "whole", columns=columns)
    monkeypatch.setattr(tabular, "CHUNK_ROWS", rows)
    monkeypatch.setattr(codes, "BLOCK", 3)
    assert arrays(tmp_path, tmp_path / "chunks", columns=columns) == whole
    ids = np.load(next((tmp_path / "chunks").glob("*/train/session_ids.npy")))
    assert ids.dtype == (np.dtype("<U12") if kind == "text" else np.int64)


@pytest.mark.parametrize("column", ["session", "item", "time"])
def test_a_missing_value_in_a_late_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: str
) -> None:
    monkeypatch.setattr(tabular, "CHUNK_ROWS", 7)
    for ids in ("integers", "text"):
        frame = log(ids).astype(object)
        frame.loc[500, column] = None
        frame.to_csv(tmp_path / "log.csv", index=False)
        with pytest.raises(UserError, match=rf"log\.csv, line 502: .*'{column}' is missing"):
            arrays(tmp_path, tmp_path / "prepared")


def test_support_is_counted_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log("integers").to_csv(tmp_path / "log.csv", index=False)
    prepared = prepare(RULES, PathsConfig(str(tmp_path), str(tmp_path / "prepared")))
    train = prepared.sessions("train")
    monkeypatch.setattr(ragged, "BLOCK", 100)
    assert train.num_events > 300
    expected = np.bincount(train.items, minlength=prepared.num_items)
    assert train.support(prepared.num_items).tolist() == expected.tolist()
