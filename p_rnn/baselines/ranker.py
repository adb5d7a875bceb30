"""What the baselines have in common: what they are fitted to, and how they rank."""

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
# Items without evidence stand behind all others, in the order of their popularity.
TIE_BREAK = 1e-9


@dataclass(frozen=True)
class Training:
    """What a baseline learns from.

    Attributes:
        sessions: in time order of their first event.
        num_items: N, the items that occur in them.
        support: int64 [N].
        features: of items, for those that read any.
    """

    sessions: Sessions
    num_items: int
    support: Array
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    features: Mapping[str, Feature] = field(default_factory=dict)


class AtOnce(ABC):
    """A `Ranker` that makes the scores of all items in one go, out of sparse counts on the CPU."""

    at_once = True  # the evaluator asks for whole rows of scores

    def __init__(self, training: Training) -> None:
        self.num_items = training.num_items
        self.device = training.device
        popularity = training.support[: training.num_items].astype(np.float64)
        self.popularity = TIE_BREAK * popularity / (popularity.max() + 1)

    @abstractmethod
    def begin(self, batch: int) -> State:
        """The state of sessions without an event."""

    @abstractmethod
    def step(self, items: Tensor, state: State, active: Tensor) -> State:
        """The state after one more item."""

    @abstractmethod
    def evidence(self, state: Array) -> Array:
        """float64 [B, N], >= 0, of states [B, ...]."""

    def scores(self, state: State, items: slice | Tensor) -> Tensor:
        scores = self.evidence(state[0].cpu().numpy()) + self.popularity
        return torch.from_numpy(scores).to(self.device)[:, items]

    def spread(self, place: Array, columns: Array, values: Array, batch: int) -> Array:
        """float64 [B, N]: values added up at (place, column)."""
        total = np.bincount(place * self.num_items + columns, values, batch * self.num_items)
        # Of no values at all, NumPy counts in whole numbers.
        return total.reshape(batch, self.num_items).astype(np.float64, copy=False)


class LastItem(AtOnce):
    """Evidence is a row of a matrix; state: the last item [B], -1 where there was none.

    Attributes:
        after: [N, N], the evidence of all items after each.
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


class History:
    """Of a ranker on `device`; state: the items so far [B, T], -1 where a session had none."""

    device: torch.device

    def begin(self, batch: int) -> State:
        return (torch.zeros(batch, 0, dtype=torch.int64, device=self.device),)

    def step(self, items: Tensor, state: State, active: Tensor) -> State:
        return (torch.cat([state[0], torch.where(active, items, -1)[:, None]], dim=1),)
