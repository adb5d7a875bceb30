"""A matrix with a row per item, of which an update touches few rows."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

Items = Tensor | slice  # item indices, or a range of them


def uniform_(weight: Tensor, generator: torch.Generator, gates: int = 1) -> Tensor:
    """Fill [rows, gates * cols] with U(+-sqrt(6 / (rows + cols))), each gate on its own (P)."""
    rows, cols = weight.shape[0], weight.shape[1] // gates
    bound = math.sqrt(6.0 / (rows + cols))
    with torch.no_grad():
        return weight.uniform_(-bound, bound, generator=generator)


class Table(nn.Module):
    """Parameters [N, D] (or [N] when `width` is None) that are read by row.

    In training, `rows` hands out leaf tensors and remembers them; after the backward pass the
    optimizer takes index and gradient of what was read. No gradient of the size of the table is
    ever made, except where the whole table is read at once (negatives=full).
    """

    def __init__(self, num_rows: int, width: int | None) -> None:
        super().__init__()
        shape = (num_rows,) if width is None else (num_rows, width)
        self.weight = nn.Parameter(torch.zeros(shape), requires_grad=False)
        self.reads: list[tuple[Items, Tensor]] = []

    def rows(self, items: Items) -> Tensor:
        """The rows of `items`; a view when items is a slice."""
        if isinstance(items, slice):
            rows = self.weight.detach()[items]
        else:
            rows = self.weight.detach().index_select(0, items)
        if torch.is_grad_enabled():
            whole = isinstance(items, slice) and len(rows) == len(self.weight)
            assert isinstance(items, Tensor) or whole, "training reads rows or the whole table"
            rows.requires_grad_()
            self.reads.append((items, rows))
        return rows

    def take_gradient(self) -> tuple[Tensor | None, Tensor] | None:
        """Distinct rows read since the last call and their summed gradients.

        Returns:
            (rows int64 [R], gradient [R, D]), or (None, [N, D]) after a read of the whole table,
            or None when nothing was read. Rows read more than once have their gradients added.
        """
        reads, self.reads = self.reads, []
        if not reads:
            return None
        whole = [rows.grad for items, rows in reads if isinstance(items, slice)]
        some = [(items, rows.grad) for items, rows in reads if isinstance(items, Tensor)]
        if whole:
            total = whole[0]
            assert total is not None
            for gradient in whole[1:]:
                assert gradient is not None
                total += gradient
            for items, gradient in some:
                assert gradient is not None
                total.index_add_(0, items, gradient)
            return None, total
        index = torch.cat([items for items, _ in some])
        gradient = torch.cat([g for _, g in some if g is not None])
        distinct, inverse = torch.unique(index, return_inverse=True)
        summed = gradient.new_zeros((len(distinct), *gradient.shape[1:]))
        return distinct, summed.index_add_(0, inverse, gradient)
