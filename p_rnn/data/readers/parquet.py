"""Parquet files, read in chunks; their many column types become a few plain ones."""

from __future__ import annotations

import importlib
import io
from collections.abc import Generator, Sequence
from typing import IO, Any

import pandas as pd

from p_rnn.data.readers.files import Member, explained, one_line
from p_rnn.settings.errors import UserError

INDEX = "__index_level_"  # the column in which pandas stores an unnamed index


def names_of(member: Member, stream: IO[bytes]) -> list[str]:
    """The names of the columns; "" for a stored index."""
    names = open_parquet(member, stream).schema_arrow.names
    return ["" if name.startswith(INDEX) else name for name in names]


def parquet_chunks(
    member: Member, stream: IO[bytes], columns: Sequence[str], most_rows: int
) -> Generator[pd.DataFrame, None, None]:
    """Chunks whose index is the row in the file.

    Columns are integers (nullable if one is missing), floats, text, dates, booleans, or lists of
    these. Decimals without a fraction become integers, or text if they do not fit into int64; other
    decimals become floats; bytes become text.

    Raises:
        UserError: a damaged file, or a column of another type.
    """
    file = open_parquet(member, stream)
    first = 0
    arrow = importlib.import_module("pyarrow")
    try:
        for batch in file.iter_batches(batch_size=most_rows, columns=list(columns)):
            index = pd.RangeIndex(first, first + batch.num_rows)
            parts = {name: _plain(batch.column(name), name, member, arrow) for name in columns}
            yield pd.DataFrame(parts).set_axis(index)
            first += batch.num_rows
    except arrow.ArrowException as error:
        raise UserError(f"{member} is damaged ({one_line(error)}); get a new copy") from None


def _plain(column: Any, name: str, member: Member, arrow: Any) -> pd.Series:
    """A column of a batch in one of the types listed in `parquet_chunks`."""
    types = arrow.types
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if types.is_decimal(kind):
        column = _from_decimal(column, arrow)
    elif types.is_date(kind):
        column = column.cast(arrow.timestamp("us" if types.is_date32(kind) else "ms"))
    elif types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        column = _from_bytes(column, name, member, arrow)
    elif not _is_plain(kind, types):
        raise UserError(
            f"{member}: the column '{name}' has type {kind}, not numbers, text, dates or lists of "
            "these; leave it out or convert it"
        )
    integers = types.is_integer(column.type)
    if integers and column.null_count:
        # pandas would convert to floats, which are not exact from 2^53 on.
        name_of_type = str(column.type).replace("uint", "UInt").replace("int", "Int")
        return pd.Series(column.to_pylist(), dtype=name_of_type)
    plain: pd.Series = column.to_pandas()
    return plain


def _is_plain(kind: Any, types: Any) -> bool:
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        inner = kind.value_type
        return types.is_integer(inner) or types.is_floating(inner) or _is_text(inner, types)
    return (
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_timestamp(kind)
        or types.is_null(kind)
        or _is_text(kind, types)
    )


def _is_text(kind: Any, types: Any) -> bool:
    is_view = getattr(types, "is_string_view", lambda kind: False)
    return bool(types.is_string(kind) or types.is_large_string(kind) or is_view(kind))


def _from_decimal(column: Any, arrow: Any) -> Any:
    if column.type.scale > 0:
        return column.cast(arrow.float64())
    try:
        return column.cast(arrow.int64())
    except arrow.ArrowInvalid:
        return column.cast(arrow.string())


def _from_bytes(column: Any, name: str, member: Member, arrow: Any) -> Any:
    try:
        return column.cast(arrow.binary()).cast(arrow.string())
    except arrow.ArrowException:
        raise UserError(
            f"{member}: the column '{name}' has {column.type} data that is not UTF-8; leave it "
            "out or convert it"
        ) from None


def open_parquet(member: Member, stream: IO[bytes]) -> Any:
    """An open parquet file; one in a zip or a compressed file is unpacked in memory."""
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise UserError(
            f"{member} needs pyarrow: pip install pyarrow, or convert it to .csv"
        ) from None
    plain = member.inside is None and member.compression is None
    arrow_error = importlib.import_module("pyarrow").ArrowException
    with explained(str(member)):
        try:
            return parquet.ParquetFile(stream if plain else io.BytesIO(stream.read()))
        except arrow_error as error:
            raise UserError(
                f"{member} is not a parquet file ({one_line(error)}); get a new copy"
            ) from None
