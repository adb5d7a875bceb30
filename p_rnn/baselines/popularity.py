"""Popularity in the training events, the same for all sessions."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from p_rnn.baselines.ranker import Array, State, TrainingData
from p_rnn.data.splits import DAY_S
from p_rnn.settings.declare import about


class Popularity:
    """score_j = support of j; a `Ranker` whose state is the number of events seen."""

    def __init__(self, training: TrainingData) -> None:
        self._set(training, training.support)

    def _set(self, training: TrainingData, scores: Array) -> None:
        self.fixed = torch.from_numpy(scores).to(training.device, torch.float64)
        self.num_items = training.num_items

    def begin(self, batch: int) -> State:
        return (self.fixed.new_zeros(batch),)

    def step(self, items: Tensor, state: State, active: Tensor) -> State:
        return (state[0] + active,)

    def scores(self, state: State, items: slice | Tensor) -> Tensor:
        return self.fixed[items].expand(len(state[0]), -1)


class RecentlyPopular(Popularity):
    """score_j = sum over the training events of j of 2^(-age / half-life).

    The age of an event is measured from the last training event.
    """

    def __init__(
        self,
        training: TrainingData,
        *,
        half_life_days: Annotated[
            float, about("half-life of the weight of an event", above=0)
        ] = 1.0,
    ) -> None:
        sessions = training.sessions
        age = (sessions.times.max() - sessions.times) / DAY_S
        weight = np.exp2(-age / half_life_days)
        self._set(training, np.bincount(sessions.items, weight, training.num_items))
