"""The table reader against hand-written frames, and what it says about broken files."""

from __future__ import annotations

import gzip
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from p_rnn.data.readers import tabular
from p_rnn.data.readers.options import ColumnsConfig, ItemTableConfig
from p_rnn.data.readers.table import TableReader
from p_rnn.settings.errors import UserError

COLUMNS = ColumnsConfig(session="s", item="i", time="t")
CSV = "s,x,i,t\n1,a,10,100\n1,b,11,101.5\n2,c,10,90\n"


def reader(raw: Path, path: str = "e.csv", **settings: Any) -> TableReader:
    return TableReader(raw, "https://example.org", **{"path": path, "columns": COLUMNS, **settings})


def frame(table: TableReader) -> pd.DataFrame:
    return pd.concat(list(table.events()), ignore_index=True)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def fails(table: TableReader, *parts: str, items: bool = False) -> str:
    """The one-line message of the UserError, which must hold all `parts`."""
    with pytest.raises(UserError) as caught:
        table.items() if items else frame(table)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message
    return message


def test_reads_csv(tmp_path: Path) -> None:
    write(tmp_path / "e.csv", CSV)
    events = frame(reader(tmp_path))
    assert list(events.columns) == ["session", "item", "time"]
    assert events["session"].tolist() == [1, 1, 2]
    assert events["item"].tolist() == [10, 11, 10]
    assert events["time"].tolist() == [100.0, 101.5, 90.0]
    assert events["session"].dtype == events["item"].dtype == np.int64
    assert events["time"].dtype == np.float64
    assert reader(tmp_path).sources() == [tmp_path / "e.csv"]
    assert reader(tmp_path).item_sources() == []
    assert reader(tmp_path).items() is None


@pytest.mark.parametrize("kind", ["gz", "tsv", "bom", "semicolon", "folder", "zip", "parquet"])
def test_containers_hold_the_same_table(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "plain.csv", CSV)
    settings: dict[str, Any] = {}
    head, *rows = CSV.splitlines(keepends=True)
    if kind == "gz":
        path = "e.csv.gz"
        (tmp_path / path).write_bytes(gzip.compress(CSV.encode()))
    elif kind == "tsv":
        path = write(tmp_path / "e.tsv", CSV.replace(",", "\t")).name
    elif kind == "bom":
        path = write(tmp_path / "e.csv", "\ufeff" + CSV).name
    elif kind == "semicolon":
        path = write(tmp_path / "e.txt", CSV.replace(",", ";")).name
        settings["separator"] = ";"
    elif kind == "folder":
        path = "parts"
        write(tmp_path / path / "b.csv", head + rows[1] + rows[2])
        write(tmp_path / path / "a.csv", head + rows[0])
        write(tmp_path / path / "_SUCCESS", "")
        write(tmp_path / path / ".hidden.csv", "nonsense")
        write(tmp_path / path / "readme.md", "nonsense")
    elif kind == "zip":
        path = "e.zip"
        with zipfile.ZipFile(tmp_path / path, "w") as archive:
            archive.writestr("clicks/2.csv", head + rows[2])
            archive.writestr("clicks/1.csv.gz", gzip.compress((head + rows[0] + rows[1]).encode()))
            archive.writestr("clicks/0.csv", head)  # an hour without clicks
            archive.writestr("__MACOSX/clicks/1.csv", "nonsense")
    else:
        pytest.importorskip("pyarrow")
        path = "e.parquet"
        pd.read_csv(tmp_path / "plain.csv").to_parquet(tmp_path / path)
    expected = frame(reader(tmp_path, "plain.csv"))
    pd.testing.assert_frame_equal(frame(reader(tmp_path, path, **settings)), expected)


def test_sources_list_the_files_on_disk(tmp_path: Path) -> None:
    write(tmp_path / "parts" / "b.csv", CSV)
    write(tmp_path / "parts" / "a.csv", CSV)
    with zipfile.ZipFile(tmp_path / "e.zip", "w") as archive:
        archive.writestr("1.csv", CSV)
        archive.writestr("2.csv", CSV)
    assert [p.name for p in reader(tmp_path, "parts").sources()] == ["a.csv", "b.csv"]
    assert reader(tmp_path, "e.zip").sources() == [tmp_path / "e.zip"]


def test_row_order_is_the_time_without_a_time_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tabular, "CHUNK_ROWS", 2)
    for name in ("a", "b"):
        write(tmp_path / "parts" / f"{name}.csv", CSV)
    table = reader(tmp_path, "parts", columns=ColumnsConfig("s", "i", None))
    chunks = list(table.events())
    assert [len(chunk) for chunk in chunks] == [2, 1, 2, 1]
    assert pd.concat(chunks)["time"].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert all(chunk.index.tolist() == list(range(len(chunk))) for chunk in chunks)


def test_event_types_are_text(tmp_path: Path) -> None:
    write(tmp_path / "e.csv", "s,i,t,k\n1,1,1,view\n1,2,2,\n1,3,3,7\n")
    events = frame(reader(tmp_path, columns=ColumnsConfig("s", "i", "t", "k")))
    assert events["event_type"].tolist() == ["view", "", "7"]


@pytest.mark.parametrize(
    ("unit", "written", "expected"),
    [
        ("s", "1506828988", 1506828988.0),
        ("ms", "1506828988615", 1506828988.615),
        ("us", "1506828988615000", 1506828988.615),
        ("ns", "1506828988615000000", 1506828988.615),
        ("ns", "1506829829235000000", 1506829829.235),  # float64(ns) / 1e9 is one ulp off
        ("ms", "1506828988615.0", 1506828988.615),
        ("iso", "2017-10-01T03:36:28.615Z", 1506828988.615),
        ("iso", "2017-10-01 03:36:28.615", 1506828988.615),
        ("iso", "2017-10-01T05:36:28.615+02:00", 1506828988.615),
        ("iso", "2017-10-01", 1506816000.0),
    ],
)
def test_time_units_are_exact_to_the_millisecond(
    tmp_path: Path, unit: str, written: str, expected: float
) -> None:
    write(tmp_path / "e.csv", f"s,i,t\n1,1,{written}\n")
    assert frame(reader(tmp_path, time_unit=unit))["time"].tolist() == [expected]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["7", "8", "-9"], [7, 8, -9]),
        (["7", "007", "8"], ["7", "007", "8"]),
        (["7", "8", "NA"], ["7", "8", "NA"]),
        (["7", "8", "9.0"], ["7", "8", "9.0"]),
        (["7", "8", str(2**63 - 1)], [7, 8, 2**63 - 1]),
        (["7", "8", str(2**63)], ["7", "8", str(2**63)]),
    ],
)
def test_ids_have_one_type_over_all_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ids: list[str], expected: list[Any]
) -> None:
    monkeypatch.setattr(tabular, "CHUNK_ROWS", 1)
    write(tmp_path / "e.csv", "s,i,t\n" + "".join(f"1,{i},0\n" for i in ids))
    chunks = list(reader(tmp_path).events())
    assert len({str(chunk["item"].dtype) for chunk in chunks}) == 1
    assert [chunk["item"].iloc[0] for chunk in chunks] == expected
    assert chunks[0]["session"].dtype == np.int64


def test_parquet_types_ids_by_its_schema(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    big = np.array([2**63, 1], dtype=np.uint64)
    table = pd.DataFrame({"s": ["1", "2"], "i": big, "t": pd.to_datetime([0, 1500], unit="ms")})
    table.to_parquet(tmp_path / "e.parquet")
    events = frame(reader(tmp_path, "e.parquet", time_unit="iso"))
    assert events["session"].tolist() == ["1", "2"]
    assert events["item"].tolist() == [str(2**63), "1"]
    assert events["time"].tolist() == [0.0, 1.5]
    fails(reader(tmp_path, "e.parquet"), "e.parquet", "time_unit=iso")
    fails(reader(tmp_path, "e.parquet", separator=","), "separator", "leave it out")
    table.assign(i=[1.0, 2.0]).to_parquet(tmp_path / "e.parquet")
    fails(reader(tmp_path, "e.parquet", time_unit="iso"), "floating point", "'i'")


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "e.parquet", "PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    fails(reader(tmp_path, "e.parquet"), "pip install pyarrow", "e.parquet")


@pytest.mark.parametrize(
    ("text", "settings", "parts"),
    [
        ("", {}, ["e.csv is empty"]),
        ("s,i,t\n", {}, ["e.csv contains no events", "dataset.path"]),
        ("s,i,time\n1,1,1\n", {}, ["no column 't'", "Known: i, s, time", "dataset.columns"]),
        ("s,itm,t\n1,1,1\n", {"columns": ColumnsConfig("s", "item", "t")}, ["mean 'itm'"]),
        ("s,i,t\n1,1,1\n\n1,1,x\n", {}, ["e.csv, line 4", "'x', not a number", "iso"]),
        ("s,i,t\n1,1,1\n1,1,\n", {}, ["e.csv, line 3", "'t' is missing"]),
        ("s,i,t\n1,1,inf\n", {}, ["e.csv, line 2", "'inf', not a number"]),
        ("s,i,t\n1,1,True\n", {}, ["e.csv, line 2", "'True', not a number"]),
        ("s,i,t\n1,1,1506828988615\n", {}, ["line 2", "2262", "time_unit"]),
        ("s,i,t\n1,1,5\n", {"time_unit": "iso"}, ["line 2", "'5', not an ISO date", "ms"]),
        ("s,i,t\n1,1,1\n,1,2\n", {}, ["e.csv, line 3", "id 's' is missing"]),
        ('s,i,t\n"a\nb",1,1\n1,,2\n', {}, ["e.csv, line 4", "id 'i' is missing"]),
        ('s,i,t\n1,1,1\n1,"1,2\n', {}, ["e.csv is not a valid table", "line 3", "separator"]),
        ('s,i,t\n1,1,1\n"1,1,2\n1,3,4\n', {}, ["e.csv is not a valid table", "in line 3"]),
    ],
)
def test_bad_content(tmp_path: Path, text: str, settings: dict[str, Any], parts: list[str]) -> None:
    write(tmp_path / "e.csv", text)
    fails(reader(tmp_path, **settings), "e.csv", *parts)


def test_bad_line_is_found_beyond_the_first_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tabular, "CHUNK_ROWS", 2)
    good = "s,i,t\n1,1,1\n1,2,2\n"
    with zipfile.ZipFile(tmp_path / "e.zip", "w") as archive:
        archive.writestr("a.csv", good)
        archive.writestr("b.csv", good + "1,3,3\n1,4,oops\n")
    fails(reader(tmp_path, "e.zip"), "b.csv in ", "e.zip, line 5", "'oops'")


def test_damaged_files(tmp_path: Path) -> None:
    rows = "".join(f"{n},{n * 7919 % 1000},{n}\n" for n in range(20_000))
    packed = gzip.compress(f"s,i,t\n{rows}".encode())
    (tmp_path / "cut.csv.gz").write_bytes(packed[:-500])
    fails(reader(tmp_path, "cut.csv.gz"), "cut.csv.gz is damaged", "get a new copy")
    write(tmp_path / "fake.csv.gz", CSV)
    fails(reader(tmp_path, "fake.csv.gz"), "fake.csv.gz is damaged")
    write(tmp_path / "fake.zip", CSV)
    fails(reader(tmp_path, "fake.zip"), "fake.zip is damaged")
    with zipfile.ZipFile(tmp_path / "e.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", f"s,i,t\n{rows}")
    content = bytearray((tmp_path / "e.zip").read_bytes())
    (tmp_path / "cut.zip").write_bytes(content[: len(content) // 2])
    fails(reader(tmp_path, "cut.zip"), "cut.zip is damaged", "get a new copy")
    content[len(content) // 2] ^= 255
    (tmp_path / "flipped.zip").write_bytes(content)
    fails(reader(tmp_path, "flipped.zip"), "flipped.zip is damaged", "get a new copy")
    (tmp_path / "latin.csv").write_bytes(b"s,i,t\n1,caf\xe9,1\n")
    fails(reader(tmp_path, "latin.csv"), "latin.csv is not UTF-8", "convert it")
    write(tmp_path / "fake.parquet", CSV)
    pytest.importorskip("pyarrow")
    fails(reader(tmp_path, "fake.parquet"), "fake.parquet is not a parquet file")


def test_missing_and_unknown_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"e\.csv is missing: get it from https://example\.org"):
        reader(tmp_path).sources()
    write(tmp_path / "empty" / "notes.md", "x")
    fails(reader(tmp_path, "empty"), "empty contains no .csv, .json")
    write(tmp_path / "e.dat", CSV)
    fails(reader(tmp_path, "e.dat"), "e.dat", "set dataset.separator")


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"separator": "::"}, "one character"),
        ({"time_unit": "h"}, "s, ms, us, ns or iso"),
        ({"item_table": ItemTableConfig("p", list_columns=["a"])}, "list_separator"),
        ({"item_table": ItemTableConfig("p", list_separator="|")}, "list_columns"),
        ({"item_table": ItemTableConfig(columns=["a"])}, "path is null"),
    ],
)
def test_bad_settings(tmp_path: Path, settings: dict[str, Any], part: str) -> None:
    with pytest.raises(UserError, match=part.replace("|", r"\|")):
        reader(tmp_path, **settings)


def test_real_retailrocket_week() -> None:
    raw = os.environ.get("P_RNN_RAW_DATA")
    if not raw:
        pytest.skip("P_RNN_RAW_DATA is not set: retailrocket-week is not tested")
    path = "retailrocket-week/events.csv.gz"
    table = reader(
        Path(raw),
        path,
        columns=ColumnsConfig("SessionId", "ItemId", "Time", "Type"),
        item_table=ItemTableConfig(path, "ItemId", ["CatId"]),
    )
    events, items = frame(table), table.items()
    assert items is not None
    assert len(events) == 46_350
    assert events["session"].nunique() == 14_693
    assert set(events["item"]) == set(items["item"])
    assert len(items) == 13_882
    assert items["CatId"].nunique() == 743
    assert events["event_type"].value_counts().to_dict() == {
        "view": 43_203,
        "addtocart": 2_396,
        "transaction": 751,
    }
