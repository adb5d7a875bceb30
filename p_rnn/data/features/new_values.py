"""Columns of a frame in memory, as the columns of an item table that was read from a file."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from p_rnn.data.readers.cells import plain_cell
from p_rnn.data.readers.columns import seconds
from p_rnn.data.readers.lists import looks_like_list, parse_list, typed
from p_rnn.data.readers.numbers import spells_number
from p_rnn.data.readers.properties import TRUTH, split_text
from p_rnn.data.readers.tabular import MISSING


def frame_property(column: pd.Series) -> pd.Series:
    """A column as numbers, text, or objects: lists, float vectors and mixed values.

    As from a parquet file, booleans become 0 and 1, and dates seconds. The index is 0..M-1.
    """
    column = column.reset_index(drop=True)
    if pd.api.types.is_datetime64_any_dtype(column):
        return pd.Series(seconds(column, "iso"))
    if not (isinstance(column.dtype, np.dtype) and column.dtype.kind in "iufb"):
        column = typed([_cell(value) for value in column.tolist()])
    return column.astype(np.int64) if pd.api.types.is_bool_dtype(column) else column


def lists_of(column: pd.Series, separator: str | None) -> pd.Series:
    """A column of lists: text in brackets is parsed, other text split unless the separator is None.

    Anything else stays as it is.
    """

    def split(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        parts = parse_list(value) if looks_like_list(value) else None
        if parts is None and separator is not None:
            return split_text(value, separator)
        return value if parts is None else parts

    return pd.Series([split(value) for value in column], dtype=object)


def numbers_of(column: pd.Series, dtype: np.dtype[Any]) -> pd.Series:
    """A column of numbers, or of vectors [D] of a floating point type, as far as it can be one.

    Text that spells a number or a list of numbers is converted, unless it may be a code ("007").
    Vectors without any number are missing.
    """
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column
    values = [_number(value, dtype) for value in column.tolist()]
    shapes = {np.shape(value) for value in values if value is not None}
    vectors = len(shapes) == 1 and all(v is None or isinstance(v, np.ndarray) for v in values)
    if vectors:
        values = [None if v is None or np.isnan(v).all() else v for v in values]
        return pd.Series(values, dtype=object)
    return typed([v.tolist() if isinstance(v, np.ndarray) else v for v in values])


def _cell(value: Any) -> Any:
    """A value without types of NumPy and pandas, except for vectors; None = missing."""
    value = plain_cell(value)
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "f" and value.ndim == 1:
            return value
        return _cell(value.tolist())
    if isinstance(value, (set, frozenset)):
        value = sorted(value, key=str)
    if isinstance(value, (list, tuple)):
        parts = [part.item() if isinstance(part, np.generic) else part for part in value]
        return [part for part in parts if part is not None and part is not pd.NA]
    return value


def _number(value: Any, dtype: np.dtype[Any]) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, str):
        if value in MISSING:
            return None
        if looks_like_list(value):
            value = parse_list(value) or value
        elif value in TRUTH:
            return TRUTH[value]
        elif spells_number(value):
            return float(value)
    if isinstance(value, (list, np.ndarray)) and len(value) and dtype.kind == "f":
        try:
            with np.errstate(over="ignore"):  # infinities are refused by the kinds
                vector = np.asarray(value, dtype=dtype)
        except (ValueError, TypeError):
            return value
        return vector if vector.ndim == 1 else value
    return value
