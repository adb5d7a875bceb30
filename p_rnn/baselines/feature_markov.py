"""Markov chain that backs off to item features; counts only, nothing is trained."""

from __future__ import annotations

import warnings
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from p_rnn.baselines.markov import Markov
from p_rnn.baselines.ranker import Array, TrainingData
from p_rnn.baselines.similar import most_similar
from p_rnn.baselines.sparse import Sparse
from p_rnn.settings.declare import about


class FeatureMarkov(Markov):
    """score_j = c_ij + backoff * b_ij, i being the last item and c the counts of `Markov`.

    b_ij is what follows items similar to i, and what is similar to that. Row i of S has the
    similarities of the `similar_items` items most similar to i, row i of C the counts; all rows are
    normalised to sum to 1. Then b = S C (1 + S) / 2, a distribution. Similarity is the mean cosine
    over the features; ties go to the more popular item.
    """

    reads_features = True

    def __init__(
        self,
        training: TrainingData,
        *,
        steps: Annotated[int, about("largest distance of a pair, in events", low=1)] = 1,
        similar_items: Annotated[int, about("most similar items to use", low=1)] = 20,
        backoff: Annotated[float, about("weight of similar items, in events", low=0)] = 1.0,
    ) -> None:
        super().__init__(training, steps=steps)
        self.backoff = backoff
        features = list(training.features.values())
        similar = most_similar(features, self.popularity, np.arange(self.num_items), similar_items)
        self.similar = _rows_sum_to_1(similar)
        self.follows = _rows_sum_to_1(self.after)
        self.onward = self._onward()

    def evidence(self, state: Array) -> Array:
        total = super().evidence(state)
        seen = np.flatnonzero(state >= 0)
        last, place = np.unique(
            state[seen], return_inverse=True
        )  # many sessions have the same last item
        row, item, like = self.similar.entries(last)
        entry, following, share = self.follows.entries(item)
        first = self.spread(row[entry], following, like[entry] * share, len(last))
        fallback = (self.onward @ torch.from_numpy(first.T)).numpy().T
        total[seen] += self.backoff * fallback[place]
        return total

    def _onward(self) -> Tensor:
        """(1 + S)' / 2, [N, N]: half stays with an item, half goes to items similar to it.

        If there are none, all of it stays.
        """
        rows, columns, own = self.similar.rows, self.similar.columns, np.arange(self.num_items)
        stays = np.where(np.diff(self.similar.offsets) == 0, 1.0, 0.5)
        index = torch.from_numpy(np.stack([np.append(columns, own), np.append(rows, own)]))
        values = torch.from_numpy(np.append(self.similar.values / 2, stays))
        shape = (self.num_items, self.num_items)
        matrix = torch.sparse_coo_tensor(index, values, shape, check_invariants=True)
        with warnings.catch_warnings():  # that CSR is in beta; its products are five times faster
            warnings.simplefilter("ignore", UserWarning)
            return matrix.to_sparse_csr()


def _rows_sum_to_1(matrix: Sparse) -> Sparse:
    return Sparse(matrix.offsets, matrix.columns, matrix.values / matrix.totals()[matrix.rows])
