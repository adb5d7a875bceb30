"""Inputs: from an item index to the three gate inputs a = (a_r, a_z, a_n) of the first layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from p_rnn.models.dropout import Dropout
from p_rnn.models.table import Table, uniform_
from p_rnn.random import Streams


class OneHotInput(nn.Module):
    """a = the item's row of an [N, 3H] table: the paper's 1-of-N coding times its weights (P)."""

    def __init__(self, num_items: int, hidden_size: int, name: str, streams: Streams) -> None:
        super().__init__()
        self.table = Table(num_items, 3 * hidden_size)
        uniform_(self.table.weight, streams.initial(f"{name}/one_hot"), gates=3)

    def forward(self, items: Tensor) -> Tensor:
        """[B] -> [B, 3H]."""
        return self.table.rows(items)


class EmbeddingInput(nn.Module):
    """a = dropout(E[i]) W; E is its own or the output matrix (constrained embedding, P)."""

    def __init__(
        self, table: Table, hidden_size: int, dropout: float, name: str, streams: Streams
    ) -> None:
        super().__init__()
        self.table = table  # [N, D]
        self.dropout = Dropout(dropout, streams.running(f"{name}/dropout_embedding"))
        width = table.weight.shape[1]
        self.weight = nn.Parameter(torch.empty(width, 3 * hidden_size))  # W [D, 3H]
        uniform_(self.weight, streams.initial(f"{name}/input"), gates=3)

    def forward(self, items: Tensor) -> Tensor:
        """[B] -> [B, 3H]."""
        a: Tensor = self.dropout(self.table.rows(items)) @ self.weight
        return a


def embedding_table(num_items: int, width: int, name: str, streams: Streams) -> Table:
    """An item embedding E [N, D]."""
    table = Table(num_items, width)
    uniform_(table.weight, streams.initial(f"{name}/embedding"))
    return table
