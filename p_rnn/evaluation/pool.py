"""Collects the targets of many time steps, so that they are ranked in large batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p_rnn.evaluation.ranking import Ranker, State, rank_targets
from p_rnn.settings.sections import EvaluationConfig

Array = NDArray[Any]


class TargetPool:
    """Ranks targets `rows` at a time, regardless of their step and chunk of sessions.

    Late steps have few live sessions, and a matrix product with few rows takes as long as one with
    many. Only states of equal shape can be batched; a ranker whose state grows with the history,
    such as session popularity, is called at every step.

    Args:
        ranks: float64 [E], to be filled: the rank of a target is written to its place, the
            position of the event in the split.
    """

    def __init__(self, ranker: Ranker, settings: EvaluationConfig, rows: int, ranks: Array) -> None:
        self.ranker, self.settings = ranker, settings
        self.rows, self.ranks = rows, ranks
        self._held: list[tuple[State, Tensor, Array]] = []
        self._waiting = 0

    def add(self, state: State, targets: Tensor, places: Array) -> None:
        """Add targets (int64 [b]) with the states before them, which must not be modified later."""
        if self._held and _shapes(self._held[0][0]) != _shapes(state):
            self.flush()
        self._held.append((state, targets, places))
        self._waiting += len(places)
        if self._waiting >= self.rows:
            self._rank(self._waiting - self._waiting % self.rows)

    def flush(self) -> None:
        """Rank the remaining targets."""
        if self._held:
            self._rank(self._waiting)

    def _rank(self, count: int) -> None:
        """Rank the first `count` targets and keep the others."""
        states, targets, places = zip(*self._held, strict=True)
        state = tuple(torch.cat(layer) for layer in zip(*states, strict=True))
        target, place = torch.cat(targets), np.concatenate(places)
        for lo in range(0, count, self.rows):
            part = slice(lo, min(lo + self.rows, count))
            ranks = rank_targets(
                self.ranker,
                tuple(x[part] for x in state),
                target[part],
                self.settings.ties,
                self.settings.most_popular,
            )
            self.ranks[place[part]] = ranks.cpu().numpy()
        self._waiting -= count
        left = (tuple(x[count:].clone() for x in state), target[count:].clone(), place[count:])
        self._held = [left] if self._waiting else []


def _shapes(state: State) -> list[torch.Size]:
    return [x.shape[1:] for x in state]
