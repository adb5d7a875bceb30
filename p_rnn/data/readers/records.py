"""The slow, exact pass over a text table: counts its records and refuses malformed ones."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import IO

from p_rnn.data.readers.files import Member, explained, opened
from p_rnn.data.readers.scans import tapped
from p_rnn.data.readers.text import TextFormat, Utf8
from p_rnn.settings.errors import UserError


def is_name(name: str) -> bool:
    """Whether a column has a name, unlike an index that pandas has written without one."""
    return bool(name.strip()) and not name.startswith("Unnamed: ")


def text_lines(member: Member, stream: IO[bytes], text: TextFormat) -> Iterator[str]:
    """The lines of a text file with their line ends."""
    plain = tapped(Utf8(member, stream, text), [])
    return io.TextIOWrapper(plain, encoding="utf-8", errors="replace", newline="")


def count_records(member: Member, text: TextFormat, *, short: bool = False) -> int:
    """The number of records of a text file that are not blank, including the header.

    Args:
        short: also refuse rows with fewer fields than the header.

    Raises:
        UserError: a row with a wrong number of fields, a quote that is not closed or is closed in
            the middle of a field, a field that spans lines that look like rows, a NUL byte.
    """
    for _, stream in opened([member]):
        with explained(str(member), text.setting):
            return _Count(member, text, short).run(text_lines(member, stream, text))
    raise AssertionError("one member was opened")


class _Count:
    """Counts and checks the records of one file.

    Attributes:
        lines: the lines of the current record.
        last: the line number of the last of them, from 1.
        width, needed: fields that a row may have at most and must have at least.
    """

    def __init__(self, member: Member, text: TextFormat, short: bool) -> None:
        self.member, self.text, self.short = member, text, short
        self.separator = text.separator_of(member)
        self.lines: list[str] = []
        self.last = self.width = self.needed = 0

    def run(self, lines: Iterator[str]) -> int:
        count = 0
        try:
            for _, record in self.text.records(self.member, self._counted(lines), self.lines):
                if not count:
                    self._measure(self.text.names or record)
                if not self.needed <= len(record) <= self.width:
                    self._check_width(record)
                if len(self.lines) > 1:
                    self._check_lines()
                count += 1
        except csv.Error as error:
            raise self._refusal(error) from None
        return count

    def _counted(self, lines: Iterator[str]) -> Iterator[str]:
        for self.last, line in enumerate(lines, start=1):
            if "\0" in line:
                raise UserError(
                    f"{self.member}, line {self.last} contains a NUL byte; get a new copy"
                )
            yield line

    def _measure(self, names: Sequence[str]) -> None:
        """Sets `width` and `needed`; trailing columns without a name are optional."""
        self.width = len(names)
        self.needed = max((at + 1 for at, name in enumerate(names) if is_name(name)), default=0)

    def _check_width(self, record: list[str]) -> None:
        if not any(record[self.width :]) and not (self.short and len(record) < self.needed):
            return
        setting = self.text.setting
        have = "the header has" if self.text.names is None else f"{setting}.names has"
        fix = f"a field that contains '{self.separator}' must be in double quotes"
        if self.text.quoting == "none":
            fix = f"set {setting}.separator if it is a different one, or fix that line"
        raise UserError(
            f"{self.member}, line {self.last} has {len(record)} fields, but {have} {self.width}; "
            f"{self.text.advice(fix)}"
        )

    def _check_lines(self) -> None:
        full = [line for line in self.lines if line.strip()]
        if len(full) == 1 or self.text.quoting is not None:
            return
        if all(line.count(self.separator) == self.width - 1 for line in full):
            setting = f"{self.text.setting}.quoting"
            fix = self.text.advice(
                f"set {setting}=none if quotes are ordinary characters here, or {setting}=double "
                "if the field really has several lines"
            )
            raise UserError(
                f"{self.member}, line {self._first()}: a quote opens a field that ends in line "
                f"{self.last}, spanning lines that look like rows; {fix}"
            )

    def _first(self) -> int:
        """The line in which the current record begins."""
        return self.last - len(self.lines) + 1

    def _refusal(self, error: csv.Error) -> UserError:
        first = self._first()
        if "field larger" in str(error):
            most = csv.field_size_limit()
            return UserError(
                f"{self.member}, line {first} has a field of more than {most:,} characters; "
                "fix that line"
            )
        setting = f"{self.text.setting}.quoting"
        fix = self.text.advice(
            f"set {setting}=none if quotes are ordinary characters here, {setting}=backslash if "
            '\\" is a quote, or fix that line'
        )
        return UserError(
            f"{self.member} is not a valid table: in line {first} a quote opens a field but none "
            f"closes it before a separator; {fix}"
        )
