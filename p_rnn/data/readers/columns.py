"""Columns of ids, times and numbers: their types, their units, and which values are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from p_rnn.data.readers.files import Member
from p_rnn.data.readers.lists import RowName
from p_rnn.data.readers.tabular import JSON_SUFFIXES
from p_rnn.settings.errors import UserError

UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}  # per second
ZONES = ("UTC", "GMT")  # some programs append them to dates
TYPED = (".parquet", *JSON_SUFFIXES)  # files whose values have types
# Integers in canonical form: "007", "+7" and "7.0" are text, because as integers they would be 7.
INTEGER = r"0|-?[1-9][0-9]{0,18}"


def is_integer(ids: pd.Series, member: Member) -> bool:
    """Whether all ids are int64 integers in canonical form (`INTEGER`).

    Raises:
        UserError: ids that are neither integers nor text, from a JSON or parquet file.
    """
    if pd.api.types.is_integer_dtype(ids):
        return str(ids.dtype).lower() != "uint64"  # values from 2^63 on do not fit into int64
    if member.suffix in TYPED or pd.api.types.is_float_dtype(ids):
        _refuse_odd(ids, member)
        return False
    text = pd.Series(ids.unique(), dtype=str)
    if not bool(text.str.fullmatch(INTEGER).all()):
        return False
    try:
        text.astype(np.int64)
    except (OverflowError, ValueError):
        return False
    return True


def _refuse_odd(ids: pd.Series, member: Member) -> None:
    """Refuse ids that are neither text nor integers, such as 1.5, true or {}."""
    if isinstance(ids.dtype, pd.StringDtype):
        return
    odd = ids[[type(value) not in (int, str) for value in ids]]
    if len(odd):
        place = "row" if member.suffix == ".parquet" else "line"
        value = odd.iloc[0]
        kind = (
            "a floating point number" if isinstance(value, float) else "neither a number nor text"
        )
        raise UserError(
            f"{member}, {place} {int(odd.index[0]) + 1}: the id '{ids.name}' is {value!s:.60}, "
            f"{kind}; store integers or text"
        )


def as_ids(ids: pd.Series, integer: bool) -> pd.Series:
    """Ids as int64 or as str."""
    return ids.astype(np.int64) if integer else ids.astype(str)


def seconds(column: pd.Series, unit: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Times as float64 seconds since 1970, correctly rounded; NaN if they cannot be parsed.

    Integers are split into whole seconds and the rest, because today's nanoseconds exceed 2^53, up
    to which float64 represents every integer.
    """
    if pd.api.types.is_bool_dtype(column):
        return np.full(len(column), np.nan)
    if unit == "iso":
        if pd.api.types.is_numeric_dtype(column):
            return np.full(len(column), np.nan)
        if not pd.api.types.is_datetime64_any_dtype(column):
            column = _without_zone(column)
        dates = pd.to_datetime(column, utc=True, format="ISO8601", errors="coerce")
        microseconds = dates.dt.as_unit("us").astype(np.int64).to_numpy()
        return np.where(dates.isna(), np.nan, microseconds / 1e6)
    numbers = pd.to_numeric(column, errors="coerce")
    if not str(numbers.dtype).lower().startswith("int") or numbers.isna().any():
        return numbers.to_numpy(dtype=np.float64, na_value=np.nan) / UNITS[unit]
    whole, rest = np.divmod(numbers.astype(np.int64), UNITS[unit])
    return whole + rest / UNITS[unit]


def require_integers(
    column: pd.Series, where: RowName, remedy: str = "get a new copy of the file"
) -> None:
    """Refuse a column in which a value is missing or not a 64-bit integer.

    Raises:
        UserError: the first such value; `where` names its row.
    """
    if column.dtype == np.int64:
        return
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    # The column is not int64, so if all values are integers, one of them does not fit into 64 bits.
    refuse_where(
        column,
        ~(numbers == np.floor(numbers)) | (np.abs(numbers) >= 2**63),
        where,
        "an integer",
        remedy,
    )


def refuse_where(
    column: pd.Series,
    bad: NDArray[np.bool_],
    where: RowName,
    kind: str,
    remedy: str = "get a new copy of the file",
) -> None:
    """Refuse the first value that is `bad`: missing, or not of the kind ("an integer") expected."""
    if bad.any():
        at = int(np.argmax(bad))
        value = column.iloc[at]
        what = "is missing" if pd.isna(value) else f"is {str(value)!r}, not {kind}"
        raise UserError(f"{where(column.index[at])}: '{column.name}' {what}; {remedy}")


def _without_zone(dates: pd.Series) -> pd.Series:
    """Dates without the "UTC" or "GMT" that some programs append."""
    present = dates.dropna()
    if not len(present) or not str(present.iloc[0]).rstrip().endswith(ZONES):
        return dates
    return dates.astype(str).str.replace(r"\s*(UTC|GMT)\s*$", "", regex=True).where(dates.notna())
