"""A matrix with a row per item, of which an update touches few rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Items = Tensor | slice  # item indices, or a range of them
Init = Callable[..., Tensor]  # of (weight [rows, gates * cols], generator, gates)


@torch.no_grad()
def uniform_(weight: Tensor, generator: torch.Generator, gates: int = 1) -> Tensor:
    """Fill [rows, gates * cols] with U(+-sqrt(6 / (rows + cols))), each gate on its own (P)."""
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


@dataclass(frozen=True)
class RowGradient:
    """The gradient of the rows of a table that a step read.

    A row read more than once occurs as often in `rows`, each time with the sum of its gradients,
    so that writing every one of them writes the same.

    Attributes:
        rows: int64 [R], or None = all N. `values`: [R, D] or [N, D].
        repeated: positions in `rows` to leave out for each row to occur once.
    """

    rows: Tensor | None
    values: Tensor
    repeated: Tensor | None


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
        self.place: Tensor | None = None  # scratch of `_add_up`

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

    def take_gradient(self) -> RowGradient | None:
        """The rows read since the last call and their gradients.

        Returns:
            None when nothing was read.
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
            return RowGradient(None, total, None)
        index = torch.cat([items for items, _ in some])
        assert all(g is not None for _, g in some), "rows were read without being used"
        gradient = torch.cat([g for _, g in some if g is not None])
        return RowGradient(index, gradient, self._add_up(index, gradient))

    def _add_up(self, index: Tensor, gradient: Tensor) -> Tensor:
        """Give every occurrence of a row the sum over all of them; positions of the later ones.

        One occurrence per row stands for it: whichever was written last to that row's place.
        Sorting the index would cost several times as much, and few rows occur twice.
        """
        if self.place is None:
            self.place = torch.empty(len(self.weight), dtype=torch.int64, device=index.device)
        order = torch.arange(len(index), device=index.device)
        # amax rather than a plain write: which of two writes wins is open when threads share them.
        self.place.scatter_reduce_(0, index, order, "amax", include_self=False)
        chief = self.place.index_select(0, index)
        others = torch.nonzero(chief != order).squeeze(1)
        if len(others):
            chiefs = chief[others]
            gradient.index_add_(0, chiefs, gradient[others])
            gradient[others] = gradient[chiefs]
        return others
