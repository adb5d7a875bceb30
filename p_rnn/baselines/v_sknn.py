"""V-SKNN: items of the most similar training sessions (Ludewig & Jannach, UMUAI 2018)."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from p_rnn.baselines.ranker import Array, AtOnce, HistoryMixin, TrainingData
from p_rnn.baselines.sparse import distinct_items, transposed
from p_rnn.ragged import ranges, row_of_each
from p_rnn.settings.declare import about


class VSKNN(HistoryMixin, AtOnce):
    """Vector-multiplication session-kNN with recency sampling and idf.

    An item i of the session s has the weight w_i = (position of its last occurrence) / |s|. Of the
    training sessions that share an item with s, the `sample_size` latest are compared:
    sim(n) = sum of w_i over shared items. The `neighbours` most similar ones (ties go to the later
    one) give score_j = sum of sim(n) w(n) idf_j^idf over the sessions n that contain j, where w(n)
    is the weight of the latest shared item and idf_j = log(sessions / sessions with j). Without
    `repeats`, the items of s get no score.
    """

    def __init__(
        self,
        training: TrainingData,
        *,
        neighbours: Annotated[int, about("most similar sessions to use", low=1)] = 100,
        sample_size: Annotated[int, about("latest sessions to compare", low=1)] = 1000,
        idf: Annotated[float, about("exponent of idf; 0: without", low=0)] = 1.0,
        repeats: Annotated[bool, about("recommend items of the session, too")] = True,
    ) -> None:
        super().__init__(training)
        self.neighbours, self.sample_size, self.repeats = neighbours, sample_size, repeats
        self.baskets = distinct_items(training.sessions)  # [sessions, N]
        self.holders = transposed(self.baskets, self.num_items)  # [N, sessions], in time order
        sessions = len(self.baskets.offsets) - 1
        held = np.maximum(np.diff(self.holders.offsets), 1)
        self.idf = np.log(sessions / held) ** idf

    def evidence(self, state: Array) -> Array:
        row, session, similarity = self._neighbours(*self._candidates(state))
        entry, columns, values = self.baskets.entries(session)
        weight = similarity[entry] * values * self.idf[columns]
        total = self.spread(row[entry], columns, weight, len(state))
        if not self.repeats:
            seen, place = np.nonzero(state >= 0)
            total[seen, state[seen, place]] = 0.0
        return total

    def _candidates(self, state: Array) -> tuple[Array, Array, Array, Array]:
        """Row, session, similarity, and weight of the latest shared item, of sampled sessions.

        Ordered by row, and within a row by time.
        """
        read = state >= 0
        place = read.cumsum(axis=1)  # 1 for the first item
        later = np.zeros(state.shape, dtype=bool)  # whether the item occurs again
        for t in range(state.shape[1] - 1):
            later[:, t] = (state[:, t : t + 1] == state[:, t + 1 :]).any(axis=1)
        row, column = np.nonzero(read & ~later)
        item = state[row, column]
        # At most sample_size sessions per item can be among the latest overall.
        end = self.holders.offsets[item + 1]
        start = np.maximum(self.holders.offsets[item], end - self.sample_size)
        which, at = row_of_each(end - start), ranges(start, end - start)
        # Sorted by (row, session) pair and position, so that the latest shared item comes last.
        many, longest = len(self.baskets.offsets) - 1, state.shape[1] + 1
        keys = (row[which] * many + self.holders.columns[at]) * longest
        keys = np.sort(keys + place[row, column][which])
        pair, place_of = np.divmod(keys, longest)
        if not len(pair):
            return pair, pair, pair.astype(float), pair.astype(float)
        row_of = pair // many
        length = place[:, -1][row_of]
        first = np.flatnonzero(np.diff(pair, prepend=-1))
        last = np.append(first[1:], len(pair)) - 1
        # Sum before dividing, so that equal similarities are exactly equal.
        similarity = np.add.reduceat(place_of, first) / length[first]
        weight = place_of / length
        row_of, session = np.divmod(pair[first], many)
        latest = _from_end(row_of) < self.sample_size
        return row_of[latest], session[latest], similarity[latest], weight[last][latest]

    def _neighbours(
        self, row: Array, session: Array, similarity: Array, weight: Array
    ) -> tuple[Array, Array, Array]:
        """The most similar sessions of each row: row, session, similarity times weight."""
        order = np.lexsort((np.arange(len(row)), similarity, row))
        order = order[_from_end(row[order]) < self.neighbours]
        return row[order], session[order], similarity[order] * weight[order]


def _from_end(row: Array) -> Array:
    """For ascending rows: how many entries of the same row follow each."""
    ends = np.searchsorted(row, row, side="right")
    following: Array = ends - 1 - np.arange(len(row))
    return following
