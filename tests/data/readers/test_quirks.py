"""Event files with the quirks that real ones have: names, encodings, types, placeholders."""

from __future__ import annotations

import gzip
import json
import lzma
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from p_rnn.data.readers import event_table, tabular
from p_rnn.data.readers.atomic import AtomicReader
from p_rnn.data.readers.options import ColumnsConfig
from p_rnn.data.readers.sequences import SequencesReader
from tests.data.readers.test_table import COLUMNS, fails, frame, reader, write

ROWS = [[1, 10, 100.0], [1, 11, 101.5], [2, 10, 90.0]]
BODY = "1,10,100\n1,11,101.5\n2,10,90\n"


def values(raw: Path, path: str = "e.csv", **settings: Any) -> list[list[Any]]:
    found: list[list[Any]] = frame(reader(raw, path, **settings)).to_numpy().tolist()
    return found


# --- headers ------------------------------------------------------------------------------------


def test_columns_without_a_header(tmp_path: Path) -> None:
    write(tmp_path / "e.csv", BODY)
    assert values(tmp_path, names=["s", "i", "t"]) == ROWS
    assert values(tmp_path, columns=ColumnsConfig(0, "1", "2")) == ROWS
    assert values(tmp_path, columns=ColumnsConfig("0", "1", None))[2] == [2, 10, 2.0]
    fails(
        reader(tmp_path, names=["s", "i", "t", "x"]), "line 1 has 3 fields", "dataset.names has 4"
    )
    fails(
        reader(tmp_path, names=["s", "i"], columns=ColumnsConfig("s", "i", None)),
        "line 1 has 3 fields",
        "dataset.names has 2",
    )


def test_a_header_of_numbers_may_be_a_row(tmp_path: Path) -> None:
    write(tmp_path / "e.csv", "0,1,2\n" + BODY)
    numbers = ColumnsConfig("0", "1", None)
    fails(reader(tmp_path, columns=numbers), "line 1 is 0,1,2", "dataset.names=[...]")
    assert values(tmp_path, names=["s", "i", "t"])[:2] == [[0, 1, 2.0], ROWS[0]]


def test_a_header_that_is_taken_for_a_row_is_found_by_its_time(tmp_path: Path) -> None:
    write(tmp_path / "e.csv", "a,b,c\n" + BODY)
    fails(reader(tmp_path, columns=ColumnsConfig("0", "1", "2")), "line 1", "'c', not a number")


@pytest.mark.parametrize("header", ["s,i,t,i", "s,s,i,t", "t,s,i,t"])
def test_a_column_that_is_there_twice_is_refused(tmp_path: Path, header: str) -> None:
    write(tmp_path / "e.csv", f"{header}\n1,2,3,4\n")
    fails(reader(tmp_path), "2 times", "rename all but the one")
    typed = "\t".join(f"{name}:{'float' if name == 't' else 'token'}" for name in header.split(","))
    write(tmp_path / "x" / "x.inter", f"{typed}\n1\t2\t3\t4\n")
    atomic = AtomicReader(tmp_path, "", path="x", columns=COLUMNS)
    fails(atomic, "2 times")  # type: ignore[arg-type]


def test_columns_that_nobody_reads_may_have_any_name(tmp_path: Path) -> None:
    write(tmp_path / "e.csv", ",s,i,t,x,x,,\n0,1,10,100,a,b,,\n1,2,11,90,a,b,,\n")
    assert values(tmp_path) == [[1, 10, 100.0], [2, 11, 90.0]]


@pytest.mark.parametrize("separator", [";", "|", "\t"])
def test_another_separator_is_recognised(tmp_path: Path, separator: str) -> None:
    write(tmp_path / "e.csv", f"s,i,t\n{BODY}".replace(",", separator))
    shown = "\\t" if separator == "\t" else separator
    fails(reader(tmp_path), f"separated by '{shown}'", f"dataset.separator='{shown}'")
    assert values(tmp_path, separator=shown) == ROWS


# --- bytes --------------------------------------------------------------------------------------


def test_encodings(tmp_path: Path) -> None:
    text = "s,i,t\ncafé,10,100\nß,11,90\n"
    for encoding in ("latin-1", "utf-16", "utf-16-le", "cp1252", "utf-8-sig"):
        (tmp_path / "e.csv").write_bytes(text.encode(encoding))
        assert values(tmp_path, encoding=encoding) == [["café", 10, 100.0], ["ß", 11, 90.0]]
    (tmp_path / "e.csv").write_bytes(text.encode("utf-16"))
    fails(reader(tmp_path), "e.csv is UTF-16 text", "dataset.encoding=utf-16")
    (tmp_path / "e.csv").write_bytes(text.encode("latin-1"))
    fails(reader(tmp_path), "e.csv is not UTF-8 text", "dataset.encoding")
    fails(reader(tmp_path, encoding="ascii"), "e.csv is not ASCII text", "dataset.encoding")


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    write(tmp_path / "e.csv", "s,i,t\n1,2,3\n\n1,a\0b,3\n1,a\0c,4\n")
    fails(reader(tmp_path), "e.csv, line 4 contains a NUL byte")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends(tmp_path: Path, end: str) -> None:
    lines = ["s,x,i,t", "1,,10,100", "", "1,,11,101.5", " ", "2,,10,90"]
    (tmp_path / "e.csv").write_bytes(end.join(lines).encode())
    assert values(tmp_path) == ROWS
    lines = ["x,s,i,t", ",1,10,100", ",1,11,101.5", ",2,10,90", ""]
    (tmp_path / "e.csv").write_bytes(end.join(lines).encode())
    assert values(tmp_path) == ROWS


def test_compressed_files_and_patterns(tmp_path: Path) -> None:
    parts = BODY.splitlines(keepends=True)
    for n, (part, pack) in enumerate(
        zip(parts, (gzip.compress, lzma.compress, bytes), strict=True)
    ):
        suffix = (".gz", ".xz", "")[n]
        (tmp_path / f"part-{n}.csv{suffix}").write_bytes(pack(f"s,i,t\n{part}".encode()))
    write(tmp_path / "part-9.txt", "nothing of ours")
    assert values(tmp_path, "part-*.csv*") == ROWS
    assert [p.name for p in reader(tmp_path, "part-[01].csv*").sources()] == [
        "part-0.csv.gz",
        "part-1.csv.xz",
    ]
    fails(reader(tmp_path, "other-*.csv"), "other-*.csv matches no file", "dataset.path")
    write(tmp_path / "e.csv.zst", "x")
    fails(reader(tmp_path, "e.csv.zst"), "must be unpacked")
    whole = lzma.compress(f"s,i,t\n{BODY * 2000}".encode())
    (tmp_path / "cut.csv.xz").write_bytes(whole[:-40])
    fails(reader(tmp_path, "cut.csv.xz"), "cut.csv.xz is damaged", "get a new copy")


def test_sequences_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "e.txt").write_bytes(b"\xef\xbb\xbf1 5 6\r\n2 5\r\n")
    events = pd.concat(list(SequencesReader(tmp_path, "", path="e.txt").events()))
    assert events.to_numpy().tolist() == [[1, 5, 0], [1, 6, 1], [2, 5, 0]]
    assert events["session"].dtype == np.int64
    (tmp_path / "e.txt").write_bytes("é 5 6\n".encode("latin-1"))
    latin = SequencesReader(tmp_path, "", path="e.txt", encoding="latin-1")
    assert next(iter(latin.events()))["session"].tolist() == ["é", "é"]
    (tmp_path / "e.txt").write_bytes("1 5 6\n".encode("utf-16"))
    fails(SequencesReader(tmp_path, "", path="e.txt"), "UTF-16")  # type: ignore[arg-type]


# --- values -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2019-10-01 00:00:00 UTC", 1_569_888_000.0),
        ("2019-10-01T00:00:00 GMT", 1_569_888_000.0),
        ("2019-10-01 00:00:00.5 UTC", 1_569_888_000.5),
        ("1700-01-01", -8_520_336_000.0),
    ],
)
def test_dates(tmp_path: Path, written: str, expected: float) -> None:
    write(tmp_path / "e.csv", f"s,i,t\n1,2,{written}\n1,3,{written}\n")
    assert values(tmp_path, time_unit="iso") == [[1, 2, expected], [1, 3, expected]]


@pytest.mark.parametrize(
    ("written", "unit", "says"),
    [
        ("0001-01-01 00:00:00", "iso", "before the year 1678"),
        ("9999-12-31", "iso", "after the year 2262"),
        ("-99999999999", "s", "before the year 1678"),
        ("1506828988615", "s", "after the year 2262 in units of s"),
    ],
)
def test_placeholder_dates(tmp_path: Path, written: str, unit: str, says: str) -> None:
    write(tmp_path / "e.csv", f"s,i,t\n1,2,{written}\n")
    fails(reader(tmp_path, time_unit=unit), "line 2", says)


def test_missing_ids_are_dropped_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tabular, "CHUNK_ROWS", 2)
    monkeypatch.setattr(event_table, "FIRST_ROWS", 1)
    write(tmp_path / "e.csv", "s,i,t\n1,10,100\n,x,noon\n1,11,101.5\nA,,1\n2,10,90\n")
    table = reader(tmp_path, missing_ids="drop")
    assert frame(table).to_numpy().tolist() == ROWS
    assert table.dropped() == {"missing_ids": 2}
    fails(reader(tmp_path), "line 3", "id 's' is missing", "dataset.missing_ids=drop")
    write(tmp_path / "e.csv", "s,i,t\n,1,1\n,2,2\n")
    fails(reader(tmp_path, missing_ids="drop"), "contains no events")


def test_conditions(tmp_path: Path) -> None:
    text = "s,i,t,stars,kind\n1,1,1,5,view\n1,2,2,3.5,view\nx,3,3,,view\n1,4,4,4,buy\n"
    write(tmp_path / "e.csv", text)
    for where, items in (
        ("stars >= 4", [1, 4]),
        ("stars<4", [2]),
        ("stars != 5", [2, 4]),
        ("stars > 3 and kind == view", [1, 2]),
        ("kind != 'view'", [4]),
        ("t == 3", [3]),
    ):
        table = reader(tmp_path, where=where)
        events = frame(table)
        assert events["item"].tolist() == items
        assert table.dropped() == {"where": 4 - len(items)}
        assert events["session"].dtype == (object if items == [3] else np.int64) or items == [3]
    for where in ("stars", "stars >= many", "stars = 4", ">= 4"):
        fails_to_build(tmp_path, where)
    fails(reader(tmp_path, where="star > 1"), "no column 'star'", "'stars'?")
    fails(reader(tmp_path, where="kind > 1"), "line 2: 'kind' is 'view', not a number")


def fails_to_build(raw: Path, where: str) -> None:
    with pytest.raises(ValueError, match=r"dataset\.where=.*conditions such as"):
        reader(raw, where=where)


def test_a_session_of_two_columns(tmp_path: Path) -> None:
    write(tmp_path / "e.csv", "u,d,i,t\na|b,c,1,1\na,b|c,2,2\na|b,c,3,3\n1,2,4,4\n,2,5,5\n")
    settings: dict[str, Any] = {"columns": ColumnsConfig(["u", "d"], "i", "t")}
    table = reader(tmp_path, **settings, missing_ids="drop")
    events = frame(table)
    assert events["session"].tolist() == ["a||b|c", "a|b||c", "a||b|c", "1|2"]
    assert events["session"].nunique() == 3
    assert table.dropped() == {"missing_ids": 1}
    fails(reader(tmp_path, **settings), "line 6", "id 'u' is missing")


def test_lists_in_text(tmp_path: Path) -> None:
    write(tmp_path / "e.csv", 's,i,t\n1,"[10, 11]","[100, 101.5]"\n2,"[10]","[90]"\n')
    assert values(tmp_path) == ROWS
    write(tmp_path / "e.csv", "s,i,t\n1,\"['a', 'b']\",5\n")
    assert values(tmp_path) == [[1, "a", 5.0], [1, "b", 5.0]]
    write(tmp_path / "e.csv", "s,i,t\n1,\"['a', 'b']\",5\n2,c,6\n")
    fails(reader(tmp_path), "'i' is a list, but not in every row")


def test_histories(tmp_path: Path) -> None:
    columns = ColumnsConfig("s", "i", None, history="h")
    write(tmp_path / "e.csv", 's,h,i\n1,"[10, 11]",12\n1,10 11,13\n2,"10,11",A\n3,,5\n')
    table = reader(tmp_path, columns=columns)
    events = frame(table)
    assert events["session"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]
    assert events["item"].tolist() == ["10", "11", "12", "10", "11", "13", "10", "11", "A", "5"]
    assert events["time"].tolist() == list(range(10))
    assert table.histories


# --- JSON lines ---------------------------------------------------------------------------------


def json_lines(path: Path, *lines: Any) -> Path:
    return write(path, "\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines))


def test_json_lines(tmp_path: Path) -> None:
    rows = [dict(zip("sit", row, strict=True)) for row in ROWS]
    for name in ("e.jsonl", "e.ndjson", "e.json"):
        json_lines(tmp_path / name, *rows, "", "  ")
        assert values(tmp_path, name) == ROWS
    json_lines(tmp_path / "e.jsonl", *rows, {"s": "x", "i": 10, "t": 5, "more": {}})
    assert frame(reader(tmp_path, "e.jsonl"))["session"].tolist() == ["1", "1", "2", "x"]
    nested = {"s": 1, "events": [{"aid": 10, "ts": 5, "at": {"x": 1}}, {"aid": 11, "ts": 6}]}
    json_lines(tmp_path / "e.jsonl", nested, {"s": 2, "events": []})
    columns = ColumnsConfig("s", "events.aid", "events.ts")
    assert values(tmp_path, "e.jsonl", columns=columns) == [[1, 10, 5.0], [1, 11, 6.0]]
    columns = ColumnsConfig("user.id", "i", "t")
    json_lines(tmp_path / "e.jsonl", {"user": {"id": 7}, "i": [1, 2], "t": 3})
    assert values(tmp_path, "e.jsonl", columns=columns) == [[7, 1, 3.0], [7, 2, 3.0]]


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("{", ["line 2 is not JSON", "fix it"]),
        ("[1]", ["line 2 must be a JSON object"]),
        ('{"s": 1, "i": 2, "i": 3}', ["line 2 is not JSON", "'i' appears twice"]),
        ('{"s": 1.5, "i": 2, "t": 3}', ["line 2", "id 's' is 1.5", "floating point"]),
        ('{"s": true, "i": 2, "t": 3}', ["line 2", "id 's' is True"]),
        ('{"s": {"a": 1}, "i": 2, "t": 3}', ["line 2", "id 's' is {'a': 1}"]),
        ('{"s": [1], "i": 2, "t": 3}', ["'s' has lists, but 'i' does not"]),
        ('{"s": 1, "i": [1, [2]], "t": 3}', ["line 2", "id 'i' is [2]"]),
        ('{"s": 1, "t": 3}', ["line 2", "id 'i' is missing"]),
        ('{"s": 1, "i": 2, "t": "noon"}', ["line 2", "'noon', not a number"]),
    ],
)
def test_bad_json_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, parts: list[str]
) -> None:
    monkeypatch.setattr(tabular, "CHUNK_ROWS", 1)
    json_lines(tmp_path / "e.jsonl", {"s": 1, "i": 2, "t": 3}, line)
    fails(reader(tmp_path, "e.jsonl"), "e.jsonl", *parts)


def test_json_that_is_no_json_lines(tmp_path: Path) -> None:
    write(tmp_path / "e.json", json.dumps([{"s": 1}], indent=1))
    fails(reader(tmp_path, "e.json"), "line 1 is not JSON", "each line must be an object")
    json_lines(tmp_path / "e.jsonl", {"s": 1, "item": 2, "t": 3})
    fails(reader(tmp_path, "e.jsonl"), "no column 'i'", "Known: item, s, t")
    fails(reader(tmp_path, "e.jsonl", separator=";"), "dataset.separator has no effect", "jsonl")


# --- parquet ------------------------------------------------------------------------------------


def test_parquet_of_lists(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    lists = pd.DataFrame({"s": [1, 2], "i": [[10, 11], [10]], "t": [[100, 101.5], [90.0]]})
    lists.to_parquet(tmp_path / "e.parquet")
    assert values(tmp_path, "e.parquet") == ROWS
    lists.assign(s=[[1], [2]], i=[1, 2]).to_parquet(tmp_path / "e.parquet")
    fails(reader(tmp_path, "e.parquet"), "'s' has lists, but 'i' does not")
    lists.assign(i=[[{"a": 1}], []]).to_parquet(tmp_path / "e.parquet")
    fails(reader(tmp_path, "e.parquet"), "the column 'i' has type list<", "struct")


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([Decimal(7), Decimal(8)], [7, 8]),
        ([Decimal(10**30), Decimal(8)], [str(10**30), "8"]),
        ([b"a", b"b"], ["a", "b"]),
        (pd.Categorical(["x", "y"]), ["x", "y"]),
        (pd.array([2**60 + 1, 5], dtype="Int64"), [2**60 + 1, 5]),
        (["7", "007"], ["7", "007"]),
    ],
)
def test_types_of_ids_in_parquet(tmp_path: Path, ids: Any, expected: list[Any]) -> None:
    pytest.importorskip("pyarrow")
    table = pd.DataFrame({"s": [1, 1], "i": ids, "t": [1, 2]})
    table.to_parquet(tmp_path / "e.parquet")
    assert frame(reader(tmp_path, "e.parquet"))["item"].tolist() == expected


def test_missing_integers_in_parquet_stay_exact(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    ids = pd.array([2**60 + 1, None, 2**60 + 2], dtype="Int64")
    table = pd.DataFrame({"s": [1, 1, 1], "i": ids, "t": pd.array([5, 6, 7], dtype="Int64")})
    table.to_parquet(tmp_path / "e.parquet")
    events = frame(reader(tmp_path, "e.parquet", missing_ids="drop"))
    assert events["item"].tolist() == [2**60 + 1, 2**60 + 2]
    assert events["time"].tolist() == [5.0, 7.0]
    fails(reader(tmp_path, "e.parquet"), "row 2", "id 'i' is missing")
