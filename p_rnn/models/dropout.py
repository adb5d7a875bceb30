"""Dropout that draws from its own stream of random numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Zeroes entries with probability p where gradients are made, and scales the others.

    The scale is 1 / (1 - p). A subnet that rests in an update runs without gradients, and so
    without dropout.
    """

    def __init__(self, p: float, generator: torch.Generator) -> None:
        super().__init__()
        self.p = p
        self.generator = generator

    @property
    def active(self) -> bool:
        return self.training and self.p > 0 and torch.is_grad_enabled()

    def forward(self, x: Tensor) -> Tensor:
        if not self.active:
            return x
        mask = torch.empty_like(x).bernoulli_(1 - self.p, generator=self.generator)
        return x * mask.mul_(1 / (1 - self.p))
