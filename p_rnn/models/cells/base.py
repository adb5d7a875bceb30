"""What a recurrent cell is: parameters, gate inputs, state, one step, and a scan of windows."""

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
    """How the parameters of one cell begin; `bias`: whether it learns biases."""

    name: str
    streams: Streams
    init: Init = uniform_
    bias: bool = True

    def matrix(self, rows: int, columns: int, key: str, gates: int) -> nn.Parameter:
        """[rows, columns], each of `gates` blocks of columns initialised on its own (P)."""
        made = nn.Parameter(torch.empty(rows, columns))
        self.init(made, self.streams.initial(f"{self.name}/{key}"), gates)
        return made

    def zeros(self, size: int) -> nn.Parameter | nn.Buffer:
        """A bias: a parameter, or without biases a constant that no checkpoint holds."""
        zeros = torch.zeros(size)
        return nn.Parameter(zeros) if self.bias else nn.Buffer(zeros, persistent=False)


class Cell(nn.Module):
    """One recurrent layer over H hidden units.

    A subclass takes (hidden_size, initial), and its settings as keyword-only parameters.
    `forward(a [B, gates H], state) -> state` is one step, of tensors [B, width] for each of
    `state_widths`; the first one is the cell's output.

    Attributes:
        gates: its gate inputs are gates * H wide.
    """

    gates: ClassVar[int] = 1

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
        """Its outputs [P, H] at all P places of sequences that start from zero.

        Args:
            a: [P, gates H], the gate inputs of step 0 of all sequences, then those of step 1, ...
            widths: sequences that have a step t; the longest come first, so these lead.
            mask: [P, H], multiplies the outputs and with them the state; None: ones.
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
    """Where each step of packed sequences stands, and the step after it; empty at the end."""
    ends = list(accumulate(widths))
    found = [slice(end - width, end) for end, width in zip(ends, widths, strict=True)]
    return list(zip(found, [*found[1:], slice(ends[-1], ends[-1])], strict=True))
