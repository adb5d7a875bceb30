"""Scans of raw bytes against the exact ways: the types of ids, and rows that are too wide."""

from __future__ import annotations

import csv
import random
import zipfile
from pathlib import Path

import pytest

from p_rnn.data.readers import event_table, scans, tabular
from p_rnn.data.readers.files import Member
from p_rnn.data.readers.options import ColumnsConfig
from p_rnn.data.readers.records import count_records
from p_rnn.data.readers.text import TextFormat
from p_rnn.settings.errors import UserError
from tests.data.readers.test_table import CSV, fails, frame, reader, write

PLAIN = ["7", "0", "-5", "12", "100", str(2**63 - 1), '"7"']
ODD = [
    "007",
    "+7",
    "-0",
    " 7",
    "7 ",
    "\t7",
    "7.0",
    "1e3",
    "0x1",
    "True",
    "a7",
    "NA",
    "07a",
    '"007"',
    '"-0"',
    '" 8"',
    '"a,b"',
    '"a\nb"',
    str(2**63),
    "00",
    "1 2",
    '7"7',
    '7""',
    '"7"""',
]
BROKEN = ['""07', '"-"0', '"0"7']  # closed in the middle of a field


@pytest.fixture(params=[1, 2, 5, 1000])
def small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of few rows, blocks of few bytes."""
    monkeypatch.setattr(tabular, "CHUNK_ROWS", request.param)
    monkeypatch.setattr(event_table, "FIRST_ROWS", 2)
    monkeypatch.setattr(scans, "BLOCK_BYTES", 7)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("odd", ODD)
def test_one_odd_id_in_a_late_row_makes_text_of_all(tmp_path: Path, odd: str) -> None:
    ids = [*PLAIN, odd, "8"]
    write(tmp_path / "e.csv", "x,i,s,t\n" + "".join(f"{odd},{i},1,0\n" for i in ids))
    events = frame(reader(tmp_path))
    (raw,) = next(csv.reader([odd], strict=True))
    assert events["item"].tolist() == [i.strip('"') for i in PLAIN] + [raw, "8"]
    assert events["session"].tolist() == [1] * len(ids)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("broken", BROKEN)
def test_a_quote_in_the_middle_of_a_field_in_quotes_is_refused(tmp_path: Path, broken: str) -> None:
    write(tmp_path / "e.csv", f"x,i,s,t\n{broken},1,1,0\n")
    fails(reader(tmp_path), "e.csv", "line 2", "dataset.quoting=none")
    write(tmp_path / "e.csv", f"x,i,s,t\n,1,1,0\n\n,{broken},1,0\n")
    fails(reader(tmp_path), "e.csv", "line 4", "dataset.quoting=none")
    events = frame(reader(tmp_path, quoting="none"))
    assert events["item"].tolist() == ["1", broken]


@pytest.mark.usefixtures("small")
def test_plain_integers_are_known_without_making_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_table.EventTable, "_integers_by_text", None)
    rows = "".join(f'{i}," 007",0815,-3\n' for i in PLAIN)
    write(tmp_path / "e.csv", "i,name,zip,s\n" + rows)
    table = reader(tmp_path, columns=ColumnsConfig("s", "i", None))
    assert table._events.integer_ids == {"s": True, "i": True}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("seed", range(3))
def test_random_tables(tmp_path: Path, seed: int) -> None:
    """Types and refusals are those that a look at every field gives."""
    rng = random.Random(seed)
    for _ in range(40):
        share, end = rng.choice([0, 0.02, 0.2]), rng.choice(["\n", "\r\n", "\r"])
        rows = ["x,s,t,i"]
        for _ in range(rng.randint(2, 12)):
            row = [rng.choice(ODD if rng.random() < share else PLAIN) for _ in range(4)]
            row[2] = "5"
            row += [rng.choice(["", "z", "0"])] if rng.random() < 0.03 else []
            rows += [",".join(row)] + [""] * (rng.random() < 0.05)
        (tmp_path / "e.csv").write_bytes(end.join(rows).encode())
        assert types_or_refusal(tmp_path, exact=False) == types_or_refusal(tmp_path, exact=True)


def types_or_refusal(raw: Path, exact: bool) -> dict[str, bool] | str:
    events = reader(raw)._events
    try:
        if not exact:
            return events.integer_ids
        count_records(events.table.members[0], events.table.text)
        return events._integers_by_text(["s", "i"])
    except UserError as error:
        return str(error)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (CSV + "2,c,d,11,95\n", ["line 5 has 5 fields", "header has 4", "double quotes"]),
        (CSV + '2,"c,d",11,95\n\n2,c,d,11,95', ["line 7 has 5 fields"]),
        (CSV + '2,"c\nd",11,95\n2,c,11,95,1\n', ["line 7 has 5 fields"]),
        ("s,i,t\n1,2,oops,3\n", ["line 2 has 4 fields"]),
    ],
)
def test_rows_with_more_fields_than_the_header(tmp_path: Path, text: str, parts: list[str]) -> None:
    write(tmp_path / "e.csv", text)
    fails(reader(tmp_path), "e.csv, ", *parts)
    with zipfile.ZipFile(tmp_path / "e.zip", "w") as archive:
        archive.writestr("a.csv", CSV if "x" in text.splitlines()[0] else "s,i,t\n1,2,3\n")
        archive.writestr("b.csv", text)
    fails(reader(tmp_path, "e.zip"), "b.csv in ", *parts)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    "text",
    [
        "s,i,t\n1,2,3,\n4,5,6,,\n",  # separators at the end
        's,i,t,name\n1,2,3,"a, b, ""c"", d"\n4,5,6,\n',
        's,i,t,name\n1,2,3,"a,\n,,,,b"\n4,5,6,"x"\n',
        '\n"s","i","t"\n"1","2","3"\n\n"4","5","6"',
        's,i,t,name\r\n1,2,3,5" disk\r\n4,5,6\r\n',
    ],
)
def test_rows_that_are_not_too_wide(tmp_path: Path, text: str) -> None:
    (tmp_path / "e.csv").write_bytes(text.encode())
    assert frame(reader(tmp_path)).to_numpy().tolist() == [[1, 2, 3], [4, 5, 6]]


def test_what_is_no_text_table_ends_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scans, "LINE_BYTES", 50)
    monkeypatch.setattr(scans, "BLOCK_BYTES", 7)
    member = Member(tmp_path / "e.csv")
    wide, odd = scans.Records(member, TextFormat(), 2000), scans.OddIntegers(",", ())
    write(tmp_path / "e", "," * 1000)
    with (tmp_path / "e").open("rb") as stream:
        tapped = scans.tapped(stream, [wide, odd])
        assert tapped.read(100) == b"," * 100
        assert wide.found
        assert odd.found
        tapped.close()
        assert not stream.closed
