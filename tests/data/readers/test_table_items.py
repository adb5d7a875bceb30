"""Item tables of the table reader: values, types of ids, contradictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from p_rnn.data.readers.options import ItemTableConfig
from p_rnn.data.readers.table import TableReader
from tests.data.readers.test_table import CSV, fails, reader, write

ITEMS = "name,i,price,tags,code\nfoo,10,1.5,a|b ,007\nNA,11,,,8\nbaz,12,3,c,9\n"
LISTS = {"list_separator": "|", "list_columns": ["tags"]}


def with_items(raw: Path, text: str = ITEMS, events: str = CSV, **settings: Any) -> TableReader:
    write(raw / "e.csv", events)
    write(raw / "items.csv", text)
    return reader(raw, item_table=ItemTableConfig("items.csv", "i", **settings))


def test_items(tmp_path: Path) -> None:
    table = with_items(tmp_path, **LISTS)
    items = table.items()
    assert items is not None
    assert list(items.columns) == ["item", "name", "price", "tags", "code"]
    assert items["item"].dtype == np.int64
    assert items["item"].tolist() == [10, 11, 12]
    assert items["name"].fillna("?").tolist() == ["foo", "?", "baz"]
    assert items["price"].fillna(-1).tolist() == [1.5, -1, 3]
    assert items["tags"].tolist() == [["a", "b"], None, ["c"]]
    assert table.item_sources() == [tmp_path / "items.csv"]


def test_null_path_means_no_items(tmp_path: Path) -> None:
    write(tmp_path / "e.csv", CSV)
    table = reader(tmp_path, item_table=ItemTableConfig())
    assert table.items() is None
    assert table.item_sources() == []


def test_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    items = with_items(tmp_path, "\ufeffprice,i\n1,10\n").items()
    assert items is not None
    assert list(items.columns) == ["item", "price"]


def test_selected_columns(tmp_path: Path) -> None:
    items = with_items(tmp_path, columns=["price"]).items()
    assert items is not None
    assert list(items.columns) == ["item", "price"]


def test_item_ids_follow_the_events(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = with_items(tmp_path, events=CSV + "3,c,A7,1\n").items()
    assert text is not None
    assert text["item"].tolist() == ["10", "11", "12"]
    whole = with_items(tmp_path, ITEMS + "x,A7,1,,\ny,010,1,,\n").items()
    assert whole is not None
    assert whole["item"].tolist() == [10, 11, 12]
    assert "2 items such as 'A7' are left out" in caplog.text


def test_items_from_the_events_file(tmp_path: Path) -> None:
    write(tmp_path / "e.csv", "s,i,t,cat\n1,10,1,5\n1,11,2,\n2,10,3,5\n2,11,4,\n")
    same = reader(tmp_path, item_table=ItemTableConfig("e.csv", "i", ["cat"]))
    items = same.items()
    assert items is not None
    assert items["item"].tolist() == [10, 11]
    assert items["cat"].fillna(-1).tolist() == [5, -1]


def test_properties_have_one_type_over_all_files(tmp_path: Path) -> None:
    write(tmp_path / "e.csv", CSV)
    write(tmp_path / "items" / "a.csv", "i,size,price\n10,042,1\n11,,2\n")
    write(tmp_path / "items" / "b.csv", "i,size,price\n12,XL,\n")
    items = reader(tmp_path, item_table=ItemTableConfig("items", "i")).items()
    assert items is not None
    assert items["size"].fillna("?").tolist() == ["042", "?", "XL"]
    assert items["price"].fillna(-1).tolist() == [1, 2, -1]


def test_parquet_items_hold_vectors_and_lists(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    write(tmp_path / "e.csv", CSV)
    table = pd.DataFrame(
        {
            "i": [10, 11],
            "image": [np.array([0.5, 1.5]), None],
            "tags": [["a", "b"], ["c"]],
            "cats": [[1, 2], None],
            "new": [True, False],
            "since": pd.to_datetime([0, 2500], unit="ms"),
        }
    )
    table.to_parquet(tmp_path / "items.parquet")
    items = reader(tmp_path, item_table=ItemTableConfig("items.parquet", "i")).items()
    assert items is not None
    assert items["image"][0].dtype == np.float32
    assert items["image"][0].tolist() == [0.5, 1.5]
    assert items["image"][1] is None
    assert items["tags"].tolist() == [["a", "b"], ["c"]]
    assert items["cats"].tolist() == [[1, 2], None]
    assert items["new"].tolist() == [1, 0]
    assert items["since"].tolist() == [0.0, 2.5]
    table["image"] = [np.array([0.5, 1.5]), np.array([1.0])]
    table.to_parquet(tmp_path / "items.parquet")
    bad = reader(tmp_path, item_table=ItemTableConfig("items.parquet", "i"))
    fails(bad, "items.parquet", "'image'", "[1, 2]", items=True)


@pytest.mark.parametrize(
    ("text", "settings", "parts"),
    [
        (ITEMS + "other,10,1.5,,\n", {}, ["item '10'", "different values", "keep one"]),
        (ITEMS + "x,,1,,\n", {}, ["line 5", "id 'i' is missing"]),
        (ITEMS, {"columns": ["prize"]}, ["no column 'prize'", "mean 'price'", "Known"]),
        (ITEMS, {"list_columns": ["tag"], "list_separator": "|"}, ["'tag'", "name, price, tags"]),
        ("i,a\n", {}, ["contains no items", "dataset.item_table"]),
        ("i,a\nX1,1\nX2,2\n", {}, ["are integers", "'X1'", "item_table.item"]),
        ("i,item\n1,1\n", {}, ["a property cannot be called 'item'"]),
    ],
)
def test_bad_items(tmp_path: Path, text: str, settings: dict[str, Any], parts: list[str]) -> None:
    fails(with_items(tmp_path, text, **settings), "items.csv", *parts, items=True)
