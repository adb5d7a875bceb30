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

from p_rnn.data.features import BagFeature, DenseFeature
from p_rnn.models.dropout import Dropout
from p_rnn.models.tables import Init, Table, uniform_
from p_rnn.streams import Streams

# Dense features are moved to the GPU if they take at most this share of its free memory.
SHARE_OF_DEVICE = 0.5


class ItemRows(nn.Module):
    """The table row of an item id: E_i of an embedding, or its G gate inputs (1-of-N W, P)."""

    def __init__(self, table: Table) -> None:
        super().__init__()
        self.table = table

    def forward(self, items: Tensor) -> Tensor:
        """[B] -> [B, D]."""
        rows: Tensor = self.table(items)
        return rows


class DenseRows(nn.Module):
    """The dense vector phi of an item, read from a memory-mapped file or from GPU memory."""

    def __init__(self, feature: DenseFeature, device: torch.device) -> None:
        super().__init__()
        values = torch.from_numpy(feature.values)  # [N, D], no copy
        fits = True
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            fits = values.nbytes <= SHARE_OF_DEVICE * free
        self.values = values.to(device) if fits else values
        self.width: int = values.shape[1]

    def __deepcopy__(self, memo: dict[int, object]) -> DenseRows:
        return self  # has no parameters, and may be larger than memory

    def forward(self, items: Tensor) -> Tensor:
        """[B] -> [B, D], as stored: float16 or float32."""
        # Sync point if the values are in main memory: the CPU waits for the item indices.
        rows = self.values.index_select(0, items.to(self.values.device))
        return rows.to(items.device)


class PooledRows(nn.Module):
    """Pools the table rows of the tokens in an item's bag; an empty bag gives zeros.

    With weights u: sum = sum_v u_v row_v, mean = sum / sum_v u_v, max = max_v u_v row_v per column.
    Bags are padded to the length of the longest, so that shapes do not depend on the data; the
    padding token is the last row of the table, which stays zero.
    """

    tokens: Tensor
    offsets: Tensor
    weights: Tensor

    def __init__(
        self, feature: BagFeature, table: Table, pooling_mode: str, device: torch.device
    ) -> None:
        super().__init__()
        self.table = table  # [V + 1, D]
        self.pooling_mode = pooling_mode
        lengths = torch.from_numpy(feature.offsets).diff()
        self.longest = max(int(lengths.max()) if len(lengths) else 0, 1)
        tokens = torch.from_numpy(feature.tokens).long()
        weights = torch.ones(len(tokens))
        if feature.weights is not None:
            weights = torch.from_numpy(feature.weights).to(torch.float32, copy=True)
        if pooling_mode == "mean":
            item = torch.repeat_interleave(lengths)
            weights /= torch.zeros(len(lengths)).index_add_(0, item, weights)[item]
        padding = torch.tensor([feature.num_tokens])
        self.register_buffer("tokens", torch.cat([tokens, padding]).to(device), persistent=False)
        nothing = torch.cat([weights, torch.zeros(1)]).to(device)
        self.register_buffer("weights", nothing, persistent=False)
        offsets = torch.from_numpy(feature.offsets).to(device, copy=True)
        self.register_buffer("offsets", offsets, persistent=False)

    def forward(self, items: Tensor) -> Tensor:
        """[B] -> [B, D]."""
        start, end = self.offsets[items, None], self.offsets[items + 1, None]
        at = start + torch.arange(self.longest, device=items.device)  # [B, V]
        at = torch.where(at < end, at, len(self.tokens) - 1)
        tokens, weights = self.tokens[at], self.weights[at].to(self.table.weight.dtype)
        if self.pooling_mode != "max":
            return self.table.bags(tokens, weights)
        rows = self.table(tokens) * weights[:, :, None]
        there = (at < end)[:, :, None]
        largest = torch.where(there, rows, float("-inf")).amax(dim=1)  # ties share the gradient
        return torch.where(there.any(dim=1), largest, 0.0)


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

    def __init__(self, view: DenseRows, width: int, name: str, streams: Streams, init: Init):
        super().__init__()
        self.view = view
        self.weight = nn.Parameter(torch.empty(view.width, width))
        init(self.weight, streams.initial(f"{name}/embedding"))

    def forward(self, items: Tensor) -> Tensor:
        """[B] -> [B, width]."""
        x: Tensor = self.view(items).to(self.weight.dtype) @ self.weight
        return x


def new_table(
    num_rows: int,
    width: int,
    key: str,
    streams: Streams,
    init: Init = uniform_,
    gates: int = 1,
    padding: int = 0,
) -> Table:
    """A table [num_rows + padding, width] initialised from the stream `key`; padding is zero."""
    table = Table(num_rows + padding, width)
    init(table.weight[:num_rows], streams.initial(key), gates=gates)
    return table
