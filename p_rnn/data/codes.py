"""Raw ids as numbers: millions of distinct ids from chunks, in as little memory as they need."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from p_rnn.memory import require
from p_rnn.settings.errors import UserError

Array = NDArray[Any]
BLOCK = 2**20  # ids handled at a time, where a copy of all would take too much memory
LONGEST_ID = 10_000  # characters
WIDE = 128  # ids that are longer are not packed, as all would take as much
FACTOR = np.uint64(0x9E3779B97F4A7C15)  # of the hash of packed ids


class Codes:
    """Numbers raw ids in order of first appearance, over chunks.

    Each chunk is numbered on its own; only its distinct ids are kept, and these are numbered
    together at the end. A Python object per event would take gigabytes for millions of sessions.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._codes: list[Array] = []  # int32 [rows], codes into the ids of the same chunk
        self._ids: list[Array | pd.Index[Any]] = []

    def add(self, values: pd.Series[Any]) -> None:
        """Add a chunk.

        Raises:
            UserError: an id of more than `LONGEST_ID` characters.
        """
        codes, ids = pd.factorize(values)
        self._codes.append(codes.astype(np.int32))
        self._ids.append(packed(pd.Index(ids), self.name))

    def take(self) -> tuple[Array, Array | pd.Index[Any]]:
        """int32 [E] codes of all rows, and the ids that they index; empties this object."""
        sizes = [len(ids) for ids in self._ids]
        number, ids = _numbered(self._ids)
        self._ids.clear()
        codes = np.empty(sum(map(len, self._codes)), dtype=np.int32)
        row = first = 0
        self._codes.reverse()
        for size in sizes:
            part = self._codes.pop()  # which frees it
            np.take(number[first : first + size], part, out=codes[row : row + len(part)])
            row, first = row + len(part), first + size
        return codes, ids


def packed(ids: pd.Index[Any], name: str) -> Array | pd.Index[Any]:
    """Text in ASCII as bytes of a fixed width; other ids as they are."""
    if pd.api.types.is_integer_dtype(ids.dtype) or not len(ids):
        return ids
    lengths = ids.str.len().to_numpy(dtype=np.int64)
    longest = int(lengths.max())
    if longest > LONGEST_ID:
        raise UserError(
            f"the {name} id '{ids[int(np.argmax(lengths))][:40]}...' has {longest:,} characters, "
            f"and an id has at most {LONGEST_ID:,}; check the separator and quotes, or fix that row"
        )
    if longest > WIDE:
        return ids
    try:
        small: Array = ids.to_numpy(dtype=object).astype(f"S{max(longest, 1)}")
    except UnicodeEncodeError:
        return ids
    # NumPy takes NUL characters at the end for padding, so that two ids could become one.
    whole = int(np.char.str_len(small).sum()) == int(lengths.sum())
    return small if whole else ids


def _numbered(parts: list[Array | pd.Index[Any]]) -> tuple[Array, Array | pd.Index[Any]]:
    """int32: the number of each id of all parts, in order of first appearance; and the ids."""
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    if len(arrays) == len(parts):
        found = _numbered_bytes(arrays)
        if found is not None:
            return found
    plain = [
        pd.Index(as_stored(part).astype(object)) if isinstance(part, np.ndarray) else part
        for part in parts
    ]
    number, ids = pd.factorize(plain[0].append(plain[1:]))
    return number.astype(np.int32), pd.Index(ids)


def _numbered_bytes(parts: list[Array]) -> tuple[Array, Array] | None:
    """`_numbered` of packed ids, by their hashes; None if two ids have the same hash."""
    longest = max(part.dtype.itemsize for part in parts)
    number, distinct = pd.factorize(np.concatenate([_hashes(part, longest) for part in parts]))
    number, count = number.astype(np.int32), len(distinct)
    del distinct
    first = np.empty(count, dtype=np.int64)  # where each id appears first, ascending
    first[number[::-1]] = np.arange(len(number) - 1, -1, -1)  # the last one that is written stays
    ids = np.empty(count, dtype=f"S{longest}")
    low = 0
    for part in parts:
        high = low + len(part)
        own = slice(*np.searchsorted(first, (low, high)))
        ids[own] = part[first[own] - low]
        if not np.array_equal(ids[number[low:high]], part):
            return None
        low = high
    return number, ids


def _hashes(ids: Array, width: int) -> Array:
    """uint64: a hash of each id, the same in arrays of any width."""
    words = -(-width // 8)
    columns = ids.astype(f"S{8 * words}").view(np.uint64).reshape(len(ids), words)
    total = np.full(len(ids), FACTOR)
    for k in range(words):
        total ^= columns[:, k]
        total *= FACTOR
        total ^= total >> np.uint64(29)
    return total


def plain_ids(ids: Array | pd.Index[Any], name: str, kind: str = "U") -> Array:
    """Integers as int64, text as fixed-width strings of the length of the longest id.

    Args:
        kind: "S" to leave packed ids as they are.

    Raises:
        UserError: all ids together would take more memory than there is.
    """
    if isinstance(ids, np.ndarray):
        return ids if kind == "S" else as_stored(ids)
    if pd.api.types.is_integer_dtype(ids.dtype):
        return ids.to_numpy(dtype=np.int64)
    width = max(int(ids.str.len().max()), 1)
    require(
        {f"{len(ids):,} {name} ids of {width} characters": 4.0 * len(ids) * width},
        "use shorter ids",
    )
    plain = np.empty(len(ids), dtype=f"<U{width}")
    for low in range(0, len(ids), BLOCK):
        plain[low : low + BLOCK] = ids[low : low + BLOCK].to_numpy(dtype=object)
    return plain


def as_stored(ids: Array) -> Array:
    """Raw ids in the type in which they are written: text as NumPy's fixed-width strings."""
    return ids.astype(f"U{ids.dtype.itemsize}") if ids.dtype.kind == "S" else ids
