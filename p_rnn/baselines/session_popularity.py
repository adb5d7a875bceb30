"""The most frequent items of the session so far; ties by popularity in training."""

from __future__ import annotations

import torch
from torch import Tensor

from p_rnn.baselines.ranker import HistoryMixin, State, TrainingData


class SessionPopularity(HistoryMixin):
    """score_j = events of j in this session + support_j / (largest support + 1).

    A `Ranker` whose state is the history, see `HistoryMixin`.
    """

    def __init__(self, training: TrainingData) -> None:
        popularity = torch.from_numpy(training.support).to(training.device, torch.float64)
        self.popularity = popularity / (popularity.max() + 1)  # below 1, so it only breaks ties
        self.num_items, self.device = training.num_items, training.device

    def scores(self, state: State, items: slice | Tensor) -> Tensor:
        history = state[0]
        popularity = self.popularity[items]
        if isinstance(items, Tensor):
            ordered = items.sort().values  # duplicates use their first column
            column = torch.searchsorted(ordered, history.contiguous()).clamp(max=len(items) - 1)
            inside = ordered[column] == history
        else:
            column = history - (items.start or 0)
            inside = (column >= 0) & (column < len(popularity))
        counts = popularity.new_zeros(len(history), len(popularity))
        counts.scatter_add_(1, torch.where(inside, column, 0), inside.double())
        if isinstance(items, Tensor):
            counts = counts[:, torch.searchsorted(ordered, items)]
        # A single addition, so that scores of a range and of a list of items are bit-identical.
        return counts.add_(popularity)
