"""Fast checks on the bytes of a text table while a parser reads them.

A scan may report a false positive, which the slow, exact pass (`records`) then settles, but never
misses what it looks for.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Sequence
from functools import cache
from typing import Any, Protocol

import numpy as np

from p_rnn.data.readers.files import Member
from p_rnn.data.readers.text import Readable, TextFormat

BLOCK_BYTES = 2**18  # stays in the CPU cache while all scans look at it
LINE_BYTES = 2**20  # longer lines are left to the exact pass
MOST_LOOKS = 20_000  # at odd integers in other columns; each takes 1 us
QUOTED = re.compile(rb'"[^"\n]*"')


class Scan(Protocol):
    """Looks at a stream block by block; an empty block marks the end.

    All lines are terminated by a line feed.
    """

    found: bool

    def feed(self, block: bytes) -> None: ...


class _Tap(io.RawIOBase):
    def __init__(self, stream: Readable, scans: Sequence[Scan]) -> None:
        self._stream, self._scans = stream, scans

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._stream.read(len(buffer))
        shown = block.replace(b"\r", b"")  # `Utf8` leaves \r only in \r\n
        for scan in self._scans:
            if not scan.found and bool(shown) == bool(block):
                scan.feed(shown)
        buffer[: len(block)] = block
        return len(block)


def tapped(stream: Readable, scans: Sequence[Scan]) -> io.BufferedReader:
    """The same bytes, passed to `scans` as they are read; closing it leaves `stream` open."""
    return io.BufferedReader(_Tap(stream, scans), BLOCK_BYTES)


class Records:
    """Counts records by counting lines, which is right if each line is one record.

    With everything deleted except separators, quotes and line ends, a line with too many fields is
    a run of separators that is too long, and a blank line is one without separators.

    Attributes:
        found: a line may not be a record, or may have too many fields: there is a field that spans
            lines, a quote that is not closed or is closed in the middle of a field, an escaped
            character or a NUL byte.
        count: lines so far that are not blank.
    """

    def __init__(self, member: Member, text: TextFormat, width: int) -> None:
        """`width`: the most fields that a record may have."""
        self._member, self._format, self._width = member, text, width
        self._separator = separator = text.separator_of(member).encode()
        kept = separator + (b"\n" if text.quoting == "none" else b'\n"')
        self._deleted = bytes(set(range(256)).difference(kept))
        self._too_long = separator * width
        self._escape = b"\\" if text.quoting == "backslash" else b"\0"
        self._blanks = b" \t".replace(separator, b"")
        self._blank = re.compile(rb"\n[%b]+(?=\n)" % self._blanks)
        # An incomplete line with the line end before it; `_marks` is the same after the deletion.
        self._line = self._marks = b"\n"
        self.found = len(separator) > 1
        self.count = 0

    def feed(self, block: bytes) -> None:
        block = block or b"\n"
        lines, self._line = _whole_lines(self._line + block)
        marks, self._marks = _whole_lines(self._marks + block.translate(None, self._deleted))
        strange = b"\0" in lines or self._escape in lines
        if not strange and b'"' in marks:
            strange = not (_well_quoted(lines, self._separator) or self._each_alone(lines))
            # "" is an empty field or an escaped quote; either way it may be deleted
            marks = QUOTED.sub(b"", marks.replace(b'""', b""))
        self.found = strange or self._too_long in marks or len(self._line) > LINE_BYTES
        self.count += self._num_records(lines) if b"\n\n" in marks else marks.count(b"\n") - 1

    def _num_records(self, lines: bytes) -> int:
        """Number of lines after the first line end that are not blank."""
        text = np.frombuffer(lines, dtype=np.uint8)
        ends = np.flatnonzero(text == ord("\n"))
        count = int(np.count_nonzero(np.diff(ends) > 1))
        first = text[ends[:-1] + 1].tobytes()  # the first character of each line
        if any(blank in first for blank in self._blanks):
            count -= len(self._blank.findall(lines))
        return count

    def _each_alone(self, lines: bytes) -> bool:
        """Whether each line with a quote is one record without too many fields."""
        text = (line.decode("utf-8", "replace") for line in lines.split(b"\n") if b'"' in line)
        try:
            for line in text:
                for _, record in self._format.records(self._member, [line]):
                    if any(record[self._width :]):
                        return False
        except csv.Error:
            return False
        return True


def _well_quoted(lines: bytes, separator: bytes) -> bool:
    """Whether all quotes enclose fields or are doubled within one, and no field spans lines.

    Otherwise, a field may contain quotes as ordinary characters.
    """
    text = np.frombuffer(lines, dtype=np.uint8)
    at = np.flatnonzero(text == ord('"'))
    if len(at) % 2:
        return False
    border = (text == ord("\n")) | (text == ord(separator))
    opening, closing = at[::2], at[1::2]
    again = closing[:-1] + 1 == opening[1:]  # "" within a field, seen as closing and opening
    opens, closes = border[opening - 1], border[closing + 1]
    if not (opens[:1].all() and (opens[1:] | again).all()):
        return False
    if not (closes[-1:].all() and (closes[:-1] | again).all()):
        return False
    quotes_before = np.searchsorted(at, np.flatnonzero(text == ord("\n")))
    return not (quotes_before & 1).any()  # of a line end


def _whole_lines(text: bytes) -> tuple[bytes, bytes]:
    """Split at the last line end, which goes to both parts."""
    end = text.rfind(b"\n")
    return text[: end + 1], text[end:]


class OddIntegers:
    """Looks for integers not in canonical form: 007, +7, -0, " 7".

    Number parsers accept them, but as ids they are text.
    """

    def __init__(self, separator: str, columns: Collection[int]) -> None:
        """`columns`: the positions of the columns of ids."""
        self.found = not separator.isascii()
        self._separator = separator.encode()
        self._columns = columns
        self._tables = _odd_tables(self._separator) if separator.isascii() else (b"",) * 3
        self._looks = 0
        spelled = rb"(?:[ \t\v\f]*[+-]?[0-9]+[ \t\v\f]*)"
        self._integer = re.compile(rb'%b(?=[\n"%b])' % (spelled, re.escape(self._separator)))
        self._line = b"\n"  # an incomplete line with the line end before it

    def feed(self, block: bytes) -> None:
        lines, self._line = _whole_lines(self._line + (block or b"\n"))
        self.found = len(self._line) > LINE_BYTES or any(
            self._is_integer(lines, at) and self._matters(lines, at)
            for at in _odd_places(lines, self._tables)
        )

    def _is_integer(self, lines: bytes, at: int) -> bool:
        """Whether the field at `at` is an integer; also true for odd quotes and trailing blanks."""
        inside = lines[at : at + 1] in b'"' or lines[at - 1 : at] not in b'\n"' + self._separator
        return inside or self._integer.match(lines, at) is not None

    def _matters(self, lines: bytes, at: int) -> bool:
        self._looks += 1
        if self._looks > MOST_LOOKS:
            return True
        before = QUOTED.sub(b"", lines[lines.rfind(b"\n", 0, at) + 1 : at])
        return before.count(self._separator) in self._columns


def _odd_places(lines: bytes, tables: tuple[bytes, bytes, bytes]) -> list[int]:
    """Positions where three characters in a row match one of the patterns in `_odd_tables`."""
    before, at, behind = (np.frombuffer(lines.translate(t), dtype=np.uint8) for t in tables)
    places: list[int] = (np.flatnonzero(before[:-2] & at[1:-1] & behind[2:]) + 1).tolist()
    return places


@cache
def _odd_tables(separator: bytes) -> tuple[bytes, bytes, bytes]:
    """Translation tables for the characters before, at and after a position: one bit per pattern.

    A pattern matches where all three have its bit. This takes few instructions per byte.
    """
    digit, blank, border = b"0123456789", bytes(range(33)), b"\n" + separator
    blank = bytes(set(blank) - set(border))
    edge = border + b'"'
    others = bytes(set(range(256)) - set(border))
    kinds = (
        (edge, blank + b"+", digit + blank + b"+-"),  # a field that begins with a blank or +
        (edge, b"0", digit),
        (edge, b"-", b'0"'),
        (digit + blank + b'"', blank, edge),  # a field that ends with a blank
        (others, b'"', digit),  # a quote before a digit, but not where a field begins
    )
    tables = []
    for place in range(3):
        bits = [sum(1 << k for k, kind in enumerate(kinds) if c in kind[place]) for c in range(256)]
        tables.append(bytes(bits))
    return tables[0], tables[1], tables[2]
