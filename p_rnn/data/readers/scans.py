"""What the bytes of a text table tell while a parser reads them, for a fraction of its time.

A scan may be wrong when it says that it has found what it looks for: then the slower, exact way
decides. Together they miss nothing.
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

BLOCK_BYTES = 2**18  # stays in the processor's cache while all scans look at it
LINE_BYTES = 2**20  # longer lines are looked at in the exact way
MOST_LOOKS = 20_000  # at odd integers of other columns, of 1 us each
QUOTED = re.compile(rb'"[^"\n]*"')


class Scan(Protocol):
    """Something that looks at a stream, block by block; an empty block is the end.

    All lines that it sees end with a line feed.
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
        shown = block.replace(b"\r", b"")  # there is none that is no part of a line end
        for scan in self._scans:
            if not scan.found and bool(shown) == bool(block):
                scan.feed(shown)
        buffer[: len(block)] = block
        return len(block)


def tapped(stream: Readable, scans: Sequence[Scan]) -> io.BufferedReader:
    """The same bytes, shown to `scans` as they are read; closing it leaves `stream` open."""
    return io.BufferedReader(_Tap(stream, scans), BLOCK_BYTES)


class Records:
    """How many records there are, told by the lines alone, where each line is one.

    With everything deleted but separators, quotes and line ends, a line that is too wide is a run
    of separators that is too long, and a line that may be blank is one without separators.

    Attributes:
        found: a line may be no record, or one with more fields than it may have: a field over
            several lines, a quote that is not closed, or is closed in the middle of a field, an
            escaped character, a NUL byte.
        count: the lines so far that are not blank.
    """

    def __init__(self, member: Member, text: TextFormat, width: int) -> None:
        """`width`: fields that a record may have."""
        self._member, self._format, self._width = member, text, width
        self._separator = separator = text.separator_of(member).encode()
        kept = separator + (b"\n" if text.quoting == "none" else b'\n"')
        self._deleted = bytes(set(range(256)).difference(kept))
        self._too_long = separator * width
        self._escape = b"\\" if text.quoting == "backslash" else b"\0"
        self._blanks = b" \t".replace(separator, b"")
        self._blank = re.compile(rb"\n[%b]+(?=\n)" % self._blanks)
        # A line that is not complete, and the end of the one before: whole, and what is kept of it.
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
            # two quotes with nothing between open and close again: also those that mean one quote
            marks = QUOTED.sub(b"", marks.replace(b'""', b""))
        self.found = strange or self._too_long in marks or len(self._line) > LINE_BYTES
        self.count += self._num_records(lines) if b"\n\n" in marks else marks.count(b"\n") - 1

    def _num_records(self, lines: bytes) -> int:
        """Lines behind the first line end; blanks alone are no record."""
        text = np.frombuffer(lines, dtype=np.uint8)
        ends = np.flatnonzero(text == ord("\n"))
        count = int(np.count_nonzero(np.diff(ends) > 1))
        first = text[ends[:-1] + 1].tobytes()  # character of each line
        if any(blank in first for blank in self._blanks):
            count -= len(self._blank.findall(lines))
        return count

    def _each_alone(self, lines: bytes) -> bool:
        """Whether each line with a quote is a record by itself, and not too wide."""
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
    """Whether all quotes stand around fields, or twice in such a field, and none over a line end.

    Where it is not so, a field may hold quotes as ordinary characters.
    """
    text = np.frombuffer(lines, dtype=np.uint8)
    at = np.flatnonzero(text == ord('"'))
    if len(at) % 2:
        return False
    border = (text == ord("\n")) | (text == ord(separator))
    opening, closing = at[::2], at[1::2]
    again = closing[:-1] + 1 == opening[1:]  # "" within a field: closed, and opened at once
    opens, closes = border[opening - 1], border[closing + 1]
    if not (opens[:1].all() and (opens[1:] | again).all()):
        return False
    if not (closes[-1:].all() and (closes[:-1] | again).all()):
        return False
    quotes_before = np.searchsorted(at, np.flatnonzero(text == ord("\n")))
    return not (quotes_before & 1).any()  # of a line end


def _whole_lines(text: bytes) -> tuple[bytes, bytes]:
    """The lines up to the last line end, and from this on."""
    end = text.rfind(b"\n")
    return text[: end + 1], text[end:]


class OddIntegers:
    """Whether a column may hold an integer in another spelling than `str(int)`: 007, +7, -0, " 7".

    Parsers of numbers accept these, and as ids they are text.
    """

    def __init__(self, separator: str, columns: Collection[int]) -> None:
        """`columns`: where those that matter stand in a line."""
        self.found = not separator.isascii()
        self._separator = separator.encode()
        self._columns = columns
        self._tables = _odd_tables(self._separator) if separator.isascii() else (b"",) * 3
        self._looks = 0
        spelled = rb"(?:[ \t\v\f]*[+-]?[0-9]+[ \t\v\f]*)"
        self._integer = re.compile(rb'%b(?=[\n"%b])' % (spelled, re.escape(self._separator)))
        self._line = b"\n"  # a line that is not complete, and the end of the one before

    def feed(self, block: bytes) -> None:
        lines, self._line = _whole_lines(self._line + (block or b"\n"))
        self.found = len(self._line) > LINE_BYTES or any(
            self._is_integer(lines, at) and self._matters(lines, at)
            for at in _odd_places(lines, self._tables)
        )

    def _is_integer(self, lines: bytes, at: int) -> bool:
        """Whether the field that begins at `at` is one; where quotes are odd or blanks end, yes."""
        inside = lines[at : at + 1] in b'"' or lines[at - 1 : at] not in b'\n"' + self._separator
        return inside or self._integer.match(lines, at) is not None

    def _matters(self, lines: bytes, at: int) -> bool:
        self._looks += 1
        if self._looks > MOST_LOOKS:
            return True
        before = QUOTED.sub(b"", lines[lines.rfind(b"\n", 0, at) + 1 : at])
        return before.count(self._separator) in self._columns


def _odd_places(lines: bytes, tables: tuple[bytes, bytes, bytes]) -> list[int]:
    """Where a character, the one before and the one behind are odd together; see `_odd_tables`."""
    before, at, behind = (np.frombuffer(lines.translate(t), dtype=np.uint8) for t in tables)
    places: list[int] = (np.flatnonzero(before[:-2] & at[1:-1] & behind[2:]) + 1).tolist()
    return places


@cache
def _odd_tables(separator: bytes) -> tuple[bytes, bytes, bytes]:
    """A bit for each thing that is odd about an integer, for three characters in a row.

    A few instructions for many bytes, as most tables have nothing of this kind.
    """
    digit, blank, border = b"0123456789", bytes(range(33)), b"\n" + separator
    blank = bytes(set(blank) - set(border))
    edge = border + b'"'
    others = bytes(set(range(256)) - set(border))
    kinds = (
        (edge, blank + b"+", digit + blank + b"+-"),  # a field that begins with a blank or +
        (edge, b"0", digit),
        (edge, b"-", b'0"'),
        (digit + blank + b'"', blank, edge),  # that ends in a blank
        (others, b'"', digit),  # a quote before a digit, but not where a field begins
    )
    tables = []
    for place in range(3):
        bits = [sum(1 << k for k, kind in enumerate(kinds) if c in kind[place]) for c in range(256)]
        tables.append(bytes(bits))
    return tables[0], tables[1], tables[2]
