"""Base classes of the baselines, and the training data that they are fitted to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p_rnn.baselines.sparse import Sparse
from p_rnn.data.dataset import Sessions
from p_rnn.data.features import Feature

Array = NDArray[Any]
State = tuple[Tensor, ...]
# Times popularity, so that equal scores are ordered by popularity.
TIE_BREAK = 1e-9


@dataclass(frozen=True)
class TrainingData:
    """What a baseline is fitted to.

    Attributes:
        sessions: in time order of their first event.
        num_items: N, the number of items that occur in them.
        support: int64 [N].
        features: item features by name, for baselines that use them.
    """

    sessions: Sessions
    num_items: int
    support: Array
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    features: Mapping[str, Feature] = field(default_factory=dict)


class AtOnce(ABC):
    """A `Ranker` that computes the scores of all items at once, from sparse counts on the CPU."""

    at_once = True  # so the evaluator requests whole rows of scores

    def __init__(self, training: TrainingData) -> None:
        self.num_items = training.num_items
        self.device = training.device
        popularity = training.support[: training.num_items].astype(np.float64)
        self.popularity = TIE_BREAK * popularity / (popularity.max() + 1)

    @abstractmethod
    def begin(self, batch: int) -> State:
        """The state of `batch` sessions before their first event."""

    @abstractmethod
    def step(self, items: Tensor, state: State, active: Tensor) -> State:
        """The state after one more item; inactive rows keep theirs."""

    @abstractmethod
    def evidence(self, state: Array) -> Array:
        """float64 [B, N], >= 0: scores without tie-breaking, for states [B, ...]."""

    def scores(self, state: State, items: slice | Tensor) -> Tensor:
        scores = self.evidence(state[0].cpu().numpy()) + self.popularity
        return torch.from_numpy(scores).to(self.device)[:, items]

    def spread(self, place: Array, columns: Array, values: Array, batch: int) -> Array:
        """float64 [B, N]: sums of the values with the same (place, column)."""
        total = np.bincount(place * self.num_items + columns, values, batch * self.num_items)
        # bincount of no values returns integers.
        return total.reshape(batch, self.num_items).astype(np.float64, copy=False)


class LastItem(AtOnce):
    """The evidence is a row of a matrix; state: the last item [B], -1 if there was none.

    Attributes:
        after: [N, N]; row i has the evidence of all items after item i.
    """

    after: Sparse

    def begin(self, batch: int) -> State:
        return (torch.full((batch,), -1, device=self.device),)

    def step(self, items: Tensor, state: State, active: Tensor) -> State:
        return (torch.where(active, items, state[0]),)

    def evidence(self, state: Array) -> Array:
        seen = np.flatnonzero(state >= 0)
        place, columns, values = self.after.entries(state[seen])
        return self.spread(seen[place], columns, values, len(state))


class HistoryMixin:
    """Mixin with the history as state: the items so far [B, T], -1 where a row was inactive."""

    device: torch.device

    def begin(self, batch: int) -> State:
        return (torch.zeros(batch, 0, dtype=torch.int64, device=self.device),)

    def step(self, items: Tensor, state: State, active: Tensor) -> State:
        return (torch.cat([state[0], torch.where(active, items, -1)[:, None]], dim=1),)
