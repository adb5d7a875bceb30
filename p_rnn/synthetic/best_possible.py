"""Optimal rankers for the synthetic world: given the whole history, and given one item.

Both score item j by its exact probability, with the symbols of `p_rnn.synthetic.world`,

    P(j | history) = sum_k q_k P(j | k, g) = move[g, c_j] sum_k (q_k / Z[k, g]) likes[k, j]

where g is the category of the last item, so a block of scores is one [B, K] x [K, block] product.
They differ in q: `BayesRanker` knows the whole history, `FirstOrderRanker` only the last item.
No ranker has a higher expected recall@K or MRR@K than `BayesRanker`, and none that sees only the
last item has a higher one than `FirstOrderRanker`.

This is exact if all events lie in one day of the world, because the items that exist, and with
them Z, change from day to day. A split by whole days (`dataset.test_days: 1`) satisfies that.
(The last session of each day is truncated to meet the number of events, but the choice of items
does not depend on that.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from p_rnn.synthetic.world import World

State = tuple[Tensor, ...]


class _WorldRanker:
    """Scores by P(j | q, g); the state is (log q [B, K] float64, g [B] int64).

    Args:
        world: the world that the events come from.
        item_ids: [N] raw ids in item-index order; items of the world may be missing.
        day: the day of the world, from 0, in which the events lie.
    """

    def __init__(
        self,
        world: World,
        item_ids: npt.ArrayLike,
        day: int,
        device: str | torch.device = "cpu",
    ) -> None:
        def tensor(x: npt.NDArray[Any]) -> Tensor:
            return torch.from_numpy(np.array(x)).to(device)

        index = world.index(item_ids)
        law = world.day(day)
        self.num_items = len(index)
        self.num_intents, self.num_categories = world.num_intents, world.num_categories
        self.device = torch.device(device)
        self.category = tensor(world.category[index])  # [N]
        self.move = tensor(world.move.astype(np.float32))  # [G + 1, G]
        self.log_norm = tensor(np.log(law.norm.T))  # [G + 1, K]
        # Evidence includes items that do not exist yet, so that no state is ever NaN.
        self.log_likes = tensor(np.log(world.likes[:, index].T))  # [N, K]
        self.likes = tensor(law.likes[:, index].astype(np.float32))  # [K, N]

    def begin(self, batch: int) -> State:
        """The prior, before any item."""
        log_q = torch.full(
            (batch, self.num_intents), -np.log(self.num_intents), dtype=torch.float64
        )
        category = torch.full((batch,), self.num_categories)
        return log_q.to(self.device), category.to(self.device)

    def scores(self, state: State, items: slice | Tensor) -> Tensor:
        """[B, block] probabilities; 0 for items that do not exist yet."""
        log_q, category = state
        weight = (log_q - self.log_norm[category]).exp().float()  # [B, K] q_k / Z[k, g]
        return (weight @ self.likes[:, items]) * self.move[category][:, self.category[items]]


class BayesRanker(_WorldRanker):
    """The exact Bayes filter: q = P(k | all items so far)."""

    def step(self, items: Tensor, state: State, active: Tensor) -> State:
        """q'_k ~ q_k P(item | k, g); the factor move[g, c] is the same for all k."""
        log_q, category = state
        new = log_q + self.log_likes[items] - self.log_norm[category]
        new = torch.where(active[:, None], new.log_softmax(dim=1), log_q)
        return new, torch.where(active, self.category[items], category)


class FirstOrderRanker(_WorldRanker):
    """The best ranker that knows only the last item: q = P(k | last item).

    P(k | i) ~ (expected number of times that a session of intent k has i as an input)
             = World.inputs[k, c_i] likes[k, i] / (sum of likes[k, .] over the category of i)
    """

    def __init__(
        self,
        world: World,
        item_ids: npt.ArrayLike,
        day: int,
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__(world, item_ids, day, device)
        mass = world.day(day).mass
        # [K, G]; categories without an item that exists never occur, so their value is irrelevant
        ratio = np.divide(world.inputs(day), mass, out=np.ones_like(mass), where=mass > 0)
        log_ratio = torch.from_numpy(np.log(ratio.T)).to(device)  # [G, K]
        self.log_q = (log_ratio[self.category] + self.log_likes).log_softmax(dim=1)  # [N, K]

    def step(self, items: Tensor, state: State, active: Tensor) -> State:
        """The state depends on the new item only."""
        log_q, category = state
        new = torch.where(active[:, None], self.log_q[items], log_q)
        return new, torch.where(active, self.category[items], category)
