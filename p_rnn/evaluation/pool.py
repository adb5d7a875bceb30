"""Collects the targets of many time steps, so that they are ranked in large batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from p_rnn.evaluation.beyond import TopLists
from p_rnn.evaluation.ranking import Ranker, State, rank_targets
from p_rnn.evaluation.top import top_k

Array = NDArray[Any]

SEEN_TOGETHER = 2**22  # seen items, 32 MiB


class TargetPool:
    """Ranks targets `rows` at a time, regardless of their step and chunk of sessions.

    Late steps have few live sessions, and a matrix product with few rows takes as long as one with
    many. Only states of equal shape can be batched; a ranker whose state grows with the history,
    such as session popularity, is called at every step.

    Args:
        ties, limit: see `rank_targets`.
        ranks: float64 [E], to be filled: the rank of a target is written to its place, the
            position of the event in the split.
        lists: to be filled with the top-K list of each target; None: no lists.
    """

    def __init__(
        self,
        ranker: Ranker,
        ties: str,
        limit: int | None,
        rows: int,
        ranks: Array,
        lists: TopLists | None = None,
    ) -> None:
        self.ranker, self.ties, self.limit = ranker, ties, limit
        self.rows, self.ranks, self.lists = rows, ranks, lists
        self._held: list[tuple[State, Tensor, Array, Tensor]] = []
        self._waiting = 0

    def add(self, state: State, targets: Tensor, places: Array, seen: Tensor | None = None) -> None:
        """Add targets (int64 [b]) with the states before them, which must not be modified later.

        Args:
            seen: int64 [b, T], items to leave out of the ranking; given for all targets or none.
        """
        if self._held and _shapes(self._held[0][0]) != _shapes(state):
            self.flush()
        if seen is None:
            seen = targets.new_empty(len(targets), 0)
        elif (self._waiting + len(places)) * seen.shape[1] > SEEN_TOGETHER:
            self.flush()
        self._held.append((state, targets, places, seen))
        self._waiting += len(places)
        if self._waiting >= self.rows:
            self._rank(self._waiting - self._waiting % self.rows)

    def flush(self) -> None:
        """Rank the remaining targets."""
        if self._held:
            self._rank(self._waiting)

    def _rank(self, count: int) -> None:
        """Rank the first `count` targets and keep the others."""
        states, targets, places, histories = zip(*self._held, strict=True)
        state = tuple(torch.cat(layer) for layer in zip(*states, strict=True))
        target, place, seen = torch.cat(targets), np.concatenate(places), _padded(histories)
        for lo in range(0, count, self.rows):
            part = slice(lo, min(lo + self.rows, count))
            now, out = tuple(x[part] for x in state), seen[part] if seen.shape[1] else None
            ranks = rank_targets(self.ranker, now, target[part], self.ties, self.limit, out)
            self.ranks[place[part]] = ranks.cpu().numpy()
            if self.lists is not None:
                _, items = top_k(self.ranker, now, self.lists.longest, self.limit, out)
                self.lists.add(items)
        self._waiting -= count
        left = tuple(x[count:].clone() for x in state)
        rest = (left, target[count:].clone(), place[count:], seen[count:].clone())
        self._held = [rest] if self._waiting else []


def _padded(histories: tuple[Tensor, ...]) -> Tensor:
    """All rows [B, T] of several [b, T], padded with -1 to the longest."""
    longest = max(each.shape[1] for each in histories)
    return torch.cat([pad(each, (0, longest - each.shape[1]), value=-1) for each in histories])


def _shapes(state: State) -> list[torch.Size]:
    return [x.shape[1:] for x in state]
