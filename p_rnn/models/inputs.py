"""Inputs: map item indices to the gate inputs of the first layer, [B, G] with G = gates * H.

A *view* is how an input represents an item: the row of its id in a table (`ItemRows`), pooled rows
of the tokens in its bag (`PooledRows`), or its dense vector (`DenseRows`). A view with G columns is
used as the gate inputs directly (`Direct`), which is the product of a 1-of-N or bag vector with W;
any other view is multiplied by a matrix (`Projection`).

An input takes distinct items [U] and optionally `repeat` [P], the index of the item at each of P
positions (None: each item once), so that what depends only on the item is computed once per item.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from p_rnn.models.dropout import Dropout
from p_rnn.models.features import Bags, DenseRows, Read, read_once
from p_rnn.models.outputs import ItemTable, known_rows
from p_rnn.models.tables import Init, Table
from p_rnn.streams import Streams


class ItemRows(nn.Module):
    """The table row of an item id: E_i of an embedding, or its G gate inputs (1-of-N W, P)."""

    def __init__(self, table: ItemTable) -> None:
        super().__init__()
        self.table = table

    @property
    def num_items(self) -> int:
        return self.table.num_items

    def forward(self, items: Tensor) -> Tensor:
        """[B] -> [B, D]; zero for items that the table does not have (never in training)."""
        if self.training or not isinstance(self.table, Table):
            rows: Tensor = self.table(items)
            return rows
        return known_rows(self.table, items)


class PooledRows(nn.Module):
    """Pools the table rows of the tokens in an item's bag; an empty bag gives zeros.

    With weights u: sum = sum_v u_v row_v, mean = sum / sum_v u_v, max = max_v u_v row_v per column.
    The padding token of bags is the last row of the table, which stays zero.
    """

    def __init__(self, bags: Bags, table: Table, pooling_mode: str) -> None:
        super().__init__()
        self.bags = bags
        self.table = table  # [V + 1, D]
        self.pooling_mode = pooling_mode

    @property
    def num_items(self) -> int:
        return self.bags.num_items

    def forward(self, items: Tensor, read: Read | None = None) -> Tensor:
        """[B] -> [B, D]."""
        tokens, weights, there = read_once(self.bags, items, read)
        weights = weights.to(self.table.weight.dtype)
        if self.pooling_mode != "max":
            return self.table.bags(tokens, weights)
        rows = self.table(tokens) * weights[:, :, None]
        largest = torch.where(there[:, :, None], rows, float("-inf")).amax(dim=1)
        return torch.where(there.any(dim=1, keepdim=True), largest, 0.0)  # ties share the gradient


class Direct(nn.Module):
    """a = x: the view of the item is used as its gate inputs."""

    def __init__(self, view: nn.Module) -> None:
        super().__init__()
        self.view = view

    def forward(self, items: Tensor, repeat: Tensor | None = None) -> Tensor:
        """[U], [P] -> [P, G]."""
        a: Tensor = self.view(items)
        return a if repeat is None else a.index_select(0, repeat)


class Projection(nn.Module):
    """a = dropout(x) W with the view x of the item and W [D, G]."""

    def __init__(self, view: nn.Module, weight: nn.Parameter, dropout: Dropout) -> None:
        super().__init__()
        self.view, self.dropout, self.weight = view, dropout, weight

    def forward(self, items: Tensor, repeat: Tensor | None = None) -> Tensor:
        """[U], [P] -> [P, G]; dropout is drawn for each position."""
        x: Tensor = self.view(items).to(self.weight.dtype)
        if repeat is not None and self.dropout.active:
            x, repeat = x.index_select(0, repeat), None
        a: Tensor = self.dropout(x) @ self.weight
        return a if repeat is None else a.index_select(0, repeat)


class Embedded(nn.Module):
    """A linear embedding of a dense view: phi E with E [D, width]."""

    def __init__(self, view: DenseRows, width: int, key: str, streams: Streams, init: Init):
        super().__init__()
        self.view = view
        self.weight = nn.Parameter(torch.empty(view.width, width))
        init(self.weight, streams.initial(key))

    @property
    def num_items(self) -> int:
        return self.view.num_items

    def forward(self, items: Tensor, read: Read | None = None) -> Tensor:
        """[B] -> [B, width]."""
        x: Tensor = read_once(self.view, items, read).to(self.weight.dtype) @ self.weight
        return x
