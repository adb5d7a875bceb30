"""Inputs: from item indices to the three gate inputs a = (a_r, a_z, a_n) of the first layer.

A *view* is what an input sees of an item: rows of a table by id (`ItemRows`), pooled rows by the
tokens of its bag (`PooledRows`), or its dense vector (`DenseRows`). A view that is 3H wide is the
gate inputs at once, namely the product of a 1-of-N or bag vector with W (`Direct`); any other
passes through a `Projection`.

An input takes distinct items [U] and `repeat` [P], which of them stands at each of P places (None:
each once), so that what depends on the item alone is computed once per item.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from p_rnn.data.features import BagFeature, DenseFeature
from p_rnn.models.dropout import Dropout
from p_rnn.models.table import Init, Table, uniform_
from p_rnn.random import Streams

# Dense features move to the GPU when they take at most this part of its free memory.
SHARE_OF_DEVICE = 0.5


class ItemRows(nn.Module):
    """The row of an item id: E_i of an embedding, or its column of W, 3H wide (1-of-N, P)."""

    def __init__(self, table: Table) -> None:
        super().__init__()
        self.table = table

    def forward(self, items: Tensor) -> Tensor:
        """[B] -> [B, D]."""
        return self.table.rows(items)


class DenseRows(nn.Module):
    """The dense vector phi of an item, gathered from a memory-mapped file or on the GPU."""

    def __init__(self, feature: DenseFeature, device: torch.device) -> None:
        super().__init__()
        values = torch.from_numpy(feature.values)  # [N, D], no copy
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if values.nbytes <= SHARE_OF_DEVICE * free:
                values = values.to(device)
        self.values = values
        self.width: int = values.shape[1]

    def forward(self, items: Tensor) -> Tensor:
        """[B] -> [B, D], as stored: float16 or float32."""
        # Where values stay in main memory the CPU waits here for the item indices.
        rows = self.values.index_select(0, items.to(self.values.device))
        return rows.to(items.device)


class PooledRows(nn.Module):
    """Rows of a table by the tokens of an item's bag, pooled; an empty bag gives zeros.

    With weights u: sum = sum_v u_v row_v, mean = sum / sum_v u_v, max = max_v u_v row_v per column.
    """

    def __init__(
        self, feature: BagFeature, table: Table, pooling_mode: str, device: torch.device
    ) -> None:
        super().__init__()
        self.table = table  # [V, D]
        self.pooling_mode = pooling_mode
        self.offsets = torch.from_numpy(feature.offsets).to(device)
        self.tokens = torch.from_numpy(feature.tokens).to(device)
        self.weights = None
        if feature.weights is not None:
            self.weights = torch.from_numpy(feature.weights).to(device)

    def forward(self, items: Tensor) -> Tensor:
        """[B] -> [B, D]."""
        start = self.offsets[items]
        length = self.offsets[items + 1] - start
        total = int(length.sum())  # here the CPU waits for the GPU
        number = torch.arange(len(items), device=items.device)
        owner = torch.repeat_interleave(number, length, output_size=total)
        first = length.cumsum(0) - length
        at = torch.arange(total, device=items.device) + (start - first)[owner]
        rows = self.table.rows(self.tokens[at].long())
        if self.pooling_mode == "max":
            scaled = rows if self.weights is None else rows * self.weights[at, None]
            return _segment_max(scaled, owner, length)
        weight = torch.ones_like(first, dtype=rows.dtype)[owner]
        if self.weights is not None:
            weight = self.weights[at].to(rows.dtype)
        if self.pooling_mode == "mean":
            mass = weight.new_zeros(len(items)).index_add_(0, owner, weight)
            weight = weight / mass[owner]
        pooled = rows.new_zeros(len(items), rows.shape[1])
        return pooled.index_add(0, owner, rows * weight[:, None])


def _segment_max(rows: Tensor, owner: Tensor, length: Tensor) -> Tensor:
    """[T, D] -> [B, D], zeros for the empty ones; rows that tie share the gradient."""
    index = owner[:, None].expand_as(rows)
    lowest = rows.new_full((len(length), rows.shape[1]), float("-inf"))
    largest = lowest.scatter_reduce(0, index, rows, "amax")
    return torch.where(length[:, None] > 0, largest, 0.0)


class Direct(nn.Module):
    """a = x, the view of the item."""

    def __init__(self, view: nn.Module) -> None:
        super().__init__()
        self.view = view

    def forward(self, items: Tensor, repeat: Tensor | None = None) -> Tensor:
        """[U], [P] -> [P, 3H]."""
        a: Tensor = self.view(items)
        return a if repeat is None else a.index_select(0, repeat)


class Projection(nn.Module):
    """a = dropout(x) W, x = the view of the item."""

    def __init__(
        self,
        view: nn.Module,
        width: int,
        hidden_size: int,
        dropout: float,
        name: str,
        streams: Streams,
        init: Init = uniform_,
    ) -> None:
        super().__init__()
        self.view = view
        self.dropout = Dropout(dropout, streams.running(f"{name}/dropout_embedding"))
        self.weight = nn.Parameter(torch.empty(width, 3 * hidden_size))  # W [D, 3H]
        init(self.weight, streams.initial(f"{name}/input"), gates=3)

    def forward(self, items: Tensor, repeat: Tensor | None = None) -> Tensor:
        """[U], [P] -> [P, 3H]; every place has its own dropout."""
        x: Tensor = self.view(items).to(self.weight.dtype)
        if repeat is not None and self.dropout.active:
            x, repeat = x.index_select(0, repeat), None
        a: Tensor = self.dropout(x) @ self.weight
        return a if repeat is None else a.index_select(0, repeat)


class Embedded(nn.Module):
    """A dense view in fewer dimensions: phi E, E [D, width]."""

    def __init__(self, view: DenseRows, width: int, name: str, streams: Streams, init: Init):
        super().__init__()
        self.view = view
        self.weight = nn.Parameter(torch.empty(view.width, width))
        init(self.weight, streams.initial(f"{name}/embedding"))

    def forward(self, items: Tensor) -> Tensor:
        """[B] -> [B, width]."""
        x: Tensor = self.view(items).to(self.weight.dtype) @ self.weight
        return x


def new_table(num_rows: int, width: int, key: str, streams: Streams, init: Init = uniform_,
              gates: int = 1) -> Table:  # fmt: skip
    """A table [num_rows, width], its initial weights from the stream `key`."""
    table = Table(num_rows, width)
    init(table.weight, streams.initial(key), gates=gates)
    return table
