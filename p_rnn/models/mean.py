"""In the place of a GRU, the mean of what was read: the session vector of factorisation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Mean(nn.Module):
    """h = mean of the inputs so far. It takes what `GRU` takes; its layers are count and mean."""

    layers = ("count", "mean")

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size

    def forward(self, a: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """a [B, H] and the state, both parts of it [B, H] -> the state after this step."""
        count, mean = state
        count = count + 1
        return count, mean + (a - mean) / count

    def scan(self, a: Tensor, widths: Sequence[int]) -> Tensor:
        """Means [P, H] at all places of packed sequences, as `GRU.scan`."""
        total = a.new_zeros(widths[0], self.hidden_size)
        means = []
        for t, now in enumerate(torch.split(a, list(widths))):
            total = total[: len(now)] + now
            means.append(total / (t + 1))
        return torch.cat(means)
