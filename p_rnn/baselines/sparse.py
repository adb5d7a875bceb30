"""Sparse matrices of counts for the baselines: built in chunks, read by rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p_rnn.data.dataset import Sessions
from p_rnn.ragged import offsets_of, place_in_row, ranges, row_of_each

Array = NDArray[Any]
PENDING = 2**23  # entries that are collected before they are summed; 128 MiB


@dataclass(frozen=True)
class Sparse:
    """A matrix in CSR format: row i has values[offsets[i]:offsets[i + 1]] in ascending columns.

    Attributes:
        offsets: int64 [R + 1].
        columns: int64 [nnz].
        values: float64 [nnz].
    """

    offsets: Array
    columns: Array
    values: Array

    @property
    def rows(self) -> Array:
        """int64 [nnz]: the row of each value."""
        return row_of_each(np.diff(self.offsets))

    def entries(self, rows: Array) -> tuple[Array, Array, Array]:
        """The entries of some rows [M]: position in `rows` (0..M-1), column and value of each."""
        starts, sizes = self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows]
        at = ranges(starts, sizes)
        return row_of_each(sizes), self.columns[at], self.values[at]

    def totals(self) -> Array:
        """[R]: the sum of each row."""
        return np.bincount(self.rows, self.values, minlength=len(self.offsets) - 1)

    def strongest(self, count: int) -> Sparse:
        """The `count` largest values of each row; ties go to the smaller column."""
        rows = self.rows
        order = np.lexsort((self.columns, -self.values, rows))
        sizes = np.diff(self.offsets)
        order = order[place_in_row(sizes) < count]
        order.sort()  # back to ascending columns
        return Sparse(offsets_of(np.minimum(sizes, count)), self.columns[order], self.values[order])


class Sums:
    """Sums values by row and column."""

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
        """The sums so far, as a matrix."""
        self._sum()
        rows, columns = np.divmod(self._keys[0], self.shape[1])
        sizes = np.bincount(rows, minlength=self.shape[0])
        return Sparse(offsets_of(sizes), columns, self._values[0])

    def _sum(self) -> None:
        keys = np.concatenate([*self._keys, np.zeros(0, dtype=np.int64)])
        distinct, place = np.unique(keys, return_inverse=True)
        values = np.concatenate([*self._values, np.zeros(0)])
        self._keys = [distinct]
        self._values = [np.bincount(place, values, minlength=len(distinct))]
        self._pending = 0


def distinct_items(sessions: Sessions) -> Sparse:
    """[S, N]: 1 for each item that occurs in a session."""
    session = row_of_each(sessions.lengths)
    most = int(sessions.items.max()) + 1
    session, item = np.divmod(np.unique(session * most + sessions.items), most)
    sizes = np.bincount(session, minlength=sessions.num_sessions)
    return Sparse(offsets_of(sizes), item, np.ones(len(item)))


def transposed(matrix: Sparse, num_columns: int) -> Sparse:
    """The transpose, [C, R]; columns are ascending."""
    order = np.argsort(matrix.columns, kind="stable")
    sizes = np.bincount(matrix.columns, minlength=num_columns)
    return Sparse(offsets_of(sizes), matrix.rows[order], matrix.values[order])


def transitions(sessions: Sessions, num_items: int, steps: int) -> Sparse:
    """[N, N]: how often j follows i at a distance of d <= steps events, weighted by 1 / d."""
    sums = Sums(num_items, num_items)
    session = row_of_each(sessions.lengths)
    items = np.asarray(sessions.items)
    longest = int(sessions.lengths.max()) if sessions.num_sessions else 0
    for d in range(1, min(steps, longest - 1) + 1):
        within = np.flatnonzero(session[:-d] == session[d:])
        for lo in range(0, len(within), PENDING):
            at = within[lo : lo + PENDING]
            sums.add(items[at], items[at + d], np.full(len(at), 1 / d))
    return sums.matrix()


def cooccurrences(baskets: Sparse, num_items: int) -> Sparse:
    """[N, N]: number of sessions with both i and j; zero diagonal."""
    sums = Sums(num_items, num_items)
    sizes = np.diff(baskets.offsets)
    # Chunks of sessions with about PENDING pairs.
    cuts = np.searchsorted(np.cumsum(sizes**2), np.arange(PENDING, (sizes**2).sum(), PENDING))
    for lo, hi in zip([0, *cuts], [*cuts, len(sizes)], strict=True):
        session = lo + row_of_each(sizes[lo:hi])  # of the first item of each pair
        first = slice(baskets.offsets[lo], baskets.offsets[hi])
        i = np.repeat(baskets.columns[first], sizes[session])
        j = baskets.columns[ranges(baskets.offsets[session], sizes[session])]
        other = i != j
        sums.add(i[other], j[other], np.ones(int(other.sum())))
    return sums.matrix()
