"""The long short-term memory (Hochreiter & Schmidhuber 1997; with forget gates, Gers 2000)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from p_rnn.models.cells.base import Cell, Initial, State


class LSTM(Cell):
    """One step of one layer, given its gate inputs a = (a_i, a_f, a_g, a_o).

    i = s(a_i + U_i h + c_i), f, o likewise, g = tanh(a_g + U_g h + c_g),
    m' = f * m + i * g,  h' = o * tanh(m'): torch.nn.LSTMCell with one bias instead of two (they are
    only ever added, so a second one would merely double Adagrad's step).
    """

    gates: ClassVar[int] = 4

    def __init__(self, hidden_size: int, initial: Initial) -> None:
        super().__init__(hidden_size)
        self.recurrent = initial.matrix(hidden_size, 4 * hidden_size, "recurrent", gates=4)  # U
        self.bias = initial.zeros(4 * hidden_size)  # c

    @property
    def state_widths(self) -> tuple[int, ...]:
        return self.hidden_size, self.hidden_size

    def forward(self, a: Tensor, state: State) -> State:
        """a [B, 4H], (h, m) [B, H] -> (h', m')."""
        h, m = state
        i, f, g, o = (a + torch.addmm(self.bias, h, self.recurrent)).chunk(4, dim=1)
        m = torch.sigmoid(f) * m + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(m), m
