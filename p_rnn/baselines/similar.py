"""Which items are most similar to which, by their features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p_rnn.baselines.sparse import Sparse
from p_rnn.data.features import BagFeature, DenseFeature, Feature
from p_rnn.memory import require
from p_rnn.ragged import offsets_of, row_of_each

Array = NDArray[Any]
BLOCK = 512  # items whose similarities to all others are computed at a time


def most_similar(
    features: Sequence[Feature],
    popularity: Array,
    items: Array,
    count: int,
    among: Array | None = None,
) -> Sparse:
    """Similarities of some items [M] with the `count` others most similar to each: M rows.

    Similarity is the mean cosine over the features. Items without any similarity are left out, so
    that a row may have fewer than `count` values, or none.

    Args:
        popularity: float [N], at most 1e-9; ties go to the more popular item.
        items: int64 [M] of the items 0..N-1.
        among: bool [N], the items that count as similar; None: all.
    """
    num_items = len(popularity)
    count = min(count, num_items - 1)
    require(
        {f"{count} similar items of {len(items)}": 24.0 * count * len(items)},
        "use fewer (baseline.similar_items)",
    )
    parts = [_Cosine(feature, num_items) for feature in features]
    ties = torch.from_numpy(popularity).float() * 1e3  # at most 1e-6
    others = torch.ones(num_items, dtype=torch.bool) if among is None else torch.from_numpy(among)
    found = [(torch.zeros(0, count), torch.zeros(0, count, dtype=torch.int64))]
    for block in torch.split(torch.from_numpy(items), BLOCK):
        total = torch.stack([part.with_all(block) for part in parts]).mean(dim=0)
        total = torch.where((total > 1e-6) & others, total + ties, 0.0)
        total[torch.arange(len(block)), block] = 0.0
        best = total.topk(count, dim=1)
        found.append((best.values, best.indices))
    values, columns = (torch.cat([f[k] for f in found]).numpy() for k in range(2))
    kept = values > 0
    return Sparse(offsets_of(kept.sum(axis=1)), columns[kept], values[kept].astype(np.float64))


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
