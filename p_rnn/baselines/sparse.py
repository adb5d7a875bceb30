"""Sparse matrices of counts, as the baselines need them: built by chunks, read by rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p_rnn.data.dataset import Sessions

Array = NDArray[Any]
PENDING = 2**23  # pairs that are collected before they are summed up; 128 MiB


@dataclass(frozen=True)
class Sparse:
    """A matrix of which row i holds values[offsets[i]:offsets[i + 1]] in ascending `columns`.

    Attributes:
        offsets: int64 [R + 1]; `columns`: int64 [nnz]; `values`: float64 [nnz].
    """

    offsets: Array
    columns: Array
    values: Array

    @property
    def rows(self) -> Array:
        """The row of each value, [nnz]."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def entries(self, rows: Array) -> tuple[Array, Array, Array]:
        """Of rows [M], one after the other: number of the row in 0..M-1, columns and values."""
        place, at = ragged(self.offsets, rows)
        return place, self.columns[at], self.values[at]

    def totals(self) -> Array:
        """Sum of each row, [R]."""
        return np.bincount(self.rows, self.values, minlength=len(self.offsets) - 1)

    def strongest(self, count: int) -> Sparse:
        """The largest values of each row; of equal ones those that stand first."""
        rows = self.rows
        order = np.lexsort((self.columns, -self.values, rows))
        order = order[np.arange(len(order)) - self.offsets[rows] < count]
        order.sort()  # back to ascending columns
        sizes = np.minimum(np.diff(self.offsets), count)
        return Sparse(starts_of(sizes), self.columns[order], self.values[order])


class Sums:
    """Adds values up by row and column."""

    def __init__(self, num_rows: int, num_columns: int) -> None:
        self.shape = num_rows, num_columns
        self._keys: list[Array] = []
        self._values: list[Array] = []
        self._pending = 0

    def add(self, rows: Array, columns: Array, values: Array) -> None:
        self._keys.append(rows.astype(np.int64) * self.shape[1] + columns)
        self._values.append(values.astype(np.float64))
        self._pending += len(rows)
        if self._pending > PENDING:
            self._sum()

    def matrix(self) -> Sparse:
        """The sums so far."""
        self._sum()
        rows, columns = np.divmod(self._keys[0], self.shape[1])
        sizes = np.bincount(rows, minlength=self.shape[0])
        return Sparse(starts_of(sizes), columns, self._values[0])

    def _sum(self) -> None:
        keys = np.concatenate([*self._keys, np.zeros(0, dtype=np.int64)])
        distinct, place = np.unique(keys, return_inverse=True)
        values = np.concatenate([*self._values, np.zeros(0)])
        self._keys = [distinct]
        self._values = [np.bincount(place, values, minlength=len(distinct))]
        self._pending = 0


def starts_of(sizes: Array) -> Array:
    """int64 [R + 1], where rows of these sizes begin."""
    starts: Array = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return starts


def ragged(offsets: Array, rows: Array) -> tuple[Array, Array]:
    """Of rows [M], one after the other: number of the row in 0..M-1, and places of its entries."""
    return spans(offsets[rows], offsets[rows + 1])


def spans(starts: Array, ends: Array) -> tuple[Array, Array]:
    """The places of spans [start, end), one after the other, and the number of the span."""
    sizes = ends - starts
    place = np.repeat(np.arange(len(starts)), sizes)
    first = np.cumsum(sizes) - sizes
    return place, np.arange(len(place)) - (first - starts)[place]


def distinct_items(sessions: Sessions) -> Sparse:
    """[S, N]: the items of each session, each once; values 1."""
    session = np.repeat(np.arange(sessions.num_sessions), sessions.lengths)
    most = int(sessions.items.max()) + 1
    session, item = np.divmod(np.unique(session * most + sessions.items), most)
    sizes = np.bincount(session, minlength=sessions.num_sessions)
    return Sparse(starts_of(sizes), item, np.ones(len(item)))


def transposed(matrix: Sparse, num_columns: int) -> Sparse:
    """The columns of a matrix as rows."""
    order = np.argsort(matrix.columns, kind="stable")
    sizes = np.bincount(matrix.columns, minlength=num_columns)
    return Sparse(starts_of(sizes), matrix.rows[order], matrix.values[order])


def transitions(sessions: Sessions, num_items: int, steps: int) -> Sparse:
    """[N, N]: how often j follows i, weighted 1 / d at a distance of d <= steps events."""
    sums = Sums(num_items, num_items)
    session = np.repeat(np.arange(sessions.num_sessions), sessions.lengths)
    items = np.asarray(sessions.items)
    for d in range(1, steps + 1):
        within = np.flatnonzero(session[:-d] == session[d:])
        for lo in range(0, len(within), PENDING):
            at = within[lo : lo + PENDING]
            sums.add(items[at], items[at + d], np.full(len(at), 1 / d))
    return sums.matrix()


def cooccurrences(baskets: Sparse, num_items: int) -> Sparse:
    """[N, N]: sessions in which i and j both occur, for i other than j."""
    sums = Sums(num_items, num_items)
    sizes = np.diff(baskets.offsets)
    # Chunks of sessions with about PENDING pairs.
    cuts = np.searchsorted(np.cumsum(sizes**2), np.arange(PENDING, (sizes**2).sum(), PENDING))
    for lo, hi in zip([0, *cuts], [*cuts, len(sizes)], strict=True):
        session = np.repeat(np.arange(lo, hi), sizes[lo:hi])  # of each first item
        first = np.arange(baskets.offsets[lo], baskets.offsets[hi])
        place, second = ragged(baskets.offsets, session)
        i, j = baskets.columns[first[place]], baskets.columns[second]
        other = i != j
        sums.add(i[other], j[other], np.ones(int(other.sum())))
    return sums.matrix()
