"""Recurrent cells by name, and the transformer block that stands in for one."""

from __future__ import annotations

from p_rnn.models.cells.attention import Attention
from p_rnn.models.cells.base import Cell, Initial, State
from p_rnn.models.cells.gru import GRU
from p_rnn.models.cells.lstm import LSTM
from p_rnn.models.cells.mean import Mean
from p_rnn.settings.components import bind
from p_rnn.settings.sections import Component

__all__ = ["CELLS", "Cell", "Initial", "Mean", "State", "build_cell"]

# Called as cell(hidden_size, initial, *, settings).
CELLS: dict[str, type[Cell]] = {"gru": GRU, "lstm": LSTM, "attention": Attention}


def build_cell(chosen: Component, hidden_size: int, initial: Initial) -> Cell:
    """Build the cell of that name.

    Raises:
        UserError: unknown name, or a setting that the cell does not take.
    """
    cls, parameters = bind("cell", chosen)
    # A cell that uses torch.nn modules draws from PyTorch's global generator: seed that too.
    initial.streams.seed_torch(f"init/{initial.name}")
    made: Cell = cls(hidden_size, initial, **parameters)
    return made
