"""A cell that averages its inputs: the session representation of matrix factorisation."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from p_rnn.models.cells.base import Cell, State


class Mean(Cell):
    """h = mean of the inputs so far; the state is that mean and the number of inputs."""

    gates: ClassVar[int] = 1

    @property
    def state_widths(self) -> tuple[int, ...]:
        return self.hidden_size, 1

    def forward(self, a: Tensor, state: State) -> State:
        """a [B, H], mean [B, H] and count [B, 1] -> those after this step."""
        mean, count = state
        count = count + 1
        return mean + (a - mean) / count, count
