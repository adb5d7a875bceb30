"""The kinds of dense features: vectors and numbers. See `p_rnn/data/features/kinds.py`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from p_rnn.data.features.values import (
    BLOCK_BYTES,
    Array,
    Column,
    Counts,
    Items,
    Rows,
    State,
    as_rows,
    presence,
)
from p_rnn.settings.declare import about
from p_rnn.settings.errors import Uninformative, UserError

Normalize = Annotated[bool, about("L2-normalise each vector")]
Log = Annotated[bool, about("log(1 + x) before scaling")]


def vector(
    columns: list[Column],
    items: Items,
    folder: Path,
    fitted: State,
    *,
    normalize: Normalize = False,
) -> Counts:
    """Vectors of several columns side by side, [N, D]; a missing one is zero.

    float16 stays float16, anything else becomes float32. The array is never in memory as a whole.

    Raises:
        UserError: a number that is not finite, or an item with values in only some columns.
    """
    parts = _as_wide(columns, items, fitted)
    half = fitted.setdefault("half", all(part.values.dtype == np.float16 for part in parts))
    ends = np.cumsum([part.values.shape[1] for part in parts])
    out = _reserve(folder / "values.npy", (len(items), int(ends[-1])), "<f2" if half else "<f4")
    has = np.zeros((len(parts), len(items)), dtype=bool)
    for k, part in enumerate(parts):
        for rows, at, values in part.blocks():
            with np.errstate(over="ignore"):  # overflows are refused as infinities below
                block = values.astype(out.dtype, copy=False)
            finite = np.isfinite(block).all(axis=1)
            if not finite.all():
                bad = int(np.argmin(finite))
                where = part.where(int(rows[bad]), items.ids[at[bad]])
                raise UserError(f"{where} contains NaN or an infinite value; fix or remove it")
            out[at, ends[k] - block.shape[1] : ends[k]] = block
            has[k, at] = True
    partly = np.flatnonzero(has.any(axis=0) & ~has.all(axis=0))
    if len(partly):
        item = items.ids[partly[0]]
        labels = [parts[k].label for k in np.flatnonzero(~has[:, partly[0]])]
        raise UserError(
            f"item '{item}' has a value in some columns of its vector, but not in {labels[0]}; "
            "complete it, or make each column a feature of its own"
        )
    if normalize:
        step = max(1, BLOCK_BYTES // max(1, 4 * out.shape[1]))
        for low in range(0, len(out), step):
            out[low : low + step] = _unit(out[low : low + step])
    out.flush()
    return presence(has[0], items)


def number(
    columns: list[Column], items: Items, folder: Path, fitted: State, *, log: Log = False
) -> Counts:
    """float32 [N, D]: each column standardised to mean 0 and standard deviation 1; missing = 0.

    Raises:
        UserError: infinite values, values <= -1 with `log`, or a constant column.
    """
    scaled: list[Array] = []
    scales = list(fitted.get("scales", ()))  # of each column
    for k, part in enumerate(_as_wide(columns, items, fitted)):
        x = np.full((len(items), part.values.shape[1]), np.nan)
        for rows, at, values in part.blocks():
            bad = np.isinf(values) | (values <= -1 if log else False)
            if bad.any():
                row, d = (int(v[0]) for v in np.nonzero(bad))
                where = part.where(int(rows[row]), items.ids[at[row]])
                limit = "above -1 (log=true)" if log else "finite"
                raise UserError(f"{where} is {values[row, d]:g}; numbers must be {limit}")
            x[at] = values
        x = np.log1p(x) if log else x
        if k == len(scales):
            scales.append(_scales(x[: items.num_train], part.label))
        scaled.append(_scaled(x, scales[k], part.label))
    fitted["scales"] = scales
    values = np.concatenate(scaled, axis=1)
    has = np.asarray(~np.isnan(values).all(axis=1))
    np.save(folder / "values.npy", np.nan_to_num(values))
    return presence(has, items)


def _reserve(path: Path, shape: tuple[int, int], dtype: str) -> np.memmap[Any, Any]:
    """A new array of zeros on disk, memory-mapped."""
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
    if hasattr(
        os, "posix_fallocate"
    ):  # so that a full disk is an error here and not a SIGBUS later
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return out


def _unit(values: Array) -> Array:
    """[b, D] rows divided by their length; zero rows stay zero.

    Denormal numbers count as zero, whether or not the process flushes them.
    """
    x = values.astype(np.float32)
    tiny = np.finfo(np.float32).tiny
    x[np.abs(x) < tiny] = 0
    x /= np.maximum(np.abs(x).max(axis=1, keepdims=True), tiny)
    length = np.sqrt(np.einsum("nd,nd->n", x, x))[:, None]  # 0, or between 1 and sqrt(D)
    return np.asarray(x / np.where(length > 0, length, 1))


def _as_wide(columns: list[Column], items: Items, fitted: State) -> list[Rows]:
    """The rows of each column; those of later items must be as wide as those of the fitted ones."""
    widths = fitted.get("widths", [None] * len(columns))
    parts = [as_rows(column, items, w) for column, w in zip(columns, widths, strict=True)]
    fitted["widths"] = [part.values.shape[1] for part in parts]
    return parts


def _scales(train: Array, label: str) -> list[list[float]]:
    """[unit, mean, std] of each of the D columns: (x / unit - mean) / std is standardised.

    `train` [num_train, D] are the values of the training items, NaN where they have none.
    """
    scales = []
    for d, x in enumerate(train.T):
        x = x[~np.isnan(x)]
        column = _named(label, d, train)
        if len(x) == 0:
            raise Uninformative(f"{column} has no value for any training item; leave it out")
        if x.min() == x.max():
            raise Uninformative(
                f"{column} is constant ({x[0]:g}) over the training items that have it, so it "
                "carries no information; leave it out"
            )
        unit = np.abs(x).max()  # divided out first, so that no square overflows
        scales.append([float(unit), float((x / unit).mean()), float((x / unit).std())])
    return scales


def _scaled(x: Array, scales: list[list[float]], label: str) -> Array:
    """float32 [N, D] of x [N, D], standardised with the `_scales` of the training items."""
    scaled = np.empty_like(x, dtype=np.float32)
    for d, (unit, mean, std) in enumerate(scales):
        with np.errstate(over="ignore"):  # overflows are refused as infinities below
            scaled[:, d] = (x[:, d] / unit - mean) / std
        if np.isinf(scaled[:, d]).any():
            raise UserError(
                f"{_named(label, d, x)} has a value too far from those of training items to be "
                "scaled; fix it"
            )
    return scaled


def _named(label: str, d: int, x: Array) -> str:
    return f"{label}, column {d + 1}," if x.shape[1] > 1 else label
