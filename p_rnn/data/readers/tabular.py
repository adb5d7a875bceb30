"""Tables in text or parquet, over one or many files, read in chunks of bounded memory."""

from __future__ import annotations

import csv
import importlib
import io
import itertools
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pandas as pd

from p_rnn.data.readers.files import Member, explained, one_line, opened
from p_rnn.data.readers.scans import OddIntegers, WideLines, tapped
from p_rnn.errors import UserError
from p_rnn.registry import suggest

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
CHUNK_ROWS = 1_000_000  # x about 4 columns x 8 bytes = 32 MB of numbers
# In ids and times only an empty field is missing ("NA" may be an id); in properties these too.
MISSING = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "None")
# pandas reads decimals exactly from 3.1 on, and is to be asked for it before.
PANDAS = tuple(int(part) for part in pd.__version__.split(".")[:2])
EXACT_FLOATS: dict[str, Any] = {} if PANDAS >= (3, 1) else {"float_precision": "round_trip"}
Chunks = Generator[pd.DataFrame, None, None]
Records = Generator[tuple[int, list[str]], None, None]


@dataclass(frozen=True)
class Table:
    """One table in `members`, all with the same columns.

    Attributes:
        separator: of text; None = "," for .csv and a tab for .tsv.
        quoting: whether double quotes may enclose fields of text.
    """

    members: Sequence[Member]
    separator: str | None = None
    quoting: bool = True

    def columns(self) -> list[str]:
        """The names of the columns, as the first member has them."""
        for member, stream in opened(self.members[:1]):
            return self._names(member, stream)
        raise AssertionError("a table has at least one member")

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
            properties: columns in which more spellings than "" mean a missing value.
            most_rows: of a chunk, if fewer than usual.
            plain: stop where a text file may spell an integer as nobody writes it (007).

        Raises:
            UserError: a damaged file, one that lacks a column, or a row with more fields than the
                header; where there are `properties`, also a row with fewer.
            ValueError: with `plain`, a field that may be an odd integer.
        """
        most_rows = min(CHUNK_ROWS, most_rows or CHUNK_ROWS)
        wanted = list(dict.fromkeys(columns))
        for member, stream in opened(self.members):
            if member.suffix == ".parquet":
                chunks = self._parquet_chunks(member, stream, wanted, most_rows)
            else:
                if properties:
                    self._check_widths(member, short=True)
                options = self._options(member, wanted, properties)
                options |= {"dtype": dtypes, "chunksize": most_rows}
                chunks = self._text_chunks(member, stream, wanted, options, plain)
            with closing(chunks):  # before the stream below it, if the caller stops early
                for chunk in chunks:
                    yield member, chunk

    def line(self, member: Member, row: int) -> str:
        """Where a row is: `line 12` of a text file (blank lines count), `row 11` of a parquet."""
        if member.suffix == ".parquet":
            return f"row {row + 1}"
        for _, stream in opened([member]):
            with explained(str(member)), closing(self._records(member, stream)) as records:
                # the first record is the header
                for line, _ in itertools.islice(records, row + 1, row + 2):
                    return f"line {line}"
        raise AssertionError(f"{member} has no row {row}")

    def separator_of(self, member: Member) -> str:
        """The separator of a text file.

        Raises:
            UserError: it is neither given nor told by the suffix.
        """
        if self.separator is not None:
            return self.separator
        known = {".csv": ",", ".tsv": "\t"}
        if member.suffix not in known:
            raise UserError(
                f"{member} is not .csv, .tsv, .parquet, .zip or a folder; set dataset.separator"
            )
        return known[member.suffix]

    def _names(self, member: Member, stream: IO[bytes]) -> list[str]:
        if member.suffix == ".parquet":
            return list(_parquet(member, stream).schema_arrow.names)
        with explained(str(member)), closing(self._records(member, stream)) as records:
            for _, names in records:
                return names
        raise UserError(f"{member} is empty; get it again or remove it")

    @property
    def _quoting(self) -> Any:
        return csv.QUOTE_MINIMAL if self.quoting else csv.QUOTE_NONE

    def _records(self, member: Member, stream: IO[bytes]) -> Records:
        """Each record that is not blank, with the number of its last line."""
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="", errors="replace")
        try:
            reader = csv.reader(text, delimiter=self.separator_of(member), quoting=self._quoting)
            for record in reader:
                if record:
                    yield reader.line_num, record
        finally:
            text.detach()  # `stream` is closed by those who opened it

    def _check_widths(self, member: Member, short: bool) -> None:
        """Refuse rows with more fields than the header: an unquoted separator shifts the columns.

        `short`: refuse those with fewer fields as well. It takes longer than reading the numbers
        of a table, so that it is for tables of items, which are small and hold texts, and for
        those in which `WideLines` has found something. pandas does not look.
        """
        for _, stream in opened([member]):
            with explained(str(member)), closing(self._records(member, stream)) as records:
                width = 0
                for line, record in records:
                    width = width or len(record)
                    if (short and len(record) < width) or any(record[width:]):
                        raise UserError(
                            f"{member}, line {line} has {len(record)} fields, but the header has "
                            f"{width}; put values that hold the separator into double quotes"
                        )

    def _options(
        self, member: Member, columns: list[str], properties: Sequence[str]
    ) -> dict[str, Any]:
        """How pandas is to read a text file."""
        return {
            "sep": self.separator_of(member),
            "quoting": self._quoting,
            "usecols": lambda name: name in columns,
            "index_col": False,  # a row longer than the header must not shift the columns
            "keep_default_na": False,
            "na_values": {c: list(MISSING) if c in properties else [""] for c in columns},
            "low_memory": False,  # one type per chunk
        } | EXACT_FLOATS

    def _text_chunks(
        self,
        member: Member,
        stream: IO[bytes],
        columns: list[str],
        options: dict[str, Any],
        plain: bool,
    ) -> Chunks:
        wide = WideLines(options["sep"], self.quoting)
        odd = OddIntegers(options["sep"], lambda: self._positions(member, columns))
        checked = False
        source = tapped(stream, [wide, odd] if plain else [wide])
        with explained(str(member)), pd.read_csv(source, **options) as reader:
            for chunk in reader:
                _require(columns, list(chunk.columns), member, lambda: self._header_of(member))
                if wide.found and not checked:
                    self._check_widths(member, short=False)
                    checked = True
                if plain and (odd.found or wide.found):
                    raise ValueError(f"{member} may hold an odd integer")
                yield chunk

    def _header_of(self, member: Member) -> list[str]:
        for _, stream in opened([member]):
            return self._names(member, stream)
        return []

    def _positions(self, member: Member, columns: list[str]) -> set[int]:
        """Where `columns` stand in the lines of a text file."""
        return {at for at, name in enumerate(self._header_of(member)) if name in columns}

    def _parquet_chunks(
        self, member: Member, stream: IO[bytes], columns: list[str], most_rows: int
    ) -> Chunks:
        file = _parquet(member, stream)
        _require(columns, names := list(file.schema_arrow.names), member, lambda: names)
        first = 0
        arrow_error = importlib.import_module("pyarrow").ArrowException
        try:
            for batch in file.iter_batches(batch_size=most_rows, columns=columns):
                chunk: pd.DataFrame = batch.to_pandas()
                chunk.index = pd.RangeIndex(first, first + len(chunk))
                first += len(chunk)
                yield chunk
        except arrow_error as error:
            raise UserError(f"{member} is damaged ({one_line(error)}); get it again") from None


def headless(
    path: Path, names: Sequence[str], used: Sequence[str], separator: str, dtypes: dict[str, Any]
) -> Chunks:
    """Chunks of a text file without a header, whose row + 1 is the line.

    Raises:
        UserError: an empty or damaged file.
    """
    with (
        explained(str(path)),
        pd.read_csv(
            path,
            sep=separator,
            header=None,
            names=list(names),
            usecols=list(used),
            dtype=dtypes,
            index_col=False,
            skip_blank_lines=False,
            low_memory=False,
            chunksize=CHUNK_ROWS,
        ) as reader,
    ):
        for chunk in reader:
            if chunk.empty:
                raise UserError(f"{path} is empty; get it again")
            yield chunk


def _require(columns: list[str], known: list[str], member: Member, names: Any) -> None:
    """Refuses a member that lacks one of `columns`; `names()` lists all that it has."""
    for column in columns:
        if column not in known:
            others = " ".join(suggest(column, names()).split())  # a name may hold line breaks
            raise UserError(
                f"{member} has no column '{column}'{others} (set dataset.columns or "
                "dataset.item_table; the first line of a text file names its columns)"
            )


def _parquet(member: Member, stream: IO[bytes]) -> Any:
    """An opened parquet file; inside a zip or .gz it is unpacked in memory."""
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise UserError(
            f"{member} needs pyarrow: pip install -e .[parquet], or convert it to .csv"
        ) from None
    plain = member.inside is None and not member.name.lower().endswith(".gz")
    arrow_error = importlib.import_module("pyarrow").ArrowException
    with explained(str(member)):
        try:
            return parquet.ParquetFile(stream if plain else io.BytesIO(stream.read()))
        except arrow_error as error:
            raise UserError(
                f"{member} is no parquet file ({one_line(error)}); get it again"
            ) from None
