"""The base class of recurrent cells: gate inputs, state, one step, and a scan of sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar

import torch
from torch import Tensor, nn

from p_rnn.models.tables import Init, uniform_
from p_rnn.streams import Streams

State = tuple[Tensor, ...]


@dataclass(frozen=True)
class Initial:
    """Initialises the parameters of one cell; `bias`: whether it learns biases."""

    name: str
    streams: Streams
    init: Init = uniform_
    bias: bool = True

    def matrix(self, rows: int, columns: int, key: str, gates: int) -> nn.Parameter:
        """A matrix [rows, columns]; `gates` blocks of columns, each initialised on its own (P)."""
        made = nn.Parameter(torch.empty(rows, columns))
        self.init(made, self.streams.initial(f"{self.name}/{key}"), gates)
        return made

    def zeros(self, size: int) -> nn.Parameter | nn.Buffer:
        """A bias [size] of zeros: a parameter, or without `bias` a constant that is not stored."""
        zeros = torch.zeros(size)
        return nn.Parameter(zeros) if self.bias else nn.Buffer(zeros, persistent=False)


class Cell(nn.Module):
    """A recurrent layer with H hidden units.

    A subclass takes (hidden_size, initial), and its settings as keyword-only parameters.
    `forward(a [B, gates H], state) -> state` computes one step. The state is a tuple of tensors
    [B, width], one for each of `state_widths`; the first is the cell's output.

    Attributes:
        gates: number of gates; gate inputs have gates * H columns.
        residual: whether its output is its input plus a change. A layer of such cells reads the
            output of the layer below as it is, without a matrix in between.
    """

    gates: ClassVar[int] = 1
    residual: ClassVar[bool] = False

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size

    @property
    def state_widths(self) -> tuple[int, ...]:
        return (self.hidden_size,)

    def begin(self, batch: int, like: Tensor) -> State:
        """The state before the first item."""
        return tuple(like.new_zeros(batch, width) for width in self.state_widths)

    def scan(self, a: Tensor, widths: Sequence[int], mask: Tensor | None) -> Tensor:
        """Outputs [P, H] at all P positions of packed sequences that start from a zero state.

        Args:
            a: [P, gates H], the gate inputs of step 0 of all sequences, then those of step 1, ...
            widths: number of sequences that have a step t; sequences are sorted longest first.
            mask: [P, H], multiplied with the outputs, and so with the state; None: ones.
        """
        state = self.begin(widths[0], a)
        steps = []
        for at, _ in places(widths):
            state = self(a[at], tuple(x[: at.stop - at.start] for x in state))
            if mask is not None:
                state = (state[0] * mask[at], *state[1:])
            steps.append(state[0])
        return torch.cat(steps)


def places(widths: Sequence[int]) -> list[tuple[slice, slice]]:
    """Per step of packed sequences: its rows, and those of the next step (empty for the last)."""
    ends = list(accumulate(widths))
    found = [slice(end - width, end) for end, width in zip(ends, widths, strict=True)]
    return list(zip(found, [*found[1:], slice(ends[-1], ends[-1])], strict=True))
