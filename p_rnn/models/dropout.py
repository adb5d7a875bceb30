"""Dropout that draws from its own stream of random numbers."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

BITS = 16  # random bits per entry


class Dropout(nn.Module):
    """In training, zeroes entries with probability p and scales the others by 1 / (1 - p).

    p is rounded to a multiple of 2^-16, so that one 64-bit random number serves four entries; this
    takes a tenth of the time of `Tensor.bernoulli_`.

    Attributes:
        rows: (lo, hi, all): the input is one rank's rows lo to hi of a mini-batch of so many, for
            all of which numbers are drawn; None: it is all.
    """

    rows: tuple[int, int, int] | None = None

    def __init__(self, p: float, generator: torch.Generator) -> None:
        super().__init__()
        self.dropped = min(round(p * 2**BITS), 2**BITS - 1)
        self.generator = generator

    @property
    def active(self) -> bool:
        return self.training and self.dropped > 0

    def mask(self, *shape: int, like: Tensor) -> Tensor | None:
        """0 or 1 / (1 - p), of the dtype and device of `like`; None: nothing is dropped."""
        if not self.active:
            return None
        lo, hi, rows = self.rows or (0, shape[0], shape[0])
        count = math.prod((rows, *shape[1:]))
        words = torch.empty(-(-count // 4), dtype=torch.int64, device=like.device)
        words.random_(-(2**63), None, generator=self.generator)
        drawn = words.view(torch.int16)[:count].view(rows, *shape[1:])[lo:hi]
        keep: Tensor = drawn >= self.dropped - 2 ** (BITS - 1)
        return keep.to(like.dtype).mul_(2**BITS / (2**BITS - self.dropped))

    def forward(self, x: Tensor) -> Tensor:
        mask = self.mask(*x.shape, like=x)
        return x if mask is None else x * mask
