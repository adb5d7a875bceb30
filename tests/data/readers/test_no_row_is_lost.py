"""Records read + records dropped by a rule + records refused = records in the file.

The independent count is `csv.reader(strict=True)` over the whole text; files are generated over
quotes, escapes, separators, line ends, byte order marks, encodings, containers and chunk borders.
`P_RNN_EXAMPLES=20000` tries more files than the tests do by default.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from p_rnn.data.readers import event_table, scans, tabular
from p_rnn.data.readers import text as text_module
from p_rnn.data.readers.options import ColumnsConfig
from p_rnn.data.readers.table import TableReader
from p_rnn.settings.errors import UserError

EXAMPLES = int(os.environ.get("P_RNN_EXAMPLES", "300"))
HEADERS = (["s", "i", "x"], ["x", "s", "i"], ["i", "x", "y", "s"])
PACK = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
# Mostly plain values, so that many files are read; the others are what goes wrong.
FIELDS = st.one_of(
    st.sampled_from(["1", "7", "007", "a", "b7", "", "NA", "5 in", "é", "x y"]),
    st.text(alphabet="a7\"\\, ;\t\n\r'|é", max_size=6),
    st.sampled_from(['"weird al" yankovic', '5" nail', '"', '""', 'a "b"', '"lone', "\\", '\\"']),
)
SOUP = st.text(alphabet='aaa77,,,,\n\n\n"" \r\t;\\', max_size=80)


@dataclass(frozen=True)
class Case:
    """A file and how it is to be read."""

    text: str
    separator: str
    quoting: str | None
    names: tuple[str, ...] | None
    encoding: str | None = None
    mark: bool = False
    pack: str = ""
    chunk: int = 3
    block: int = 7
    missing_ids: str = "drop"


@st.composite
def cases(draw: st.DrawFn) -> Case:
    header = draw(st.sampled_from(HEADERS))
    separator = draw(st.sampled_from([",", ";", "\t", "|"]))
    quoting = draw(st.sampled_from([None, None, "double", "none", "backslash"]))
    named = draw(st.booleans())
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    if draw(st.integers(0, 3)) == 0:
        body = draw(SOUP).replace(",", separator)
    else:
        wide = st.lists(FIELDS, min_size=len(header), max_size=len(header))
        odd = st.lists(FIELDS, min_size=1, max_size=len(header) + 2)
        rows = draw(st.lists(st.one_of(wide, wide, wide, wide, odd), min_size=1, max_size=9))
        if draw(st.booleans()):
            body = "".join(separator.join(row) + end for row in rows)  # as people write it
        else:
            body = written(rows, separator, quoting, end, draw(st.booleans()))
        body = body.replace(end, end + draw(st.sampled_from(["", "", "", end, " " + end])), 1)
    if draw(st.booleans()):
        body = body.rstrip("\r\n")
    encoding = draw(st.sampled_from([None, None, None, "latin-1", "utf-16", "utf-8-sig"]))
    return Case(
        text=(separator.join(header) + end if named else "") + body,
        separator=separator,
        quoting=quoting,
        names=None if named else tuple(header),
        encoding=encoding,
        mark=encoding is None and draw(st.booleans()),
        pack=draw(st.sampled_from(list(PACK))),
        chunk=draw(st.integers(1, 4)),
        block=draw(st.sampled_from([5, 7, 64, 2**18])),
        missing_ids=draw(st.sampled_from(["drop", "drop", "error"])),
    )


def written(
    rows: list[list[str]], separator: str, quoting: str | None, end: str, every: bool
) -> str:
    """As a program writes rows, with quotes and escapes where they are needed."""
    file = io.StringIO(newline="")
    style: dict[str, Any] = {"quoting": csv.QUOTE_ALL if every else csv.QUOTE_MINIMAL}
    if quoting == "none":
        rows = [[f.translate(str.maketrans("", "", separator + "\n\r")) for f in r] for r in rows]
        return "".join(separator.join(row) + end for row in rows)
    if quoting == "backslash":
        style |= {"doublequote": False, "escapechar": "\\"}
    csv.writer(file, delimiter=separator, lineterminator=end, **style).writerows(rows)
    return file.getvalue()


def truth(case: Case) -> list[list[str]] | None:
    """The records behind the header; None where a strict parser finds the text broken."""
    style: dict[str, Any] = {"quoting": csv.QUOTE_NONE if case.quoting == "none" else 0}
    if case.quoting == "backslash":
        style |= {"doublequote": False, "escapechar": "\\"}
    raw: list[str] = []
    text = re.sub(r"\r(?!\n)", "\n", case.text)  # any line end is one, also in a field in quotes
    lines = (raw.append(line) or line for line in io.StringIO(text, newline=""))
    blanks = " \t\r\n".replace(case.separator, "")
    rows = []
    try:
        for record in csv.reader(lines, delimiter=case.separator, strict=True, **style):
            if "".join(raw).strip(blanks):  # a line of blanks alone is no record
                rows.append(record)
            raw.clear()
    except csv.Error:
        return None
    return rows[case.names is None :]


def read(case: Case, folder: Path) -> tuple[pd.DataFrame, int]:
    """The events, and how many rows were dropped."""
    content = case.text.encode(case.encoding or "utf-8")
    if case.mark:
        content = b"\xef\xbb\xbf" + content
    (folder / f"e.csv{case.pack}").write_bytes(PACK[case.pack](content))
    reader = TableReader(
        folder,
        "",
        path=f"e.csv{case.pack}",
        columns=ColumnsConfig("s", "i", None),
        names=None if case.names is None else list(case.names),
        separator=case.separator,
        quoting=case.quoting,
        encoding=case.encoding,
        missing_ids=case.missing_ids,
    )
    with (
        patch.object(tabular, "CHUNK_ROWS", case.chunk),
        patch.object(event_table, "FIRST_ROWS", 2),
        patch.object(scans, "BLOCK_BYTES", case.block),
        patch.object(text_module, "HEAD_BYTES", max(case.block, 400)),
    ):
        frame = pd.concat(list(reader.events()), ignore_index=True)
    return frame, sum(reader.dropped().values())


def may_be_refused(case: Case, rows: list[list[str]]) -> bool:
    """Whether something in the file is worth a refusal: all else must be read."""
    header = case.names or HEADERS[[list(h) for h in HEADERS].index(first_line(case))]
    wide = any(any(row[len(header) :]) for row in rows)
    narrow = case.names is not None and len(rows[0]) < len(header)
    ids = [header.index("s"), header.index("i")]
    missing = [any(k >= len(row) or not row[k] for k in ids) for row in rows]
    over_lines = any(mark in field for row in rows for field in row for mark in "\n\r")
    some = any(missing) if case.missing_ids == "error" else all(missing)
    return wide or narrow or some or (over_lines and case.quoting is None)


def first_line(case: Case) -> list[str]:
    return case.text.splitlines()[0].split(case.separator)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES <= 300,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@example(Case('s,i,x\n1,2,"lone\n3,4,b\n5,6,"weird\n', ",", None, None))
@example(Case('s,i,x\n1,2,"lone\n3,4,b\n5,6,5"\n7,8,c\n', ",", None, None))
@example(Case('s,i,x\n1,2,"weird al" yankovic\n3,4,\n', ",", None, None))
@example(Case('s,i,x\n1,2,"weird al" yankovic\n3,4,\n', ",", "none", None))
@example(Case('s,i,x\n1,2,a "5" b", c\n', ",", None, None))
@example(Case("s,i,x\r1,2,\r,3,4\r,,,\r5,6", ",", None, None))
@example(Case("s,i,x\n1,2,\0\n", ",", None, None))
@example(Case('s,i,x\n1,2,"\\","\n3,4,\\\n', ",", "backslash", None))
@given(cases())
def test_no_row_is_lost(case: Case) -> None:
    try:
        content_fits(case)
    except UnicodeEncodeError:
        return
    rows = truth(case)
    with tempfile.TemporaryDirectory() as place:
        try:
            events, dropped = read(case, Path(place))
        except UserError as error:
            check_refusal(case, rows, str(error), place)
            return
    assert rows is not None, "a strict parser refuses this file"
    assert len(events) + dropped == len(rows)
    names = list(case.names or first_line(case))
    places = [names.index("s"), names.index("i")]
    ids = [[row[k] if k < len(row) else "" for k in places] for row in rows]
    kept = [pair for pair in ids if all(pair)]
    assert events[["session", "item"]].astype(str).to_numpy().tolist() == kept


def check_refusal(case: Case, rows: list[list[str]] | None, message: str, place: str) -> None:
    """One line that names the file, and a file that deserves it."""
    assert "\n" not in message
    assert f"{place}/e.csv{case.pack}" in message
    assert rows is None or not rows or "\0" in case.text or may_be_refused(case, rows)


def content_fits(case: Case) -> None:
    case.text.encode(case.encoding or "utf-8")
