"""Formats of text tables: separator, quotes, encoding, column names; conversion to UTF-8."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any, Protocol

from p_rnn.data.readers.files import Member, explained
from p_rnn.settings.errors import UserError

HEAD_BYTES = 2**18  # at the start of a file, in which its first record must end
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
SEPARATORS = {".csv": ",", ".tsv": "\t"}  # by suffix
LONE_RETURN = re.compile(rb"\r(?!\n)")
GUESSED = ";\t|,"  # separators to suggest


@dataclass(frozen=True)
class TextFormat:
    """The format of text tables.

    Attributes:
        separator: None = "," for .csv and a tab for .tsv.
        quoting: "double": fields may be in double quotes, in which "" is a quote; None: the same,
            but fields that span lines that look like rows are refused; "backslash": a backslash
            escapes the next character; "none": quotes are ordinary characters.
        encoding: None = UTF-8.
        names: column names, for files whose first line does not have them; () = numbers from 0.
        setting: the section of the settings that has these, for messages.
        fixed: the format is defined by the reader, not by settings.
    """

    separator: str | None = None
    quoting: str | None = None
    encoding: str | None = None
    names: tuple[str, ...] | None = None
    setting: str = "dataset"
    fixed: bool = False

    def __post_init__(self) -> None:
        if self.separator is not None and len(self.separator) != 1:
            raise UserError(
                f"{self.setting}.separator={self.separator!r} must be one character (\\t is a tab)"
            )
        try:
            codecs.lookup(self.encoding or "utf-8").incrementaldecoder()
        except (LookupError, AttributeError, TypeError):
            raise UserError(
                f"{self.setting}.encoding={self.encoding} is not known; "
                "use utf-8, latin-1, cp1252, utf-16, gbk, shift_jis, ..."
            ) from None
        if self.names is not None and len(set(self.names)) < len(self.names):
            raise UserError(f"{self.setting}.names={list(self.names)} names a column twice")

    def advice(self, text: str) -> str:
        """`text`, which suggests a setting, or other advice if the reader defines the format."""
        return "get a new copy of the file, or fix that line" if self.fixed else text

    def separator_of(self, member: Member) -> str:
        """The separator of a file.

        Raises:
            UserError: it is neither given nor known from the suffix.
        """
        separator = self.separator or SEPARATORS.get(member.suffix)
        if separator is None:
            raise UserError(
                f"{member} is not .csv, .tsv, .jsonl, .parquet, .zip or a folder; "
                f"set {self.setting}.separator"
            )
        return separator

    def dialect(self, member: Member) -> dict[str, Any]:
        """The options that have the same names in `csv.reader` and `pandas.read_csv`."""
        escaped = self.quoting == "backslash"
        return {
            "quoting": csv.QUOTE_NONE if self.quoting == "none" else csv.QUOTE_MINIMAL,
            "doublequote": not escaped,
            "escapechar": "\\" if escaped else None,
        }

    def records(
        self, member: Member, text: Iterable[str], lines: list[str] | None = None
    ) -> Iterator[tuple[int, list[str]]]:
        """Each record that is not blank, with the number of its last line.

        Args:
            lines: while a record is handled, has its lines and blank ones before it.

        Raises:
            csv.Error: a quote that is not closed, or closed in the middle of a field.
        """
        lines = [] if lines is None else lines
        separator = self.separator_of(member)
        reader = csv.reader(
            _noted(text, lines), delimiter=separator, strict=True, **self.dialect(member)
        )
        blanks = " \t\r\n".replace(separator, "")
        for record in reader:
            if len(record) > 1 or any(line.strip(blanks) for line in lines):
                yield reader.line_num, record
            lines.clear()


def tidy(separator: str | None) -> str | None:
    """A separator from the settings, in which \\t means a tab."""
    return "\t" if separator == "\\t" else separator


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Utf8:
    """The bytes of a text file in UTF-8, without a byte order mark, lines ending in \\n or \\r\\n.

    A lone \\r becomes \\n, because after a \\r pandas skips an empty first field and shifts the
    others.

    Attributes:
        head: the first `HEAD_BYTES`.
    """

    def __init__(self, member: Member, stream: IO[bytes], text: TextFormat) -> None:
        encoding = codecs.lookup(text.encoding or "utf-8").name
        self._label, self._setting = str(member), text.setting
        self._source: Readable = stream if encoding == "utf-8" else _Recoded(stream, encoding)
        self.head = self._block()
        if encoding == "utf-8" and self.head.startswith(UTF_16):
            raise UserError(f"{member} is UTF-16 text; set {text.setting}.encoding=utf-16")
        self.head = self._pending = self.head.removeprefix(codecs.BOM_UTF8)

    def read(self, size: int) -> bytes:
        """Between 1 and `size` bytes; none at the end."""
        pending = self._pending or self._block()
        self._pending = pending[size:]
        return pending[:size]

    def _block(self) -> bytes:
        with explained(self._label, self._setting):
            block = self._source.read(HEAD_BYTES)
            while block.endswith(b"\r") and (more := self._source.read(1)):
                block += more
        if b"\r" in block and block.count(b"\r") != block.count(b"\r\n"):
            block = LONE_RETURN.sub(b"\n", block)
        return block


class _Recoded:
    """Converts a stream from another encoding to UTF-8."""

    def __init__(self, stream: IO[bytes], encoding: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._rest = b""

    def read(self, size: int) -> bytes:
        while not self._rest:
            block = self._stream.read(size)
            self._rest = self._decoder.decode(block, final=not block).encode()
            if not block:
                break
        block, self._rest = self._rest[:size], self._rest[size:]
        return block


def _noted(text: Iterable[str], lines: list[str]) -> Iterator[str]:
    for line in text:
        lines.append(line)
        yield line


def lines_of(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """The lines of a stream with their line ends: \\n, \\r\\n or \\r."""
    rest: list[bytes] = []  # joined once, so that a line of gigabytes takes linear time
    while block := read(HEAD_BYTES):
        rest.append(block)
        if b"\n" in block or b"\r" in block:
            lines = b"".join(rest).splitlines(keepends=True)
            rest = [lines.pop()]
            yield from lines
    yield from b"".join(rest).splitlines(keepends=True)
