"""Dropout that draws from its own stream of random numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from p_rnn.models.ahead import Ahead


class Dropout(Ahead):
    """Zeroes entries with probability p where gradients are made, and scales the others.

    The scale is 1 / (1 - p). A subnet that rests in an update runs without gradients, and so
    without dropout.

    Args:
        width: columns of what it acts on.
    """

    def __init__(self, p: float, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.p, self.width = p, width
        self.numbers = width
        self.generator = generator

    @property
    def active(self) -> bool:
        return self.training and self.p > 0 and torch.is_grad_enabled()

    def wanted(self, learning: bool) -> bool:
        return learning and self.p > 0

    def ahead(self, items: Tensor) -> list[Tensor]:
        return [self._draw(torch.empty(*items.shape, self.width, device=items.device))]

    def _draw(self, like: Tensor) -> Tensor:
        mask = torch.empty_like(like).bernoulli_(1 - self.p, generator=self.generator)
        return mask.mul_(1 / (1 - self.p))

    def mask(self, like: Tensor, width: int) -> Tensor | None:
        """The factors for [P, width] on the device of `like` [P, ...]; None for 1 everywhere."""
        return self._draw(like.new_empty(len(like), width)) if self.active else None

    def forward(self, x: Tensor) -> Tensor:
        if not self.active:
            return x
        return x * (self.now[0] if self.now else self._draw(x))
