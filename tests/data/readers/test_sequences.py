"""The reader of one line per user against hand-written frames."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from p_rnn.data.readers import sequences
from p_rnn.data.readers.options import ItemTableConfig
from p_rnn.data.readers.sequences import SequencesReader
from p_rnn.settings.errors import UserError

TABLE = ItemTableConfig("a.json")


def write(raw: Path, text: str, attributes: str | None = None) -> SequencesReader:
    (raw / "e.txt").write_text(text)
    if attributes is not None:
        (raw / "a.json").write_text(attributes)
    table = None if attributes is None else TABLE
    return SequencesReader(raw, "https://example.org", path="e.txt", item_table=table)


def frame(reader: SequencesReader) -> pd.DataFrame:
    return pd.concat(list(reader.events()), ignore_index=True)


def fails(reader: SequencesReader, *parts: str, items: bool = False) -> None:
    with pytest.raises(UserError) as caught:
        reader.items() if items else frame(reader)
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_one_line_per_user(tmp_path: Path) -> None:
    reader = write(tmp_path, "1 5 6  7 \n\n3\t5 8\n2 9")
    events = frame(reader)
    assert list(events.columns) == ["session", "item", "time"]
    assert events["session"].tolist() == [1, 1, 1, 3, 3, 2]
    assert events["item"].tolist() == [5, 6, 7, 5, 8, 9]
    assert events["time"].tolist() == [0.0, 1.0, 2.0, 0.0, 1.0, 0.0]
    assert events.dtypes.tolist() == [np.int64, np.int64, np.float64]
    assert reader.sources() == [tmp_path / "e.txt"]
    assert reader.item_sources() == []
    assert reader.items() is None
    null = SequencesReader(tmp_path, "", path="e.txt", item_table=ItemTableConfig())
    assert null.items() is None


@pytest.mark.parametrize("block_bytes", [1, 2**20])
def test_later_lines_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr(sequences, "BLOCK_BYTES", block_bytes)  # 1: a block per line
    events = frame(write(tmp_path, "1 5\n1 6\n2 5\n1 7 8\n2 9\n"))
    assert events["session"].tolist() == [1, 1, 2, 1, 1, 2]
    assert events["item"].tolist() == [5, 6, 5, 7, 8, 9]
    assert events["time"].tolist() == [0.0, 1.0, 0.0, 2.0, 3.0, 1.0]


def test_ids_have_one_type_over_all_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequences, "BLOCK_BYTES", 1)
    chunks = list(write(tmp_path, "1 5\n2 05\n1 x\n").events())
    assert len(chunks) == 3
    assert [chunk["session"].iloc[0] for chunk in chunks] == [1, 2, 1]
    assert [chunk["item"].iloc[0] for chunk in chunks] == ["5", "05", "x"]
    assert chunks[2]["time"].tolist() == [1.0]


def test_gzip(tmp_path: Path) -> None:
    (tmp_path / "e.txt.gz").write_bytes(gzip.compress(b"1 5 6\n"))
    assert frame(SequencesReader(tmp_path, "", path="e.txt.gz"))["item"].tolist() == [5, 6]


def test_attributes(tmp_path: Path) -> None:
    reader = write(tmp_path, "1 5 6\n", '{"5": [1, 2], "6": [], "9": [3]}')
    items = reader.items()
    assert items is not None
    assert items["item"].tolist() == [5, 6, 9]
    assert items["item"].dtype == np.int64
    assert items["attributes"].tolist() == [[1, 2], [], [3]]
    assert reader.item_sources() == [tmp_path / "a.json"]
    text = write(tmp_path, "1 a\n", '{"a": ["red"], "b": ["blue", "old"]}').items()
    assert text is not None
    assert text["item"].tolist() == ["a", "b"]
    assert text["attributes"].tolist() == [["red"], ["blue", "old"]]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["e.txt contains no events"]),
        ("\n \n", ["e.txt contains no events"]),
        ("1 5\n\n2\n", ["e.txt, line 3", "user '2' has no items", "user item item"]),
    ],
)
def test_bad_events(tmp_path: Path, text: str, parts: list[str]) -> None:
    fails(write(tmp_path, text), *parts)


@pytest.mark.parametrize(
    ("attributes", "parts"),
    [
        ('{"5": [1,\n}', ["a.json is not JSON", "line 2"]),
        ("[1]", ["a.json must be a JSON object"]),
        ('{"5": 1}', ["item '5' must be a list"]),
        ('{"5": [1.5]}', ["item '5'", "[1.5]"]),
        ('{"a": [1]}', ["are integers", "'a'"]),
    ],
)
def test_bad_attributes(tmp_path: Path, attributes: str, parts: list[str]) -> None:
    fails(write(tmp_path, "1 5\n", attributes), "a.json", *parts, items=True)


def test_bad_files(tmp_path: Path) -> None:
    missing = SequencesReader(tmp_path, "the moon", path="x.txt", item_table=TABLE)
    fails(missing, "x.txt is missing: get it from the moon")
    fails(missing, "a.json is missing", items=True)
    (tmp_path / "e.txt").write_bytes(b"1 \xe9\n")
    fails(SequencesReader(tmp_path, "", path="e.txt"), "e.txt is not UTF-8")
    packed = gzip.compress(b"".join(b"%d %d\n" % (n, n * 7919 % 997) for n in range(9999)))
    (tmp_path / "e.txt.gz").write_bytes(packed[:-99])
    fails(SequencesReader(tmp_path, "", path="e.txt.gz"), "e.txt.gz is damaged", "get a new copy")
    with pytest.raises(UserError, match="takes only path"):
        SequencesReader(tmp_path, "", path="e", item_table=ItemTableConfig("a", columns=["b"]))


def test_real_amazon_beauty() -> None:
    raw = os.environ.get("P_RNN_RAW_DATA")
    if not raw:
        pytest.skip("P_RNN_RAW_DATA is not set: amazon-beauty is not tested")
    table = ItemTableConfig("amazon-beauty/Beauty_item2attributes.json")
    reader = SequencesReader(Path(raw), "", path="amazon-beauty/Beauty.txt", item_table=table)
    events, items = frame(reader), reader.items()
    assert items is not None
    assert len(events) == 198_502
    assert events["session"].nunique() == 22_363
    assert set(events["item"]) == set(items["item"])
    assert len(items) == 12_101
    assert items["attributes"].explode().nunique() == 637
    assert items["attributes"].map(len).mean() == pytest.approx(3.7, abs=0.05)
    assert events.loc[events["session"] == 2, "item"].tolist() == [6, 7, 8, 9, 10, 4, 11]
