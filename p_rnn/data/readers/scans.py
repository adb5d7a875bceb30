"""What the bytes of a text table tell while a parser reads them, for a fraction of its time.

A scan may be wrong when it says that it has found what it looks for: then the slower, exact way
decides. It misses nothing, unless a line has lonely quotes that look like two around a field.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Collection, Sequence
from functools import cache
from typing import IO, Any, Protocol

import numpy as np

BLOCK_BYTES = 2**18  # stays in the processor's cache while all scans look at it
LINE_BYTES = 2**20  # no table has longer lines
MOST_LOOKS = 20_000  # at odd integers of other columns, of 1 us each
QUOTED = re.compile(rb'"[^"\n]*"')


class Scan(Protocol):
    """Something that looks at a stream, block by block; an empty block is the end.

    All lines that it sees end with a line feed.
    """

    found: bool

    def feed(self, block: bytes) -> None: ...


class _Tap(io.RawIOBase):
    def __init__(self, stream: IO[bytes], scans: Sequence[Scan]) -> None:
        self._stream, self._scans = stream, scans

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._stream.read(len(buffer))
        shown = block.replace(b"\r", b"\n")  # at most, more lines are blank
        for scan in self._scans:
            if not scan.found:
                scan.feed(shown)
        buffer[: len(block)] = block
        return len(block)


def tapped(stream: IO[bytes], scans: Sequence[Scan]) -> io.BufferedReader:
    """The same bytes, shown to `scans` as they are read; closing it leaves `stream` open."""
    return io.BufferedReader(_Tap(stream, scans), BLOCK_BYTES)


class WideLines:
    """Whether a line has more fields than the first line that is not blank.

    With everything deleted but separators and line ends, a line that is too wide is a run of
    separators that is too long. Separators between two quotes of a line do not count.
    """

    def __init__(self, separator: str, quoting: bool) -> None:
        self.found = not separator.isascii()
        self._separator = separator.encode()
        kept = self._separator + (b'\n"' if quoting else b"\n")
        self._deleted = bytes(set(range(256)).difference(kept))
        self._too_long = b""  # the run; empty until the first line is known
        self._line = b""  # what is known of a line that is not complete

    def feed(self, block: bytes) -> None:
        marks = self._line + (block.translate(None, self._deleted) if block else b"\n")
        if b'"' in marks:
            # two quotes with nothing between open and close again: also those that mean one quote
            marks = QUOTED.sub(b"", marks.replace(b'""', b""))
        lines, _, self._line = marks.rpartition(b"\n")
        if not self._too_long:
            lines = lines.lstrip(b"\n")
            self._too_long = lines.partition(b"\n")[0] + self._separator if lines else b""
        wide = bool(self._too_long) and self._too_long in lines
        # Or a field over several lines, a lonely quote, no table at all.
        self.found = wide or b'"' in lines or len(self._line) > LINE_BYTES


class OddIntegers:
    """Whether a column may hold an integer in another spelling than `str(int)`: 007, +7, -0, " 7".

    Parsers of numbers accept these, and as ids they are text.
    """

    def __init__(self, separator: str, columns: Callable[[], Collection[int]]) -> None:
        """`columns()`: where the columns that matter stand in a line; asked once, if need be."""
        self.found = not separator.isascii()
        self._separator = separator.encode()
        self._columns = cache(columns)
        self._looks = 0
        spelled = rb"(?:[ \t\v\f]*[+-]?[0-9]+[ \t\v\f]*)"
        self._integer = re.compile(rb'%b(?=[\n"%b])' % (spelled, re.escape(self._separator)))
        self._line = b"\n"  # a line that is not complete, and the end of the one before

    def feed(self, block: bytes) -> None:
        text = self._line + (block or b"\n")
        end = text.rfind(b"\n")
        lines, self._line = text[: end + 1], text[end:]
        self.found = len(self._line) > LINE_BYTES or any(
            self._is_integer(lines, at) and self._matters(lines, at)
            for at in _odd_places(lines, self._separator)
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
        return before.count(self._separator) in self._columns()


def _odd_places(lines: bytes, separator: bytes) -> list[int]:
    """Where a field begins with a blank, +, -0 or 0 and a digit, or where blanks end it.

    Also where a quote stands before a digit, but not at the beginning of a field. All in a few
    instructions for many bytes, as most tables have nothing of this kind.
    """
    text = np.frombuffer(lines, dtype=np.uint8)
    quote = text == ord('"')
    border = (text == ord("\n")) | (text == ord(separator))
    edge = border | quote
    blank = (text <= ord(" ")) & ~border
    digit = (text - np.uint8(ord("0"))) < 10  # what is below "0" wraps around
    zero = text == ord("0")
    begins = blank | (text == ord("+"))
    leads = zero[1:-1] & digit[2:] | (text[1:-1] == ord("-")) & (zero | quote)[2:]
    odd = edge[:-2] & (begins[1:-1] | leads)
    odd |= blank[1:-1] & edge[2:]
    odd |= quote[1:-1] & digit[2:] & ~border[:-2]
    places: list[int] = (np.flatnonzero(odd) + 1).tolist()
    return places
