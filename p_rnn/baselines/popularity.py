"""The most popular items of the training events, for everybody alike."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

State = tuple[Tensor, ...]


class Popularity:
    """score_j = support of j; a `Ranker` whose state is the number of events seen."""

    def __init__(self, support: NDArray[Any], device: torch.device) -> None:
        """`support`: [N] training events per item."""
        self.support = torch.from_numpy(support).to(device, torch.float64)
        self.num_items = len(support)

    def begin(self, batch: int) -> State:
        return (self.support.new_zeros(batch),)

    def step(self, items: Tensor, state: State, active: Tensor) -> State:
        return (state[0] + active,)

    def scores(self, state: State, items: slice | Tensor) -> Tensor:
        return self.support[items].expand(len(state[0]), -1)
