"""Columns of pandas frames as people have them, as the few types that the tables here have."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

import numpy as np
import pandas as pd

from p_rnn.data.readers.lists import RowName, is_list, typed
from p_rnn.data.readers.numbers import EXACT
from p_rnn.settings.errors import UserError

types = pd.api.types


def id_column(column: pd.Series, where: RowName, lists: bool = False) -> pd.Series:
    """Ids as integers (nullable if one is missing) or text.

    Whole floating-point numbers become integers, because pandas makes integers floats where one is
    missing.

    Args:
        lists: whether a cell may be a list of ids.

    Raises:
        UserError: an id that is neither an integer nor text.
    """
    column = _plain_type(column)
    if types.is_bool_dtype(column):
        raise _refused(column, 0, where, "neither a number nor text; store integers or text")
    if types.is_integer_dtype(column):
        return column.astype(np.int64) if _fits(column) else column
    if isinstance(column.dtype, pd.StringDtype):
        return column
    return _series([_id(v, column, k, where, lists) for k, v in enumerate(_cells(column))], column)


def _fits(column: pd.Series) -> bool:
    return str(column.dtype).lower() != "uint64" and not column.isna().any()


def _id(value: Any, column: pd.Series, row: int, where: RowName, lists: bool) -> Any:
    if value is None or type(value) in (int, str):
        return value
    if isinstance(value, float):
        if value.is_integer() and abs(value) < EXACT:
            return int(value)
        raise _refused(column, row, where, "a floating-point number; store integers or text")
    if lists and is_list(value):
        return [_id(plain_cell(part), column, row, where, False) for part in value]
    raise _refused(column, row, where, "neither an integer nor text; store one of these")


def time_column(column: pd.Series, where: RowName) -> pd.Series:
    """Times as numbers, dates or text.

    Raises:
        UserError: durations, truth values and other things that are no times.
    """
    column = _plain_type(column)
    if types.is_datetime64_any_dtype(column) or isinstance(column.dtype, pd.StringDtype):
        return column
    if types.is_numeric_dtype(column) and not types.is_bool_dtype(column):
        return column
    cells = _cells(column)
    for row, cell in enumerate(cells):
        if isinstance(cell, bool) or not isinstance(cell, (_Missing, str, int, float, _Date)):
            raise _refused(column, row, where, "neither a number, a date nor an ISO date as text")
    if any(isinstance(cell, _Date) for cell in cells):
        dates = pd.to_datetime(_series(cells, column), utc=True, format="ISO8601", errors="coerce")
        lost = np.flatnonzero((dates.isna() & column.notna()).to_numpy())
        if len(lost):
            raise _refused(column, int(lost[0]), where, "not a date like the others")
        return dates
    return _series(cells, column)


def property_column(column: pd.Series, where: RowName) -> pd.Series:
    """A property of items: numbers, truth values, dates, text, lists, or float32 vectors.

    Cells with lists of floating-point numbers are vectors, other lists are tags.

    Raises:
        UserError: a cell of another type, or vectors of different lengths.
    """
    column = _plain_type(column)
    if types.is_bool_dtype(column):
        return column.astype(np.float64) if column.isna().any() else column.astype(bool)
    numeric = types.is_numeric_dtype(column) and not types.is_complex_dtype(column)
    if numeric or types.is_datetime64_any_dtype(column):
        return column
    if isinstance(column.dtype, pd.StringDtype):
        return column
    cells = [_value(v, column, k, where) for k, v in enumerate(_cells(column))]
    if any(isinstance(cell, list) for cell in cells):
        return _lists(cells, column, where)
    kinds = {type(cell) for cell in cells if cell is not None}
    if kinds == {bool}:
        return _series(cells, column).astype(np.float64 if None in cells else np.int64)
    if kinds and all(issubclass(kind, _Date) for kind in kinds):
        return pd.to_datetime(_series(cells, column), utc=True)
    return _series(cells, column)


def _value(value: Any, column: pd.Series, row: int, where: RowName) -> Any:
    """A cell as None, a plain value, or a list of plain values without missing ones."""
    if isinstance(value, (set, frozenset)):
        value = sorted(value, key=str)
    if is_list(value):
        parts = [plain_cell(part) for part in value]
        for part in parts:
            if not isinstance(part, (_Missing, str, int, float)):
                raise _refused(column, row, where, "a list of other things than text or numbers")
        return [part for part in parts if part is not None] or None
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, (_Missing, str, int, float, _Date)):
        return value
    raise _refused(column, row, where, "neither a number, text, a date nor a list of these")


def _lists(cells: list[Any], column: pd.Series, where: RowName) -> pd.Series:
    """Lists in cells: float32 vectors [D] if all parts are numbers and one is a float."""
    for row, cell in enumerate(cells):
        if not isinstance(cell, (_Missing, list)):
            raise _refused(column, row, where, "not a list, but other rows have lists")
    parts = {type(part) for cell in cells if cell is not None for part in cell}
    if float not in parts or parts - {float, int}:
        return pd.Series(cells, index=column.index, name=column.name, dtype=object)
    vectors = [None if cell is None else np.array(cell, dtype=np.float32) for cell in cells]
    present = [row for row, vector in enumerate(vectors) if vector is not None]
    width = len(cells[present[0]])
    for row in present:
        if len(cells[row]) != width:
            raise UserError(
                f"{where(row)}: '{column.name}' has {len(cells[row])} numbers, but those before it "
                f"have {width}; all need the same"
            )
    return pd.Series(vectors, index=column.index, name=column.name, dtype=object)


_Missing = type(None)
_Date = datetime.date  # datetimes are dates too


def _plain_type(column: pd.Series) -> pd.Series:
    """The column without the types that pandas has for saving memory."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    if isinstance(column.dtype, (pd.ArrowDtype, pd.SparseDtype)):
        return _series(_cells(column), column)
    return column


def _cells(column: pd.Series) -> list[Any]:
    """The values as Python has them; None where one is missing."""
    return [plain_cell(value) for value in column.tolist()]


def plain_cell(value: Any) -> Any:
    """A value without types of NumPy and pandas; None where it is missing."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    return None if isinstance(value, float) and value != value else value


def _series(cells: list[Any], like: pd.Series) -> pd.Series:
    """`typed` under the name and index of another column."""
    made = typed(cells)
    made.index, made.name = like.index, like.name
    return made


def _refused(column: pd.Series, row: int, where: RowName, what: str) -> UserError:
    value = f"{column.iloc[row]!s:.60}" if len(column) else str(column.dtype)
    return UserError(f"{where(row)}: '{column.name}' is {value}, {what}")
