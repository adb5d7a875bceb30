"""A table of items: ids of the same type as in the events, and their properties."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from p_rnn.data.readers.columns import INTEGER, TYPED, is_integer, refuse_where, seconds
from p_rnn.data.readers.files import Member
from p_rnn.data.readers.lists import Where, parse_lists
from p_rnn.data.readers.tabular import JSON_SUFFIXES, MISSING, Table
from p_rnn.settings.errors import UserError

log = logging.getLogger(__name__)
EXACT = 2**53  # from here on, float64 no longer holds every integer
EXACT_CHARACTERS = 16  # integers with fewer are below 2^53, which float64 holds
NUMBER = re.compile(r"-?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?|-?(inf|Infinity)")
TRUTH = {"True": 1, "TRUE": 1, "true": 1, "False": 0, "FALSE": 0, "false": 0}


def read_properties(
    table: Table,
    item: str,
    columns: list[str] | None,
    text_columns: Sequence[str] = (),
    *,
    number_columns: Sequence[str] = (),
    on_conflict: str | None = None,
    missing_ids: str | None = None,
) -> pd.DataFrame:
    """The rows of an item table, with ids as text: `item` (str) and the properties.

    Text stays as it is written, but for columns in which every value is a plain number that a
    float holds exactly (`_numbers`), truth values, which become 0 and 1, and lists in brackets.
    Dates of a parquet file become seconds, lists of floats float32 vectors. Missing values are NaN
    or None.

    Args:
        columns: the properties to read; None = all columns with a name but `item`.
        text_columns: properties that are not to be read as numbers.
        number_columns: properties that must be numbers.
        on_conflict: of the rows of an item, "last" keeps the last one and "error" those that
            differ; None: all, in the order of the file.
        missing_ids: "drop" leaves rows without an id out.

    Raises:
        UserError: a missing column, a missing id, no rows, a text in `number_columns`.
    """
    known = table.columns()
    properties = [c for c in (known if columns is None else columns) if c != item]
    if "item" in properties:
        raise UserError(
            f"{table.members[0]}: 'item' cannot name a property, as the ids are in '{item}'; "
            "list the others in dataset.item_table.columns"
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
        raise UserError(f"{table.members[0]} holds no items; check {table.text.setting}")
    if dropped:
        log.info("%s: %d rows without an id are left out", table.members[0], dropped)
    for column in properties:
        frame[column] = _numbers(frame[column], as_text=column in text_columns)
    return frame


def _item_ids(ids: pd.Series, name: str, member: Member, where: Where) -> pd.Series:
    """Ids as text."""
    if ids.isna().any():
        row = ids.index[int(np.argmax(ids.isna().to_numpy()))]
        raise UserError(f"{where(row)}: the id '{name}' is missing; remove or mend that row")
    if member.suffix in TYPED:
        is_integer(ids, member)  # refuses what is no id
    return ids.astype(str)


def _merged(parts: list[pd.DataFrame], on_conflict: str) -> pd.DataFrame:
    """Rows of chunks together, without those that are of no use to `unique_items`."""
    both = pd.concat(parts, ignore_index=True)
    if on_conflict == "last":
        return both[~both["item"].duplicated(keep="last")]
    if object in both.dtypes.to_list():
        return both  # of lists, `unique_items` makes something comparable
    return both[~both.duplicated()]


def _numbers(column: pd.Series, as_text: bool) -> pd.Series:
    """Text in which each value is a number, as numbers, where these keep all that is written.

    "007", "+7" and "1.50" are codes, or may be: they stay text, and a feature of kind number reads
    them all the same. So do integers that float64 does not hold. Lists of floats become vectors.
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
    return numbers if numbers.nunique() == len(texts) else column  # 5 and 5.0 are two codes


def is_text(values: pd.Series) -> bool:
    return isinstance(values.dtype, pd.StringDtype) or (
        values.dtype == object and bool(values.map(lambda value: isinstance(value, str)).all())
    )


def looks_numeric(texts: pd.Series) -> bool:
    """Whether all texts are numbers, and none is a code: begins with a zero that no number needs,
    or is an integer beyond those that float64 holds."""
    if not texts.str.fullmatch(NUMBER).all():
        return False
    whole = texts[texts.str.fullmatch(INTEGER)]
    return bool((whole.str.len() < EXACT_CHARACTERS).all())


def _as_numbers(column: pd.Series, where: Where) -> pd.Series:
    """A property as float64; NaN where it is missing."""
    numbers = pd.to_numeric(column, errors="coerce")
    refuse_where(column, (numbers.isna() & column.notna()).to_numpy(), where, "a number", "mend it")
    return numbers.astype(np.float64)


def exact_floats(column: pd.Series) -> NDArray[np.float64] | None:
    """Numbers as float64, NaN = missing; None where these do not hold every integer."""
    if pd.api.types.is_integer_dtype(column.dtype):
        present = column.dropna()
        if len(present) and not (present.min() > -EXACT and present.max() < EXACT):
            return None
    return column.to_numpy(dtype=np.float64, na_value=np.nan)


def _vectors(column: pd.Series, lists: pd.Series) -> pd.Series:
    """Lists of as many numbers each, of which one has a point, as float32 vectors."""
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
        raise UserError(
            f"{label}: item '{item}' has several rows with different values; keep one, or set "
            f"{setting}.on_conflict=last"
        )
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
    """Text as lists of strings; None where it is missing or empty. A null separator = blanks.

    Lists are left as they are.
    """

    def split(value: object) -> list[str] | None:
        if isinstance(value, list):
            return value
        if not isinstance(value, str):
            return None
        parts = [part.strip() for part in value.split(separator)]
        return [part for part in parts if part] or None

    return pd.Series([split(v) for v in column], index=column.index, dtype=object, name=column.name)


def _plain(column: pd.Series, member: Member, where: Where) -> pd.Series:
    """A property in one of the kinds that the `Reader` protocol knows, or numbers as text."""
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


def _json_values(column: pd.Series, where: Where) -> pd.Series:
    """Values of several types, or lists of plain ones; an empty list is missing."""
    values = []
    for index, value in column.items():
        parts = value if isinstance(value, list) else [value]
        if not all(part is None or isinstance(part, (str, int, float)) for part in parts):
            raise UserError(
                f"{where(index)}: '{column.name}' is {json.dumps(value):.60}, which is no value of "
                "an item; leave it out (dataset.item_table.columns=[...] names the others)"
            )
        if isinstance(value, list):
            value = [part for part in value if part is not None] or None
        values.append(None if isinstance(value, str) and value in MISSING else value)
    return pd.Series(values, index=column.index, dtype=object, name=column.name)


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
