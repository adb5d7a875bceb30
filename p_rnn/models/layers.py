"""Stacked recurrent layers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from p_rnn.models.cells import Cell, State
from p_rnn.models.dropout import Dropout


class Layers(nn.Module):
    """L stacked cells; the output after dropout is both the state and the next one's input (P).

    The state is the concatenation of the cells' state tuples, from the first layer to the last.

    Args:
        inputs: W [H, gates H] of the layers above the first; none for residual cells.
    """

    def __init__(
        self, cells: Sequence[Cell], dropouts: Sequence[Dropout], inputs: Sequence[nn.Parameter]
    ) -> None:
        super().__init__()
        self.cells = nn.ModuleList(cells)
        self.dropouts = nn.ModuleList(dropouts)
        self.inputs = nn.ParameterList(inputs)
        self.hidden_size = cells[0].hidden_size
        self.state_widths = tuple(width for cell in cells for width in cell.state_widths)
        self.top = len(self.state_widths) - len(
            cells[-1].state_widths
        )  # index of the output in the state

    def forward(self, a: Tensor, state: State) -> State:
        """Gate inputs a [B, gates H] and the state -> the state after this step."""
        new: list[Tensor] = []
        output = a
        for k, (cell, dropout) in enumerate(zip(self.cells, self.dropouts, strict=True)):
            a = self.between(k, output)
            assert isinstance(cell, Cell)
            output, *others = cell(a, state[len(new) : len(new) + len(cell.state_widths)])
            output = dropout(output)
            new += [output, *others]
        return tuple(new)

    def scan(self, a: Tensor, widths: Sequence[int]) -> Tensor:
        """The top layer's outputs [P, H] at all P positions of packed sequences (`Cell.scan`)."""
        output = a
        for k, (cell, dropout) in enumerate(zip(self.cells, self.dropouts, strict=True)):
            a = self.between(k, output)
            assert isinstance(cell, Cell)
            assert isinstance(dropout, Dropout)
            mask = dropout.mask(len(a), self.hidden_size, like=a)
            output = cell.scan(a, widths, mask)
        return output

    def between(self, k: int, below: Tensor) -> Tensor:
        """The gate inputs of layer k from the output below; those of layer 0 are given."""
        return below if k == 0 or len(self.inputs) == 0 else below @ self.inputs[k - 1]
