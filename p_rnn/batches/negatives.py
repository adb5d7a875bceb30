"""The candidates of a mini-batch: its targets, and sampled negatives."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p_rnn.settings.config import Settings
from p_rnn.settings.errors import UserError
from p_rnn.streams import Streams


class Negatives:
    """Makes the candidates of mini-batches as configured by `negatives` and its settings."""

    def __init__(self, config: Settings, support: NDArray[np.int64], streams: Streams) -> None:
        self.full = config.negatives == "full"
        self.one_each = config.negatives == "uniform_one"
        self.shared = config.num_negatives  # samples shared by the examples of a mini-batch
        self.sampler: NegativeSampler | None = None
        if self.one_each or self.shared:
            alpha = 0.0 if self.one_each else config.sample_alpha
            self.sampler = NegativeSampler(support, alpha, streams.running("negatives"))

    def draw(self, steps: int, batch: int) -> Tensor | None:
        """Samples of T steps: [T, S] shared by the mini-batch, or [T, B] one per example."""
        if self.sampler is None:
            return None
        return self.sampler.sample(steps, batch if self.one_each else self.shared)

    def candidates(self, targets: Tensor, drawn: Tensor | None) -> Tensor | None:
        """Candidates of targets [T, M]: [T, C], or [T, M, 2] with uniform_one; None: all items."""
        if self.full:
            return None
        if drawn is None:
            return targets
        if self.one_each:
            return torch.stack([targets, drawn[:, : targets.shape[1]]], dim=2)
        return torch.cat([targets, drawn], dim=1)

    def columns(self, targets: Tensor) -> Tensor:
        """[T, M]: the index of each target among its candidates."""
        if self.full:
            return targets
        if self.one_each:
            return torch.zeros_like(targets)
        return torch.arange(targets.shape[1], device=targets.device).expand_as(targets)


class NegativeSampler:
    """Draws item indices with P(i) ~ support_i^alpha, with replacement (Walker's alias method).

    A draw costs one uniform number and three reads for any number of items; a binary search in the
    cumulative distribution would take log2(N) reads that miss the cache.
    """

    def __init__(
        self, support: NDArray[np.int64], alpha: float, generator: torch.Generator
    ) -> None:
        """`support`: [N] events per item; items without any are drawn only with alpha=0."""
        with np.errstate(over="ignore"):
            weight = support.astype(np.float64) ** alpha
            if not np.isfinite(weight.sum()):
                raise UserError(
                    f"sample_alpha={alpha:g} is too large: {support.max()} events to that power "
                    "is no number; give 1 or less"
                )
        keep, other = alias_table(weight)
        self.generator = generator
        self.keep = torch.from_numpy(keep).to(generator.device)  # float64 [N]
        # int64 [N]: the other item of each column, minus the column.
        self.step = torch.from_numpy(other - np.arange(len(other))).to(generator.device)

    def sample(self, *shape: int) -> Tensor:
        """int64 [shape] item indices."""
        device = self.generator.device
        u = torch.rand(shape, dtype=torch.float64, generator=self.generator, device=device)
        u *= len(self.keep)
        column = u.long()
        u -= column
        flat = column.view(-1)
        other = u.view(-1) >= self.keep.index_select(0, flat)
        flat += self.step.index_select(0, flat) * other
        return column


def alias_table(weight: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Vose's table: N columns of equal mass, each shared by at most two items.

    Returns:
        keep: [N], the share of column i that belongs to item i; other: [N], the item of the rest.
    """
    share = weight / weight.sum() * len(weight)
    other = np.arange(len(weight))
    small = np.flatnonzero(share < 1).tolist()
    large = np.flatnonzero(share >= 1).tolist()
    rest = share.tolist()
    while small and large:
        i, j = small.pop(), large[-1]
        other[i] = j
        rest[j] -= 1 - rest[i]
        if rest[j] < 1:
            small.append(large.pop())
    keep = np.array(rest)
    keep[small + large] = 1.0  # these differ from 1 only by rounding
    return keep, other
