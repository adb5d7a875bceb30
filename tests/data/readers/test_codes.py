"""Codes, lists and types in item tables and feature files: what is written is what is kept."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from p_rnn.data.item_table import write_item_table
from p_rnn.data.readers.options import ItemTableConfig
from p_rnn.data.readers.table import TableReader
from p_rnn.settings.errors import UserError
from p_rnn.settings.sections import FeatureConfig
from tests.data.features.shop import Shop
from tests.data.readers.test_table import CSV, fails, reader, write

BIG = ["2053013553559896355", "2053013555631882655", "2053013555631882656"]

F = FeatureConfig.of


def items(raw: Path, path: str, **settings: Any) -> pd.DataFrame:
    found = table(raw, path, **settings).items()
    assert found is not None
    return found


def table(raw: Path, path: str, **settings: Any) -> TableReader:
    write(raw / "e.csv", CSV + "3,d,12,1\n")  # items 10, 11, 12
    return reader(raw, item_table=ItemTableConfig(path, "i", **settings))


def column(raw: Path, values: list[str]) -> list[Any]:
    """A property of the items 10, 11, 12 as an item table gives it; None = missing."""
    rows = "".join(f"{10 + n},{value}\n" for n, value in enumerate(values))
    write(raw / "items.csv", f"i,p\n{rows}")
    found = items(raw, "items.csv")["p"]
    return [None if gone else v for v, gone in zip(found, found.isna(), strict=True)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["007", "7", "0107"], ["007", "7", "0107"]),
        (["7", "", "-12"], [7, None, -12]),
        (BIG, BIG),
        ([BIG[0], "", "5"], [BIG[0], None, "5"]),
        (["1.10", "1.1", "2"], ["1.10", "1.1", "2"]),
        (["1.5", "NA", "3"], [1.5, None, 3.0]),
        (["5.0", "", "6.0"], [5.0, None, 6.0]),
        (["5.0", "5", "6"], ["5.0", "5", "6"]),
        (["+7", "7", "8"], ["+7", "7", "8"]),
        (["1e-05", "2.5", "0"], [1e-05, 2.5, 0.0]),
        (["True", "false", ""], [1.0, 0.0, None]),
        (["\\N", "a", "null"], [None, "a", None]),
        (["\"['a', 'b']\"", '"[""c""]"', "[]"], [["a", "b"], ["c"], None]),
        (['"[0.5, 1]"', '"[2, 3.25]"', ""], [[0.5, 1.0], [2.0, 3.25], None]),
        (['"[1, 2]"', '"[3, 4]"', ""], [["1", "2"], ["3", "4"], None]),
        (["[red] and [blue]", "[x]", "y"], ["[red] and [blue]", "[x]", "y"]),
    ],
)
def test_properties_stay_as_they_are_written(
    tmp_path: Path, values: list[str], expected: list[Any]
) -> None:
    found = [v.tolist() if hasattr(v, "tolist") else v for v in column(tmp_path, values)]
    assert found == expected


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["7", "8", ""], "number"),
        (["19.90", "5", "1e3"], "number"),
        (BIG, "text"),
        (["007", "7", "8"], "text"),
        (["XL", "7", "8"], "text"),
    ],
)
def test_what_a_property_is_taken_for(tmp_path: Path, values: list[str], kind: str) -> None:
    column(tmp_path, values)
    frame = items(tmp_path, "items.csv")
    written = write_item_table(frame, frame["item"].to_numpy(), tmp_path)
    assert written["properties"]["p"]["kind"] == kind


@pytest.mark.parametrize("kind", ["category", "tags", "text", "hashed"])
@pytest.mark.parametrize("name", ["items.csv", "p.csv", "p.parquet", "p.jsonl"])
def test_features_keep_codes_apart(tmp_path: Path, kind: str, name: str) -> None:
    shop = Shop(tmp_path)
    codes = {"a": "007", "b": "7", "c": BIG[1], "d": BIG[2], "e": ""}
    if name.endswith(".parquet"):
        frame = pd.DataFrame({"item": list(codes), "f": [c or None for c in codes.values()]})
        frame.to_parquet(shop.raw / name)
    elif name.endswith(".jsonl"):
        lines = [{"item": i, "f": c or None} for i, c in codes.items()]
        write(shop.raw / name, "\n".join(map(json.dumps, lines)))
    else:
        write(shop.raw / name, "item,f\n" + "".join(f"{i},{c}\n" for i, c in codes.items()))
    settings: dict[str, Any] = {"ngrams": 1} if kind == "text" else {}
    settings |= {"num_buckets": 10**6} if kind == "hashed" else {}
    if kind == "hashed":
        bag = shop.bag(kind=kind, file=name, **settings)
        assert len(set(bag.tokens.tolist())) == 4
        return
    tokens = shop.tokens(kind=kind, file=name, **settings)
    shown = [{c} if c and (kind != "text" or len(c) > 1) else set() for c in codes.values()]
    assert tokens[:5] == shown


def test_integers_with_missing_values_in_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    codes = pd.array([int(BIG[1]), None, int(BIG[2])], dtype="Int64")
    pd.DataFrame({"i": [10, 11, 12], "code": codes}).to_parquet(tmp_path / "items.parquet")
    frame = items(tmp_path, "items.parquet")
    written = write_item_table(frame, frame["item"].to_numpy(), tmp_path)
    assert written["properties"]["code"] == {"kind": "text", "missing": 1}
    lines = (tmp_path / "code.jsonl").read_text().split()
    assert lines == [BIG[1], "null", BIG[2]]


def test_types_of_properties_in_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    day = datetime.date(2020, 1, 2)
    good = pd.DataFrame(
        {
            "i": [10, 11],
            "price": [Decimal("1.25"), None],
            "since": [day, None],
            "name": [b"caf\xc3\xa9", None],
            "size": pd.Categorical(["S", None]),
        }
    )
    good.to_parquet(tmp_path / "items.parquet")
    frame = items(tmp_path, "items.parquet")
    first = frame.iloc[0]
    assert first["price"] == 1.25
    assert first["since"] == 1_577_923_200.0
    assert first["name"] == "café"
    assert first["size"] == "S"
    assert frame.iloc[1].drop("item").isna().all()
    written = write_item_table(frame, frame["item"].to_numpy(), tmp_path)
    kinds = {name: about["kind"] for name, about in written["properties"].items()}
    assert kinds == {"price": "number", "since": "number", "name": "text", "size": "text"}
    for bad, type_name in (
        ([b"\xff", b"\xfe"], "binary"),
        ([{"a": 1}, None], "struct<a: int64>"),
        ([datetime.time(1), None], "time64"),
        ([pd.Timedelta("1s"), None], "duration"),
        ([[[1]], [[2]]], "list<"),
    ):
        good.assign(odd=pd.Series(bad)).to_parquet(tmp_path / "items.parquet")
        fails(table(tmp_path, "items.parquet"), "'odd'", type_name, "leave it out", items=True)
        chosen = items(tmp_path, "items.parquet", columns=["size"])
        assert list(chosen.columns) == ["item", "size"]


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        (",i,brand\n0,10,a\n1,11,b\n", ["brand"]),  # to_csv with its index
        ("Unnamed: 0,i,brand\n0,10,a\n1,11,b\n", ["brand"]),  # read and saved again
        ("i,brand,\n10,a,\n11,b,\n", ["brand"]),  # a separator at the end
        ("i,brand,\n10,a\n11,b\n", ["brand"]),  # of the header alone
        ("i;brand;;\n10;a;;\n11;b;;\n", ["brand"]),
        ("i,,brand, \n10,x,a,y\n11,x,b,y\n", ["brand"]),
    ],
)
def test_columns_without_a_name_are_left_out(tmp_path: Path, text: str, columns: list[str]) -> None:
    write(tmp_path / "items.csv", text)
    frame = items(tmp_path, "items.csv", separator=";" if ";" in text else None)
    assert list(frame.columns) == ["item", *columns]
    assert frame["brand"].tolist() == ["a", "b"]


def test_the_index_of_a_frame_in_parquet_is_no_property(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"i": [10, 11], "brand": ["a", "b"]}, index=[5, 9])
    frame.to_parquet(tmp_path / "items.parquet")
    assert list(items(tmp_path, "items.parquet").columns) == ["item", "brand"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("i,brand,brand\n10,a,b\n", ["'brand' 2 times"]),
        ("i,brand,i\n10,a,11\n", ["'i' 2 times"]),
        ('i,brand\n10,"weird al" yankovic\n', ["line 2", "dataset.item_table.quoting=none"]),
        ('i,brand\n10,"a\n11,b"\n12,c\n', ["line 2: a quote opens a field", "ends in line 3"]),
        ("i;brand\n10;a\n", ["separated by ';'", "dataset.item_table.separator=';'"]),
        ("x,brand\n10,a\n", ["no column 'i'", "set dataset.item_table.item, the column of ids"]),
        ("i,brand\n10\n", ["line 2 has 1 fields, but the header has 2"]),
        ('i,brand\n10,"[[1], [2]]"\n', ["line 2: 'brand' is '[[1], [2]]'", "JSON"]),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, text: str, says: list[str]) -> None:
    write(tmp_path / "items.csv", text)
    fails(table(tmp_path, "items.csv"), "items.csv", *says, items=True)


def test_an_item_table_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_bytes("i,brand\n10,café\n".encode("latin-1"))
    says = "set dataset.item_table.encoding (latin-1, utf-16, ...)"
    fails(table(tmp_path, "items.csv"), "items.csv is not UTF-8", says, items=True)


def test_how_the_text_of_an_item_table_is_written(tmp_path: Path) -> None:
    write(tmp_path / "items.csv", 'i;brand\n10;"5" nail\n11;"a\n')
    frame = items(tmp_path, "items.csv", separator=";", quoting="none")
    assert frame["brand"].tolist() == ['"5" nail', '"a']
    (tmp_path / "items.csv").write_bytes("10,café\n".encode("latin-1"))
    frame = items(tmp_path, "items.csv", encoding="latin-1", names=["i", "brand"])
    assert frame.to_numpy().tolist() == [[10, "café"]]
    with pytest.raises(UserError, match="path is null, so its settings have no effect"):
        reader(tmp_path, item_table=ItemTableConfig(on_conflict="last"))


def test_the_last_of_several_rows(tmp_path: Path) -> None:
    write(tmp_path / "items.csv", "i,brand,size\n10,a,\n11,b,1\n10,c,\n10,d,2\n11,b,1\n")
    fails(
        table(tmp_path, "items.csv"), "item '10' has several rows", "on_conflict=last", items=True
    )
    frame = items(tmp_path, "items.csv", on_conflict="last")
    assert frame.to_numpy().tolist() == [[10, "d", 2], [11, "b", 1]]


def test_json_items(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"i": 10, "price": 19.9, "tags": ["a", "b"], "code": "007", "store": None},
        {"i": 11, "price": "from 5", "tags": [], "code": "7", "more": {"x": 1}},
        {"i": 12, "price": None, "tags": ["c", None], "code": BIG[0]},
    ]
    write(tmp_path / "items.jsonl", "\n".join(map(json.dumps, rows)))
    fails(
        table(tmp_path, "items.jsonl"),
        "line 2: 'more' is {\"x\": 1}",
        "item_table.columns",
        items=True,
    )
    frame = items(tmp_path, "items.jsonl", columns=["price", "tags", "code", "store"])
    assert frame["price"].tolist() == [19.9, "from 5", None]
    assert frame["tags"].tolist() == [["a", "b"], None, ["c"]]
    assert frame["code"].tolist() == ["007", "7", BIG[0]]
    assert frame["store"].isna().all()


def test_feature_files_in_other_layouts(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    (shop.raw / "p.csv").write_bytes('item;f\na;"5" café\nb;x\n'.encode("latin-1"))
    file: dict[str, Any] = {"kind": "category", "file": "p.csv"}
    shop.refused("separated by ';'", "dataset.features.f.column_separator=';'", **file)
    layout: dict[str, Any] = {"column_separator": ";", "encoding": "latin-1"}
    shop.refused("line 2", "dataset.features.f.quoting=none", **file, **layout)
    tokens = shop.tokens(**file, **layout, quoting="none")
    assert tokens[:2] == [{'"5" café'}, {"x"}]
    shop.refused("quoting has no effect", file="p.jsonl", kind="tags", quoting="none")
    assert F().column_separator is None
