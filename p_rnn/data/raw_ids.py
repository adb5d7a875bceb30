"""Raw item ids as somebody types them or has them in an array, in the type of a data set's ids."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
LOWEST, HIGHEST = -(2**63), 2**63 - 1
DIGITS = 20  # of the longest integer, with its sign


def listed(raw_ids: Any) -> list[Any]:
    """The ids of a list, tuple, array or column as Python values."""
    return list(raw_ids.tolist() if hasattr(raw_ids, "tolist") else raw_ids)


def as_integer(value: Any) -> int | None:
    """123, 123.0 and "123" as 123; None for what is no integer id ("0123", text, missing)."""
    if isinstance(value, str):
        if len(value) > DIGITS or not value.removeprefix("-").isdecimal():
            return None
        value = int(value) if str(int(value)) == value else None
    elif isinstance(value, (float, np.floating)) and float(value).is_integer():
        value = int(value)
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        return None
    return int(value) if LOWEST <= value <= HIGHEST else None


def as_text(value: Any) -> str | None:
    """Text as it is, 123 and 123.0 as "123"; None if it is missing."""
    if isinstance(value, str):
        return str(value)
    number = as_integer(value)
    if number is not None:
        return str(number)
    missing = value is None or value != value  # NaN
    return None if missing else str(value)


def integers(raw_ids: Any) -> tuple[Array, Array]:
    """int64 [M] ids, and bool [M]: which of them are integers; the others are 0."""
    if isinstance(raw_ids, np.ndarray) and raw_ids.dtype.kind == "i":
        return raw_ids.astype(np.int64, copy=False), np.ones(len(raw_ids), dtype=bool)
    values = [as_integer(value) for value in listed(raw_ids)]
    known = np.array([value is not None for value in values], dtype=bool)
    return np.array([value or 0 for value in values], dtype=np.int64), known
