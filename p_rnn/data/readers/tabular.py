"""Tables in text, JSON lines or parquet, in one or more files, read in chunks of bounded memory.

No row is lost silently: the number of rows that pandas returns is compared with the number of
records in the file, and rows that cannot be read are refused with their line.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import IO, Any

import pandas as pd

from p_rnn.data.readers import jsonl, parquet
from p_rnn.data.readers.files import Member, explained, opened
from p_rnn.data.readers.records import count_records, is_name, text_lines
from p_rnn.data.readers.scans import OddIntegers, Records, tapped
from p_rnn.data.readers.text import GUESSED, TextFormat, Utf8
from p_rnn.settings.errors import UserError
from p_rnn.settings.registry import suggest

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", *JSON_SUFFIXES)
CHUNK_ROWS = 1_000_000  # x about 4 columns x 8 bytes = 32 MB of numbers
# In ids and times only an empty field is missing ("NA" may be an id); in properties also these.
MISSING = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "None", "\\N")
# Before pandas 3.1, decimals are read exactly only on request.
PANDAS = tuple(int(part) for part in pd.__version__.split(".")[:2])
EXACT_FLOATS: dict[str, Any] = {} if PANDAS >= (3, 1) else {"float_precision": "round_trip"}
Chunks = Generator[pd.DataFrame, None, None]


@dataclass(frozen=True)
class RawTable:
    """One table in `members`, all with the same columns."""

    members: Sequence[Member]
    text: TextFormat = field(default_factory=TextFormat)

    def columns(self) -> list[str]:
        """The names of the columns in the first member, without unnamed ones."""
        return [name for name in self._names(self.members[0]) if is_name(name)]

    def chunks(
        self,
        columns: Sequence[str],
        dtypes: dict[str, Any],
        properties: Sequence[str] = (),
        *,
        most_rows: int | None = None,
        plain: bool = False,
    ) -> Iterator[tuple[Member, pd.DataFrame]]:
        """Chunks in file order; the index of a chunk is the row number within its member.

        Args:
            columns: the columns to read.
            dtypes: of columns of text files; the others are inferred, chunk by chunk.
            properties: columns in which not only "" but all of `MISSING` mean a missing value.
            most_rows: rows per chunk, if fewer than `CHUNK_ROWS`.
            plain: raise ValueError if a text file may have an integer not in canonical form (007).

        Raises:
            UserError: a damaged file, one that lacks a column or has it twice, a quote that is not
                closed, or a row with more fields than the header; with `properties`, also a row
                with fewer.
            ValueError: with `plain`, a field that may be such an integer.
        """
        most_rows = min(CHUNK_ROWS, most_rows or CHUNK_ROWS)
        wanted = list(dict.fromkeys(columns))
        for member, stream in opened(self.members):
            if member.suffix == ".parquet":
                self._require(wanted, parquet.names_of(member, stream), member)
                chunks = parquet.parquet_chunks(member, stream, wanted, most_rows)
            elif member.suffix in JSON_SUFFIXES:
                chunks = self._json_chunks(member, stream, wanted, most_rows)
            else:
                if properties:
                    count_records(member, self.text, short=True)
                options = {"dtype": dtypes, "chunksize": most_rows}
                chunks = self._text_chunks(member, stream, wanted, properties, options, plain)
            with closing(chunks):  # before the stream is closed, if the caller stops early
                for chunk in chunks:
                    yield member, chunk

    def line(self, member: Member, row: int) -> str:
        """Where a row is: `line 12` of a text file (counting blank ones), `row 11` of a parquet."""
        if member.suffix == ".parquet":
            return f"row {row + 1}"
        if member.suffix in JSON_SUFFIXES:
            return f"line {row + 1}"
        skipped = row + self._has_header
        for _, stream in opened([member]):
            with explained(str(member), self.text.setting):
                records = self.text.records(member, text_lines(member, stream, self.text))
                for line, _ in itertools.islice(records, skipped, skipped + 1):
                    return f"line {line}"
        raise AssertionError(f"{member} has no row {row}")

    def where(self, member: Member) -> Any:
        """A function from the number of a row of a member to its name in messages."""
        return lambda row: f"{member}, {self.line(member, int(row))}"

    @property
    def _has_header(self) -> bool:
        return self.text.names is None

    # --- names ----------------------------------------------------------------------------------

    def _names(self, member: Member) -> list[str]:
        for _, stream in opened([member]):
            if member.suffix == ".parquet":
                return parquet.names_of(member, stream)
            if member.suffix in JSON_SUFFIXES:
                return jsonl.names_of(member, stream, self.text)
            return self._header(member, Utf8(member, stream, self.text).head)
        raise AssertionError("a table has at least one member")

    def _header(self, member: Member, head: bytes) -> list[str]:
        """The names of the columns of a text file that starts with `head`."""
        text = (line.decode("utf-8", errors="replace") for line in io.BytesIO(head))
        try:
            _, first = next(self.text.records(member, text))
        except StopIteration:
            raise UserError(f"{member} is empty; get a new copy or remove it") from None
        except csv.Error:
            if self._has_header:
                count_records(member, self.text)
            raise UserError(f"{member}, line 1 is not a line of a table; get a new copy") from None
        names = self.text.names
        if names is None:
            return first
        if len(first) < len(names):
            raise UserError(
                f"{member}, line 1 has {len(first)} fields, but {self.text.setting}.names has "
                f"{len(names)}; list exactly the columns of the file"
            )
        return list(names) or [str(number) for number in range(len(first))]

    def _require(self, columns: Sequence[str], known: list[str], member: Member) -> None:
        """Refuse a member that lacks one of `columns` or has it twice."""
        setting = self.text.setting
        for column in columns:
            if column in known:
                if known.count(column) > 1:
                    raise UserError(
                        f"{member} has the column '{column}' {known.count(column)} times; rename "
                        "all but the one to be read"
                    )
                continue
            # a name may contain line breaks
            others = " ".join(suggest(column, filter(is_name, known)).split())
            raise UserError(
                f"{member} has no column '{column}'{others} "
                f"({self.guess(member) or _remedy(setting)})"
            )

    def guess(self, member: Member) -> str:
        """Advice on the separator, if the first line seems to use another one; otherwise empty."""
        if member.suffix in (".parquet", *JSON_SUFFIXES):
            return ""
        used = self.text.separator_of(member)
        for _, stream in opened([member]):
            head = Utf8(member, stream, self.text).head.decode("utf-8", errors="replace")
            first = next((line for line in head.splitlines() if line.strip()), "")
            if used not in first:
                for other in GUESSED:
                    if other in first:
                        shown = "\\t" if other == "\t" else other
                        setting = f"{self.text.setting}.separator"
                        if setting.startswith("dataset.features"):
                            setting = f"{self.text.setting}.column_separator"
                        return f"its first line is separated by '{shown}': set {setting}='{shown}'"
        return ""

    # --- text -----------------------------------------------------------------------------------

    def _text_chunks(
        self,
        member: Member,
        stream: IO[bytes],
        columns: list[str],
        properties: Sequence[str],
        options: dict[str, Any],
        plain: bool,
    ) -> Chunks:
        with explained(str(member), self.text.setting):
            source = Utf8(member, stream, self.text)
            names = self._header(member, source.head)
            self._require(columns, names, member)
            places = [names.index(column) for column in columns]
            separator = self.text.separator_of(member)
            records = Records(member, self.text, len(names))
            odd = OddIntegers(separator, places) if plain else None
            num_rows, known = 0, None
            options |= self._options(member, names, places, columns, properties)
            # A pass that looks for odd integers does not count: a second pass always follows.
            try:
                with pd.read_csv(tapped(source, [odd or records]), **options) as reader:
                    for chunk in reader:
                        if odd and odd.found:
                            raise ValueError(f"{member} may contain an odd integer")
                        if known is None and records.found:
                            known = count_records(member, self.text)
                        num_rows += len(chunk)
                        yield chunk
            except pd.errors.ParserError:
                count_records(member, self.text)  # raises a message with the line
                raise
            if odd:
                return
            if known is None:
                known = count_records(member, self.text) if records.found else records.count
        if num_rows != known - self._has_header:
            fix = f"set {self.text.setting}.quoting=none if quotes are ordinary characters in it"
            raise UserError(
                f"{member}: only {num_rows} of its {known - self._has_header} rows can be read; "
                f"{self.text.advice(fix)}"
            )

    def _options(
        self,
        member: Member,
        names: list[str],
        places: list[int],
        columns: list[str],
        properties: Sequence[str],
    ) -> dict[str, Any]:
        """The arguments of `pandas.read_csv`."""
        # Columns that are not read may have any name, or none.
        labels = [name if at in places else f"\0{at}" for at, name in enumerate(names)]
        return {
            "sep": self.text.separator_of(member),
            "header": 0 if self._has_header else None,
            "names": labels,
            "usecols": places,
            "index_col": False,  # otherwise a row longer than the header shifts the columns
            "keep_default_na": False,
            "na_values": {c: list(MISSING) if c in properties else [""] for c in columns},
            "low_memory": False,  # one type per chunk
            **self.text.dialect(member),
            **EXACT_FLOATS,
        }

    # --- JSON lines -----------------------------------------------------------------------------

    def _json_chunks(
        self, member: Member, stream: IO[bytes], columns: list[str], most_rows: int
    ) -> Chunks:
        chunks = jsonl.json_chunks(member, stream, self.text, columns, most_rows)
        for number, chunk in enumerate(chunks):
            absent = [] if number else [c for c in columns if chunk[c].isna().all()]
            if absent:
                # A key may appear later or be null; of a path only the first key is checked.
                known = self._names(member)
                lost = [c for c in absent if c.partition(".")[0] not in known]
                self._require(lost, known, member)
            yield chunk


def _remedy(setting: str) -> str:
    """Advice on the settings that name the columns."""
    if setting.startswith("dataset.features"):
        return f"set {setting}.columns or item"
    if setting == "dataset.item_table":
        return (
            f"set {setting}.item, the column of ids, or {setting}.columns; if the first line of a "
            f"text file does not name its columns, set {setting}.names"
        )
    return (
        "set dataset.columns; if the first line of a text file does not name "
        "its columns, set dataset.names"
    )
