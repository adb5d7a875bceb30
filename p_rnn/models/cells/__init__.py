"""Recurrent cells by name."""

from __future__ import annotations

from p_rnn.models.cells.base import Cell, Initial, State
from p_rnn.models.cells.gru import GRU
from p_rnn.models.cells.lstm import LSTM
from p_rnn.models.cells.mean import Mean
from p_rnn.settings.config import CellConfig
from p_rnn.settings.registry import lookup, settings_for

__all__ = ["CELLS", "Cell", "Initial", "Mean", "State", "build_cell", "check_cell"]

# Of (hidden_size, initial, *, settings).
CELLS: dict[str, type[Cell]] = {"gru": GRU, "lstm": LSTM}


def check_cell(config: CellConfig) -> type[Cell]:
    """The class of a resolved config.

    Raises:
        UserError: unknown name, or a setting that the cell does not read.
    """
    cls = lookup("cell", CELLS, config.name)
    settings_for("cell", cls, config)
    return cls


def build_cell(config: CellConfig, hidden_size: int, initial: Initial) -> Cell:
    """A cell of a resolved config."""
    cls = check_cell(config)
    # What modules of others draw from PyTorch's own generator as they begin is the seed's, too.
    initial.streams.seed_torch(f"init/{initial.name}")
    return cls(hidden_size, initial, **settings_for("cell", cls, config))  # type: ignore[call-arg]
