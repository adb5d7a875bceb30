"""Embedding tables, and initialisers of weights."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from p_rnn.streams import Streams

ItemIndex = Tensor | slice  # item indices, or a range of them
Init = Callable[..., Tensor]  # of (weight [rows, gates * cols], generator, gates)


@torch.no_grad()
def uniform_(weight: Tensor, generator: torch.Generator, gates: int = 1) -> Tensor:
    """Fill [rows, gates * cols] with U(+-sqrt(6 / (rows + cols))), gate by gate (P)."""
    rows, cols = weight.shape[0], weight.shape[1] // gates
    bound = math.sqrt(6.0 / (rows + cols))
    return weight.uniform_(-bound, bound, generator=generator)


@torch.no_grad()
def xavier_normal_(weight: Tensor, generator: torch.Generator, gates: int = 1) -> Tensor:
    """Fill [rows, gates * cols] with N(0, 2 / (rows + cols)) (Glorot & Bengio 2010)."""
    rows, cols = weight.shape[0], weight.shape[1] // gates
    return weight.normal_(0.0, math.sqrt(2.0 / (rows + cols)), generator=generator)


@torch.no_grad()
def torch_gru_(weight: Tensor, generator: torch.Generator, gates: int = 3) -> Tensor:
    """Fill [rows, gates * H] with U(+-1 / sqrt(H)), as torch.nn.GRU does with all its weights."""
    bound = 1 / math.sqrt(weight.shape[1] // gates)
    return weight.uniform_(-bound, bound, generator=generator)


class Table(nn.Embedding):
    """An embedding table [N, D] with sparse gradients, initialised to zero.

    Attributes:
        sparse: gradients have only the rows that were read, unless the whole table was read. False
            is for tools that do not support sparse gradients (`PRNN.dense_gradients`).
    """

    weight: nn.Parameter

    def __init__(self, num_rows: int, width: int) -> None:
        super().__init__(num_rows, width, sparse=True, device="meta")  # draws no random numbers
        self.weight = nn.Parameter(torch.zeros(num_rows, width))
        self.num_items = self.num_trained = num_rows
        self.width = width

    def forward(self, items: ItemIndex) -> Tensor:
        """Rows by index: [C] -> [C, D], [M, C] -> [M, C, D]; a slice returns a view."""
        if isinstance(items, slice):
            return self.weight[items]
        return F.embedding(items, self.weight, sparse=self.sparse)

    def bags(self, rows: Tensor, weights: Tensor) -> Tensor:
        """Weighted sums of rows: [B, V], [B, V] -> [B, D], sum_v weights_bv * row rows_bv."""
        return F.embedding_bag(
            rows, self.weight, mode="sum", per_sample_weights=weights, sparse=self.sparse
        )


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
