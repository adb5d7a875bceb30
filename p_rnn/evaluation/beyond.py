"""What a ranker recommends, whether right or wrong: coverage, popularity and novelty."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]

# How each figure is printed.
KINDS = {"coverage": ".4f", "popularity": ",.1f", "novelty": ".2f"}


class TopLists:
    """Counts how often each item is in the top-K lists, for several K.

    Attributes:
        counts: {K: int64 [N]}.
    """

    def __init__(self, cutoffs: list[int], num_items: int) -> None:
        self.counts = {k: np.zeros(num_items, dtype=np.int64) for k in cutoffs}

    @property
    def longest(self) -> int:
        return max(self.counts)

    def add(self, items: Tensor) -> None:
        """Add lists [B, `longest`], best item first, -1 where there is none."""
        lists = items.cpu().numpy()
        for k, counts in self.counts.items():
            listed = lists[:, :k]
            counts += np.bincount(listed[listed >= 0], minlength=len(counts))


def beyond_accuracy(counts: dict[int, Array], support: Array, candidates: int) -> dict[str, float]:
    """Means over the top-K lists of all targets; right or wrong, every place counts the same.

    coverage@K = share of the candidate items that are in at least one list: the catalogue coverage
    of Ge et al. (RecSys 2010).
    popularity@K = mean over lists and places of the item's support, as the average recommendation
    popularity of Yin et al. (VLDB 2012), which has ratings for events.
    novelty@K = mean over lists and places of -log2(support / all training events): the
    self-information of Zhou et al. (PNAS 2010), in bits, with events for users (our choice). A cold
    item counts as one event.

    Places of lists that have fewer than K items do not count.

    Args:
        counts: {K: int64 [N]}, how often each item is in the lists.
        support: int64 [N], training events.
        candidates: the items 0..candidates-1 are what could be recommended.
    """
    novelty = -np.log2(np.maximum(support, 1) / max(1, support.sum()))
    result = {}
    for k, times in counts.items():
        places = max(1, times.sum())
        result[f"coverage@{k}"] = float(np.count_nonzero(times) / candidates)
        result[f"popularity@{k}"] = float((times * support).sum() / places)
        result[f"novelty@{k}"] = float((times * novelty).sum() / places)
    return result
