"""Item-kNN: items that occur in the same sessions as the last item."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from p_rnn.baselines.ranker import LastItem, TrainingData
from p_rnn.baselines.sparse import Sparse, cooccurrences, distinct_items
from p_rnn.settings.declare import about


class ItemKNN(LastItem):
    """score_j = c_ij / sqrt((s_i + shrinkage)(s_j + shrinkage)), i being the last item (P).

    c_ij = number of sessions with both items, s_i = number of sessions with item i; only the
    `neighbours` items most similar to i get a score. The paper has shrinkage 20, 100 neighbours.
    """

    def __init__(
        self,
        training: TrainingData,
        *,
        neighbours: Annotated[int, about("most similar items to use", low=1)] = 100,
        shrinkage: Annotated[float, about("added to the support of each item", low=0)] = 20.0,
    ) -> None:
        super().__init__(training)
        baskets = distinct_items(training.sessions)
        counts = cooccurrences(baskets, self.num_items)
        of_item = np.bincount(baskets.columns, minlength=self.num_items) + shrinkage
        similarity = counts.values / np.sqrt(of_item[counts.rows] * of_item[counts.columns])
        self.after = Sparse(counts.offsets, counts.columns, similarity).strongest(neighbours)
