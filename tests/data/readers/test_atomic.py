"""The reader of atomic files against hand-written frames."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from p_rnn.data.readers.atomic import AtomicReader
from p_rnn.data.readers.options import ColumnsConfig
from p_rnn.settings.errors import UserError

INTER = (
    "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    "u1\t10\t3\t1506828988.615\n"
    "u1\t11\t4\t1506828987\n"
    "7\t10\t5\t881250949\n"
)
ITEM = (
    "item_id:token\ttitle:token_seq\tyear:token\tclass:token\tprice:float\timage:float_seq\n"
    '10\t"Big One\t1995\t3\t1.5\t0.5 1.5\n'
    "11\t\t007\t\t\t\n"
    "12\tTwelve\t1996\t4\t2\t1 2\n"
)


def write(
    raw: Path, inter: str | None = INTER, item: str | None = ITEM, **settings: Any
) -> AtomicReader:
    (raw / "tiny").mkdir(exist_ok=True)
    for suffix, text in (("inter", inter), ("item", item)):
        if text is not None:
            (raw / "tiny" / f"tiny.{suffix}").write_text(text)
    return AtomicReader(raw, "https://example.org", **{"path": "tiny", **settings})


def fails(reader: AtomicReader, *parts: str, items: bool = False) -> None:
    with pytest.raises(UserError) as caught:
        reader.items() if items else list(reader.events())
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_events(tmp_path: Path) -> None:
    reader = write(tmp_path)
    events = pd.concat(list(reader.events()))
    assert list(events.columns) == ["session", "item", "time"]
    assert events["session"].tolist() == ["u1", "u1", "7"]
    assert events["item"].tolist() == [10, 11, 10]
    assert events["time"].tolist() == [1506828988.615, 1506828987.0, 881250949.0]
    assert events["time"].dtype == np.float64
    assert reader.sources() == [tmp_path / "tiny" / "tiny.inter"]
    assert reader.item_sources() == [tmp_path / "tiny" / "tiny.item"]


def test_items(tmp_path: Path) -> None:
    items = write(tmp_path).items()
    assert items is not None
    assert list(items.columns) == ["item", "title", "year", "class", "price", "image"]
    assert items["item"].tolist() == [10, 11, 12]
    assert items["title"].tolist() == [['"Big', "One"], None, ["Twelve"]]
    assert items["year"].tolist() == ["1995", "007", "1996"]
    assert items["class"].fillna("?").tolist() == ["3", "?", "4"]  # not 3.0
    assert items["price"].fillna(-1).tolist() == [1.5, -1, 2]
    assert items["image"][0].dtype == np.float32
    assert items["image"][0].tolist() == [0.5, 1.5]
    assert items["image"][1] is None


def test_tokens_that_are_all_integers_become_integers(tmp_path: Path) -> None:
    items = write(tmp_path, item="item_id:token\tyear:token\n10\t1995\n11\t1996\n").items()
    assert items is not None
    assert items["year"].dtype == np.int64
    assert items["year"].tolist() == [1995, 1996]


def test_without_items(tmp_path: Path) -> None:
    reader = write(tmp_path, item=None)
    assert reader.items() is None
    assert reader.item_sources() == []


def test_other_columns_and_unit(tmp_path: Path) -> None:
    text = "sid:token\titem_id:token\tms:float\tkind:token\na\t1\t1500\tview\na\t2\t1501\t\n"
    columns = ColumnsConfig("sid", "item_id", "ms", "kind")
    events = next(iter(write(tmp_path, text, columns=columns, time_unit="ms").events()))
    assert events["session"].tolist() == ["a", "a"]
    assert events["time"].tolist() == [1.5, 1.501]
    assert events["event_type"].tolist() == ["view", ""]


@pytest.mark.parametrize(
    ("inter", "parts"),
    [
        ("user_id\titem_id\ttimestamp\n1\t1\t1\n", ["line 1", "'user_id'", "name:type"]),
        (INTER.replace("item_id:", "iid:"), ["no column 'item_id'", "Known: iid", "columns"]),
        (INTER.replace("timestamp:float", "timestamp:token"), ["must be 'timestamp:float'"]),
        ("user_id:token item_id:token\n1 2\n", ["line 1", "is not separated by tabs"]),
        ("user_id:token,item_id:token\n1,2\n", ["line 1", "is not separated by tabs"]),
        (INTER + "7\t10\t5\tnoon\n", ["line 5", "'noon', not a number"]),
        (INTER + "7\t10\t5\t\n", ["line 5", "'timestamp:float' is missing"]),
        (INTER + "\t10\t5\t1\n", ["line 5", "'user_id:token' is missing"]),
        (INTER.splitlines()[0] + "\n", ["contains no events"]),
        ("", ["tiny.inter is empty"]),
    ],
)
def test_bad_events(tmp_path: Path, inter: str, parts: list[str]) -> None:
    fails(write(tmp_path, inter), "tiny.inter", *parts)


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        ("13\ta\t1\t1\tcheap\t1 2\n", ["'price:float'", "'cheap', not a number"]),
        ("13\ta\t1\t1\t1\t1 2 3\n", ["'image:float_seq'", "length 2 and 3"]),
        ("13\ta\t1\t1\t1\tx y\n", ["'image:float_seq'", "not numbers"]),
        ("10\ta\t1\t1\t1\t1 2\n", ["item '10' has several rows"]),
        (
            "13\ta\n",
            ["line 5 has 2 fields", "the header has 6; get a new copy of the file, or fix"],
        ),
    ],
)
def test_bad_items(tmp_path: Path, rows: str, parts: list[str]) -> None:
    fails(write(tmp_path, item=ITEM + rows), "tiny.item", *parts, items=True)


def test_missing_file_and_bad_unit(tmp_path: Path) -> None:
    fails(write(tmp_path, inter=None), "tiny.inter is missing", "https://example.org")
    with pytest.raises(UserError, match="time_unit=iso"):
        write(tmp_path, time_unit="iso")


def test_real_ml_100k() -> None:
    raw = os.environ.get("P_RNN_RAW_DATA")
    if not raw:
        pytest.skip("P_RNN_RAW_DATA is not set: ml-100k is not tested")
    reader = AtomicReader(Path(raw), "", path="ml-100k")
    events, items = pd.concat(list(reader.events())), reader.items()
    assert items is not None
    assert len(events) == 100_000
    assert events["session"].nunique() == 943
    assert set(events["item"]) == set(items["item"])
    assert len(items) == 1_682
    assert events["time"].iloc[0] == 881250949.0
    assert items.loc[items["item"] == 1, "class"].iloc[0] == ["Animation", "Children's", "Comedy"]
