"""Item tables: ids of the same type as in the events, and item properties."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from p_rnn.data.readers.columns import INTEGER, TYPED, is_integer, refuse_where, seconds
from p_rnn.data.readers.files import Member
from p_rnn.data.readers.lists import RowName, parse_lists
from p_rnn.data.readers.numbers import is_text, looks_numeric
from p_rnn.data.readers.tabular import JSON_SUFFIXES, MISSING, RawTable
from p_rnn.settings.errors import UserError

log = logging.getLogger(__name__)
TRUTH = {"True": 1, "TRUE": 1, "true": 1, "False": 0, "FALSE": 0, "false": 0}


def read_properties(
    table: RawTable,
    item: str,
    columns: list[str] | None,
    text_columns: Sequence[str] = (),
    *,
    number_columns: Sequence[str] = (),
    on_conflict: str | None = None,
    missing_ids: str | None = None,
) -> pd.DataFrame:
    """The rows of an item table, with ids as text: `item` (str) and the properties.

    Text stays text, with three exceptions: columns in which every value is a number that a float
    represents exactly (`_numbers`), booleans, which become 0 and 1, and lists in brackets. Dates in
    parquet files become seconds, lists of floats become float32 vectors. Missing values are NaN or
    None.

    Args:
        columns: the properties to read; None = all columns with a name except `item`.
        text_columns: properties that stay text even if they look like numbers.
        number_columns: properties that must be numbers.
        on_conflict: which rows of an item to return: "last" = the last one, "error" = those that
            differ, None = all, in file order.
        missing_ids: "drop" leaves out rows without an id.

    Raises:
        UserError: a missing column, a missing id, no rows, a text in `number_columns`.
    """
    known = table.columns()
    properties = [c for c in (known if columns is None else columns) if c != item]
    if "item" in properties:
        raise UserError(
            f"{table.members[0]}: a property cannot be called 'item' (the ids are in '{item}'); "
            "list the other properties in dataset.item_table.columns"
        )
    dtypes: dict[str, Any] = dict.fromkeys([item, *properties], str)
    parts: list[pd.DataFrame] = []
    dropped = 0
    for member, chunk in table.chunks([item, *properties], dtypes, properties):
        where = table.where(member)
        if missing_ids == "drop":
            dropped += int(chunk[item].isna().sum())
            chunk = chunk[chunk[item].notna()]
        part: dict[str, pd.Series] = {"item": _item_ids(chunk[item], item, member, where)}
        for column in properties:
            if column in number_columns:
                part[column] = _as_numbers(chunk[column], where)
            else:
                part[column] = _plain(chunk[column], member, where)
        parts.append(pd.DataFrame(part))
        if on_conflict is not None:
            parts = [_merged(parts, on_conflict)]
    frame = pd.concat([p for p in parts if len(p)] or [pd.DataFrame()], ignore_index=True)
    if not len(frame):
        raise UserError(f"{table.members[0]} contains no items; check {table.text.setting}")
    if dropped:
        log.info("%s: %d rows without an id are left out", table.members[0], dropped)
    for column in properties:
        frame[column] = _numbers(frame[column], as_text=column in text_columns)
    return frame


def _item_ids(ids: pd.Series, name: str, member: Member, where: RowName) -> pd.Series:
    """Ids as text."""
    if ids.isna().any():
        row = ids.index[int(np.argmax(ids.isna().to_numpy()))]
        raise UserError(f"{where(row)}: the id '{name}' is missing; remove or fix that row")
    if member.suffix in TYPED:
        is_integer(ids, member)  # refuses values that are not ids
    return ids.astype(str)


def _merged(parts: list[pd.DataFrame], on_conflict: str) -> pd.DataFrame:
    """The rows of several chunks, without those that `unique_items` does not need."""
    both = pd.concat(parts, ignore_index=True)
    if on_conflict == "last":
        return both[~both["item"].duplicated(keep="last")]
    if object in both.dtypes.to_list():
        return both  # lists cannot be compared here; `unique_items` can
    return both[~both.duplicated()]


def _numbers(column: pd.Series, as_text: bool) -> pd.Series:
    """Text in which each value is a number, as numbers, if nothing is lost by that.

    "007", "+7" and "1.50" may be codes, so they stay text (a feature of kind number converts them
    anyway). So do integers that float64 does not represent. Lists of floats become vectors.
    """
    values = column.dropna()
    if as_text or not len(values):
        return column
    if isinstance(values.iloc[0], list):
        return _vectors(column, values)
    if not is_text(values):
        return column
    texts = pd.Series(values.unique(), dtype=str)
    if texts.isin(TRUTH).all():
        return column.map(TRUTH).astype(np.float64 if column.isna().any() else np.int64)
    if not looks_numeric(texts):
        return column
    others = texts[~texts.str.fullmatch(INTEGER)]
    if (others != pd.to_numeric(others).astype(float).map(repr)).any():
        return column
    numbers: pd.Series = pd.to_numeric(column)
    return numbers if numbers.nunique() == len(texts) else column  # "5" and "5.0" may be two codes


def _as_numbers(column: pd.Series, where: RowName) -> pd.Series:
    """A property as float64; NaN = missing."""
    numbers = pd.to_numeric(column, errors="coerce")
    refuse_where(column, (numbers.isna() & column.notna()).to_numpy(), where, "a number", "fix it")
    return numbers.astype(np.float64)


def _vectors(column: pd.Series, lists: pd.Series) -> pd.Series:
    """Lists of equally many numbers, at least one with a decimal point, as float32 vectors."""
    if len(set(map(len, lists))) > 1:
        return column
    parts = pd.Series([part for parts in lists for part in parts])
    numeric = is_text(parts) and looks_numeric(parts)
    if not numeric or not parts.str.contains(".", regex=False).any():
        return column
    vectors = [np.array(v, dtype=np.float32) if isinstance(v, list) else None for v in column]
    return pd.Series(vectors, index=column.index, dtype=object, name=column.name)


def unique_items(
    frame: pd.DataFrame, label: str, setting: str = "dataset.item_table"
) -> pd.DataFrame:
    """One row per item: identical rows collapse into the first.

    Raises:
        UserError: an item with rows that differ.
    """
    repeated = frame["item"].duplicated(keep=False)
    if not repeated.any():
        return frame
    comparable = frame[repeated].map(lambda v: v.tobytes() if isinstance(v, np.ndarray) else v)
    rows = comparable.map(lambda v: tuple(v) if isinstance(v, list) else v).drop_duplicates()
    again = rows["item"].duplicated()
    if again.any():
        item = rows.loc[again, "item"].iloc[0]
        raise UserError(
            f"{label}: item '{item}' has several rows with different values; keep one, or set "
            f"{setting}.on_conflict=last"
        )
    return frame[~frame["item"].duplicated()].reset_index(drop=True)


def match_ids(frame: pd.DataFrame, integer: bool, label: str) -> pd.DataFrame:
    """Convert the ids to the type of the ids in the events.

    If the events have integers, no event can have an item such as "A7" or "007": these rows are
    left out, with a warning.

    Raises:
        UserError: no id is an integer.
    """
    if not integer:
        return frame
    fits = frame["item"].str.fullmatch(INTEGER).astype(bool)
    if not fits.any():
        raise UserError(
            f"{label}: item ids in the events are integers, but here they are like "
            f"'{frame['item'].iloc[0]}'; check dataset.item_table.item"
        )
    if not fits.all():
        odd = frame.loc[~fits, "item"]
        log.warning(
            "%s: %d items such as '%s' are left out, because item ids in the events are integers",
            label,
            len(odd),
            odd.iloc[0],
        )
    matched = frame[fits].reset_index(drop=True)
    return matched.assign(item=matched["item"].astype(np.int64))


def split_lists(column: pd.Series, separator: str | None) -> pd.Series:
    """Split text into lists of strings; None if missing or empty. Separator None = whitespace.

    Lists are left as they are.
    """

    def split(value: object) -> list[str] | None:
        if isinstance(value, list):
            return value
        return split_text(value, separator) if isinstance(value, str) else None

    return pd.Series([split(v) for v in column], index=column.index, dtype=object, name=column.name)


def split_text(text: str, separator: str | None) -> list[str] | None:
    """The parts of a text that are not empty; None if there are none."""
    parts = [part.strip() for part in text.split(separator)]
    return [part for part in parts if part] or None


def _plain(column: pd.Series, member: Member, where: RowName) -> pd.Series:
    """A property as one of the types of `Reader.items`; numbers may still be text."""
    if pd.api.types.is_datetime64_any_dtype(column):
        return pd.Series(seconds(column, "iso"), index=column.index)
    if pd.api.types.is_bool_dtype(column):
        return column.astype(np.int64)
    if member.suffix in JSON_SUFFIXES and column.dtype == object:
        return _json_values(column, where)
    present = column.dropna()
    if column.dtype == object and len(present) and isinstance(present.iloc[0], np.ndarray):
        return _arrays(column, present, member)
    if is_text(present):
        if member.suffix in JSON_SUFFIXES:
            column = column.where(~column.isin(MISSING))
        return parse_lists(column, where)
    return column


def _json_values(column: pd.Series, where: RowName) -> pd.Series:
    """Values of mixed types, or lists of plain ones; an empty list is missing."""
    values = []
    for index, value in column.items():
        parts = value if isinstance(value, list) else [value]
        if not all(part is None or isinstance(part, (str, int, float)) for part in parts):
            raise UserError(
                f"{where(index)}: '{column.name}' is {json.dumps(value):.60}, which is not a plain "
                "value or list; leave it out by listing the others in dataset.item_table.columns"
            )
        if isinstance(value, list):
            value = [part for part in value if part is not None] or None
        values.append(None if isinstance(value, str) and value in MISSING else value)
    return pd.Series(values, index=column.index, dtype=object, name=column.name)


def _arrays(column: pd.Series, present: pd.Series, member: Member) -> pd.Series:
    """Lists from a parquet file: float32 vectors of one length, or lists of strings or integers."""
    if present.iloc[0].dtype.kind != "f":
        lists = [None if value is None else list(value.tolist()) for value in column]
        return pd.Series(lists, index=column.index, dtype=object)
    lengths = {len(vector) for vector in present}
    if len(lengths) > 1:
        raise UserError(
            f"{member}: the vectors of '{column.name}' have lengths {sorted(lengths)[:5]}; "
            "all must have the same"
        )
    vectors = [None if value is None else value.astype(np.float32) for value in column]
    return pd.Series(vectors, index=column.index, dtype=object)
