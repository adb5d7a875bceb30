"""Markov chain that backs off to item features; counts only, nothing is trained."""

from __future__ import annotations

import warnings
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from p_rnn.baselines.markov import Markov
from p_rnn.baselines.ranker import Array, TrainingData
from p_rnn.baselines.sparse import Sparse
from p_rnn.data.features import BagFeature, DenseFeature, Feature
from p_rnn.ragged import offsets_of, row_of_each
from p_rnn.settings.declare import about

BLOCK = 512  # items whose similarities to all others are computed at a time


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
        self.similar = self._similar(training, similar_items)
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

    def _similar(self, training: TrainingData, count: int) -> Sparse:
        count = min(count, self.num_items - 1)
        parts = [_Cosine(f, self.num_items) for f in training.features.values()]
        popularity = torch.from_numpy(self.popularity).float() * 1e3  # at most 1e-6
        found: list[tuple[Tensor, Tensor]] = []
        for lo in range(0, self.num_items, BLOCK):
            items = torch.arange(lo, min(lo + BLOCK, self.num_items))
            total = torch.stack([part.with_all(items) for part in parts]).mean(dim=0)
            total = torch.where(total > 1e-6, total + popularity, 0.0)
            total[torch.arange(len(items)), items] = 0.0
            best = total.topk(count, dim=1)
            found.append((best.values, best.indices))
        values, columns = (torch.cat([f[k] for f in found]).numpy() for k in range(2))
        kept = values > 0
        whole = Sparse(offsets_of(kept.sum(axis=1)), columns[kept], values[kept].astype(np.float64))
        return _rows_sum_to_1(whole)


class _Cosine:
    """Cosine similarities by one feature; 0 for items without a value."""

    def __init__(self, feature: Feature, num_items: int) -> None:
        if isinstance(feature, DenseFeature):
            x = torch.from_numpy(np.asarray(feature.values[:num_items], dtype=np.float32))
            self.matrix = torch.nn.functional.normalize(x, dim=1)
            return
        self.matrix = _unit_rows(feature, num_items)

    def with_all(self, items: Tensor) -> Tensor:
        """[b] -> [b, N]: similarities of some items with all."""
        rows = self.matrix.index_select(0, items)
        return (self.matrix @ rows.to_dense().t()).t()


def _unit_rows(feature: BagFeature, num_items: int) -> Tensor:
    """A bag as a sparse matrix [N, V] with L2-normalised rows."""
    offsets = np.asarray(feature.offsets[: num_items + 1])
    tokens = np.asarray(feature.tokens[: offsets[-1]], dtype=np.int64)
    weights = np.ones(len(tokens), dtype=np.float32)
    if feature.weights is not None:
        weights = np.asarray(feature.weights[: offsets[-1]], dtype=np.float32)
    rows = row_of_each(np.diff(offsets))
    length = np.sqrt(np.bincount(rows, weights**2, minlength=num_items))
    weights = (weights / np.maximum(length[rows], 1e-12)).astype(np.float32)
    index = torch.from_numpy(np.stack([rows, tokens]))
    shape = (num_items, feature.num_tokens)
    values = torch.from_numpy(weights)
    return torch.sparse_coo_tensor(index, values, shape, check_invariants=True).coalesce()


def _rows_sum_to_1(matrix: Sparse) -> Sparse:
    return Sparse(matrix.offsets, matrix.columns, matrix.values / matrix.totals()[matrix.rows])
