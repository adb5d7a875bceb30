"""A table of items: ids of the same type as in the events, and their properties."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd

from p_rnn.data.readers.event_table import INTEGER, is_integer, seconds
from p_rnn.data.readers.files import Member
from p_rnn.data.readers.tabular import Table
from p_rnn.errors import UserError

log = logging.getLogger(__name__)


def read_properties(
    table: Table,
    item: str,
    columns: list[str] | None,
    text_columns: list[str],
    setting: str = "dataset.item_table.path",
) -> pd.DataFrame:
    """All rows of an item table, with ids as text: `item` (str) and the properties.

    Numbers stay numbers, dates become seconds, lists of numbers float32 vectors; the rest is
    text. Empty fields are NaN.

    Args:
        columns: the properties to read; None = all columns but `item`.
        text_columns: properties that are not to be read as numbers.
        setting: what named the table, for messages.

    Raises:
        UserError: a missing column, a missing id, no rows.
    """
    known = table.columns()
    properties = [c for c in (known if columns is None else columns) if c != item]
    if "item" in properties:
        raise UserError(
            f"{table.members[0]}: 'item' cannot name a property, as the ids are in '{item}'; "
            "list the others in dataset.item_table.columns"
        )
    dtypes: dict[str, Any] = dict.fromkeys([item, *text_columns], str)
    parts = []
    for member, chunk in table.chunks([item, *properties], dtypes, properties):
        ids = chunk[item]
        if ids.isna().any():
            row = int(ids.index[int(np.argmax(ids.isna().to_numpy()))])
            where = f"{member}, {table.line(member, row)}"
            raise UserError(f"{where}: the id '{item}' is missing; remove or mend that row")
        if member.suffix == ".parquet":
            is_integer(ids, member)  # refuses floating point numbers
        part = {"item": ids.astype(str)}
        for column in properties:
            part[column] = _plain(chunk[column], member, as_text=column in text_columns)
        parts.append(pd.DataFrame(part))
    parts = [part for part in parts if len(part)]
    if not parts:
        raise UserError(f"{table.members[0]} holds no items; check {setting}")
    mixed = [c for c in properties if len({p[c].dtype.kind in "iuf" for p in parts}) > 1]
    if mixed:  # numbers in one chunk, text in another: text in all, as it is written
        return read_properties(table, item, columns, [*text_columns, *mixed], setting)
    return pd.concat(parts, ignore_index=True)


def unique_items(frame: pd.DataFrame, label: str) -> pd.DataFrame:
    """One row per item: identical rows collapse into the first.

    Raises:
        UserError: rows that contradict each other.
    """
    repeated = frame["item"].duplicated(keep=False)
    if not repeated.any():
        return frame
    comparable = frame[repeated].map(lambda v: v.tobytes() if isinstance(v, np.ndarray) else v)
    rows = comparable.map(lambda v: tuple(v) if isinstance(v, list) else v).drop_duplicates()
    again = rows["item"].duplicated()
    if again.any():
        item = rows.loc[again, "item"].iloc[0]
        raise UserError(f"{label}: item '{item}' has several rows with different values; keep one")
    return frame[~frame["item"].duplicated()].reset_index(drop=True)


def match_ids(frame: pd.DataFrame, integer: bool, label: str) -> pd.DataFrame:
    """The frame with its ids in the type of the events' ids.

    Where the events have integers, no event can have an item such as "A7" or "007": these rows
    are left out, with a warning.

    Raises:
        UserError: no id at all is an integer.
    """
    if not integer:
        return frame
    fits = frame["item"].str.fullmatch(INTEGER).astype(bool)
    if not fits.any():
        raise UserError(
            f"{label}: the items of the events are integers, but those here are like "
            f"'{frame['item'].iloc[0]}'; check dataset.item_table.item"
        )
    if not fits.all():
        odd = frame.loc[~fits, "item"]
        log.warning(
            "%s: %d items such as '%s' are left out, as the items of the events are integers",
            label,
            len(odd),
            odd.iloc[0],
        )
    matched = frame[fits].reset_index(drop=True)
    return matched.assign(item=matched["item"].astype(np.int64))


def split_lists(column: pd.Series, separator: str | None) -> pd.Series:
    """Text as lists of strings; None where it is missing or empty. A null separator = blanks."""

    def split(value: object) -> list[str] | None:
        if not isinstance(value, str):
            return None
        parts = [part.strip() for part in value.split(separator)]
        return [part for part in parts if part] or None

    return pd.Series([split(v) for v in column], index=column.index, dtype=object, name=column.name)


def _plain(column: pd.Series, member: Member, as_text: bool) -> pd.Series:
    """A property in one of the kinds that the `Reader` protocol knows."""
    if pd.api.types.is_datetime64_any_dtype(column):
        return pd.Series(seconds(column, "iso"), index=column.index)
    if pd.api.types.is_bool_dtype(column):
        return column.astype(np.int64)
    present = column.dropna()
    if column.dtype == object and len(present) and isinstance(present.iloc[0], np.ndarray):
        return _arrays(column, present, member)
    if as_text:
        return column.astype(str).where(column.notna())
    return column


def _arrays(column: pd.Series, present: pd.Series, member: Member) -> pd.Series:
    """Lists of a parquet file: float32 vectors of one length, or lists of strings or integers."""
    if present.iloc[0].dtype.kind != "f":
        lists = [None if value is None else list(value.tolist()) for value in column]
        return pd.Series(lists, index=column.index, dtype=object)
    lengths = {len(vector) for vector in present}
    if len(lengths) > 1:
        raise UserError(
            f"{member}: the vectors of '{column.name}' have lengths {sorted(lengths)[:5]}; "
            "all need the same"
        )
    vectors = [None if value is None else value.astype(np.float32) for value in column]
    return pd.Series(vectors, index=column.index, dtype=object)
