"""Ragged arrays: rows of different lengths, laid out one after the other in a flat array.

Row r of R rows has lengths[r] >= 0 elements, all rows together have E, and row r is
flat[offsets[r] : offsets[r + 1]]. Sessions, bags of tokens and sparse matrices are stored this way.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
BLOCK = 2**22  # 32 MB as int64


def offsets_of(lengths: Array) -> Array:
    """int64 [R + 1]: where each row starts, and the total at the end."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def row_of_each(lengths: Array) -> Array:
    """int64 [E]: the number of the row that each element belongs to; [2, 0, 3] -> [0 0 2 2 2]."""
    return np.repeat(np.arange(len(lengths)), lengths)


def place_in_row(lengths: Array) -> Array:
    """int64 [E]: the place of each element in its row; [2, 0, 3] -> [0 1 0 1 2]."""
    offsets = offsets_of(lengths)
    place = np.arange(offsets[-1])
    place -= np.repeat(offsets[:-1], lengths)
    return place


def ranges(starts: Array, lengths: Array) -> Array:
    """int64 [E]: starts[r], starts[r] + 1, ..., starts[r] + lengths[r] - 1 of each row.

    These are the places of rows of another ragged array, so that flat[ranges(...)] gathers them.
    """
    at = np.repeat(starts - offsets_of(lengths)[:-1], lengths)
    at += np.arange(len(at))
    return at


def counts_of(codes: Array, minlength: int = 0) -> Array:
    """`np.bincount` in blocks, because that copies its input as int64."""
    total = np.zeros(max(int(codes.max()) + 1 if len(codes) else 0, minlength), dtype=np.int64)
    for low in range(0, len(codes), BLOCK):
        total += np.bincount(codes[low : low + BLOCK], minlength=len(total))
    return total


def save_in_blocks(path: Path, dtype: Any, size: int, blocks: Iterable[Array]) -> None:
    """Write a flat array [size] whose values come in blocks; the same file as that of `np.save`."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {**header, "shape": (size,)})
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype=dtype).data)
