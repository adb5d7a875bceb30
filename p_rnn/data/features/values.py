"""Raw values of an item property, and their conversion to numbers, tokens or texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from p_rnn.data.readers.numbers import EXACT
from p_rnn.settings.errors import Uninformative, UserError

Array = NDArray[Any]
Counts = dict[str, int]
State = dict[str, Any]  # what a kind has learned from the training items, see kinds.py
BLOCK_BYTES = 64 * 2**20  # of rows in memory at a time


@dataclass(frozen=True)
class Items:
    """Raw ids [N] of all items; features are fitted to the first `num_train`.

    Of items that come later, when the features are fitted, `num_train` is 0.
    """

    ids: Array
    num_train: int

    def __len__(self) -> int:
        return len(self.ids)


class Matrix(Protocol):
    """R rows of D numbers: an array, memory-mapped or not, or a tensor in a file."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def __getitem__(self, rows: slice, /) -> Array: ...


@dataclass(frozen=True)
class Rows:
    """Numeric values of a property.

    Attributes:
        label: file or property, for messages.
        values: [R, D] integers or floats.
        items: int64 [R], the item index of each row; -1 = unknown item, or no value.
        numbered: whether the rows are those of a file of the user, so that messages name them.
    """

    label: str
    values: Matrix
    items: Array
    numbered: bool = True

    def blocks(self) -> Iterator[tuple[Array, Array, Array]]:
        """(row numbers [b], item indices [b], values [b, D]) of rows with an item, in blocks."""
        R, D = self.values.shape
        step = max(1, BLOCK_BYTES // max(1, D * self.values.dtype.itemsize))
        for low in range(0, R, step):
            used = np.flatnonzero(self.items[low : low + step] >= 0)
            if len(used):
                block = self.values[slice(low, low + step)]
                yield low + used, self.items[low + used], block[used]

    def where(self, row: int, item_id: Any) -> str:
        """The name of a row in messages."""
        place = f"{self.label}, row {row + 1}" if self.numbered else self.label
        return f"{place} (item '{item_id}')"


@dataclass(frozen=True)
class Objects:
    """Values of a property as JSON values [N], in item-index order; None = missing."""

    label: str
    values: list[Any]


Column = Rows | Objects


def objects(label: str, values: list[Any]) -> Objects:
    """`values` with None for every missing one: NaN, blank text, an empty list."""

    def is_value(value: Any) -> bool:
        if isinstance(value, str):
            return bool(value.strip())
        if isinstance(value, float):
            return not math.isnan(value)
        return value is not None and value != []

    return Objects(label, [value if is_value(value) else None for value in values])


def align(ids: Array, items: Items, label: str) -> Array:
    """int64 [R]: the item index of each row, -1 where the data set has no such item.

    Ids are compared as text, so that "007" is not the item 7.

    Raises:
        UserError: an id occurs twice, or none is an item.
    """
    both = [ids, items.ids]
    if any(array.dtype != np.int64 for array in both):
        both = [array.astype(str) for array in both]
    rows = pd.Index(both[0])
    if rows.has_duplicates:
        twice = ids[int(np.argmax(rows.duplicated()))]
        raise UserError(f"{label}: item '{twice}' has more than one row; keep one")
    index = pd.Index(both[1]).get_indexer(rows)
    if not (index >= 0).any():
        like = f" (such as '{ids[0]}')" if len(ids) else ""
        raise UserError(
            f"{label}: none of its {len(ids)} ids{like} is an item of the data set (such as "
            f"'{items.ids[0]}'); check the column or file of the ids"
        )
    return np.asarray(index, dtype=np.int64)


def as_rows(column: Column, items: Items, width: int | None = None) -> Rows:
    """Numbers, or lists of equally many numbers, as rows; text that spells a number is converted.

    Args:
        width: how many numbers a value must have; None = as many as the first.

    Raises:
        UserError: a value that is not a number, or lists of different lengths.
    """
    rows = column if isinstance(column, Rows) else _parsed(column, items)
    if width is None or rows.values.shape[1] == width:
        return rows
    if (rows.items >= 0).any():
        raise UserError(
            f"{column.label} has values of {rows.values.shape[1]} numbers, but the feature was "
            f"fitted to {width}"
        )
    empty = np.empty((0, width), dtype=rows.values.dtype)
    return Rows(column.label, empty, np.empty(0, dtype=np.int64), rows.numbered)


def _parsed(column: Objects, items: Items) -> Rows:
    """The values of `as_rows` from objects."""
    present = [i for i, value in enumerate(column.values) if value is not None]
    rows: list[list[float]] = []
    for i in present:
        value = column.values[i]
        try:
            row = [float(v) for v in (value if isinstance(value, list) else [value])]
        except (TypeError, ValueError, OverflowError):
            raise UserError(
                f"{column.label} has mixed types: item '{items.ids[i]}' has {_short(value)}, which "
                "is not a number; fix it, or use kind=category, tags or text"
            ) from None
        if rows and len(row) != len(rows[0]):
            raise UserError(
                f"{column.label}: item '{items.ids[i]}' has {len(row)} numbers, but those before "
                f"it have {len(rows[0])}; all need the same"
            )
        rows.append(row)
    width = len(rows[0]) if rows else 1
    values = np.array(rows, dtype=np.float64).reshape(-1, width)
    return Rows(column.label, values, np.array(present, dtype=np.int64), numbered=False)


def as_tokens(
    column: Column, items: Items, split: Callable[[str], list[str]], lists: bool
) -> list[list[str]]:
    """[N]: the tokens of each item, an empty list if the value is missing.

    Args:
        split: splits a text into tokens.
        lists: whether a value may be a list.

    Raises:
        UserError: a list where none may be, a vector, or a value that is neither text nor number.
    """
    tokens: list[list[str]] = [[] for _ in range(len(items))]
    if isinstance(column, Rows):
        if column.values.shape[1] != 1:
            raise UserError(f"{column.label} contains vectors; use kind=vector or number")
        for rows, at, values in column.blocks():
            for row, i, value in zip(rows, at, values[:, 0].tolist(), strict=True):
                if not math.isnan(value):
                    tokens[i] = [_token(value, column.where(row, items.ids[i]))]
        return tokens
    for i, value in enumerate(column.values):
        if value is None:
            continue
        where = f"{column.label} (item '{items.ids[i]}')"
        if isinstance(value, str):
            parts = [part.strip() for part in split(value)]
        elif isinstance(value, list):
            if not lists:
                raise UserError(f"{where} is a list, {_short(value)}; use kind=tags")
            parts = [_token(part, where) for part in value]
        else:
            parts = [_token(value, where)]
        tokens[i] = [part for part in parts if part]
    return tokens


def as_texts(column: Column, items: Items) -> list[str]:
    """[N]: the text of each item; lists are joined by spaces; "" if the value is missing."""
    return [" ".join(t) for t in as_tokens(column, items, lambda text: [text], lists=True)]


def presence(has: Array, items: Items) -> dict[str, int]:
    """Counts of items with and without a value (bool [N]).

    Raises:
        Uninformative: there are training items, but none has one.
    """
    if items.num_train and not has[: items.num_train].any():
        raise Uninformative("no training item has a value; leave it out")
    return {"with_value": int(has.sum()), "missing": int((~has).sum())}


def _token(value: Any, where: str) -> str:
    """Text as it is, whole numbers without a fraction (5.0 -> "5")."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float) and math.isfinite(value):
        if not value.is_integer():
            return repr(value)
        if abs(value) < EXACT:
            return str(int(value))
        raise UserError(
            f"{where} is {value:.0f}, but numbers from 2^53 on are not exact in a column with "
            "missing values; store these codes as text"
        )
    raise UserError(f"{where} is {_short(value)}, which is neither a text nor a number; fix it")


def _short(value: Any) -> str:
    return f"{value!r:.60}"
