"""A matrix with a row per item, of which an update touches few rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from p_rnn.models.plans import Bags, RowPlan, plan_of_reads, sum_of_rows

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

    Attributes:
        plan: by which the gradients of the reads are summed, or None = there is one, of all N.
        sources: [M_k, D] gradients of the reads, which stand below each other; or [N, D].
    """

    plan: RowPlan | None
    sources: Sequence[Tensor]

    @property
    def source(self) -> Tensor:
        """[M, D]; a copy where there are several."""
        return self.sources[0] if len(self.sources) == 1 else torch.cat(list(self.sources))

    @property
    def rows(self) -> Tensor | None:
        """int64 [R], each row once (and the scratch row as padding), or None = all N."""
        return None if self.plan is None else self.plan.rows

    @property
    def values(self) -> Tensor:
        """[R, D] or [N, D], summed at every call; zeros for the padding."""
        return self.source if self.plan is None else self.plan.sums(self.source)


@dataclass(frozen=True)
class _Read:
    """What was read, and the leaf of the graph that it became.

    Attributes:
        items: the rows, one for each row of `leaf`; or all; or bags that were summed up in `leaf`.
        plan: of this read alone, where it was made ahead.
    """

    items: Items | Bags
    leaf: Tensor
    plan: RowPlan | None

    @property
    def gradient(self) -> Tensor:
        assert self.leaf.grad is not None, "rows were read without being used"
        return self.leaf.grad


class Table(nn.Module):
    """Parameters [N, D] (or [N] when `width` is None) that are read by row.

    In training, `rows`, `bags` and `unread` hand out leaf tensors and remember them; after the
    backward pass the optimizer takes index and gradient of what was read. No gradient of the size
    of the table is ever made, except where the whole table is read at once (negatives=full).

    `storage` has one row more, the scratch row: padding that keeps shapes static reads and writes
    it. `weight` is a view of the others.
    """

    weight: nn.Parameter

    def __init__(self, num_rows: int, width: int | None) -> None:
        super().__init__()
        shape = (num_rows,) if width is None else (num_rows, width)
        self.weight = nn.Parameter(torch.zeros(shape), requires_grad=False)
        self.storage = padded(self.weight)
        self.weight.data = self.storage[:num_rows]
        self.num_rows = num_rows
        self.reads: list[_Read] = []

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Table:
        """Moves to another device or type take the storage along."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.storage = padded(self.weight)
        self.weight.data = self.storage[: self.num_rows]
        return self

    def rows(self, items: Items, plan: RowPlan | None = None) -> Tensor:
        """The rows of `items`; a view when items is a slice."""
        if isinstance(items, slice):
            rows = self.storage[: self.num_rows][items]
        else:
            rows = self.storage.index_select(0, items)
        return self._leaf(items, rows, plan) if torch.is_grad_enabled() else rows

    def unread(self, items: Items) -> Tensor:
        """What takes the gradient of rows that others read; it holds no numbers."""
        count = (
            len(range(*items.indices(self.num_rows))) if isinstance(items, slice) else len(items)
        )
        return self._leaf(items, self.storage.new_empty(count, *self.storage.shape[1:]), None)

    def bags(self, bags: Bags, plan: RowPlan | None = None) -> Tensor:
        """[B, D], the weighted sums of rows; the rows themselves are never copied."""
        total = sum_of_rows(self.storage, bags.rows, bags.starts, bags.weights)
        return self._leaf(bags, total, plan) if torch.is_grad_enabled() else total

    def _leaf(self, items: Items | Bags, rows: Tensor, plan: RowPlan | None) -> Tensor:
        whole = isinstance(items, slice) and len(rows) == self.num_rows
        assert whole or not isinstance(items, slice), "training reads rows or the whole table"
        rows = rows.detach().requires_grad_()
        self.reads.append(_Read(items, rows, plan))
        return rows

    def take_gradient(self, plan: RowPlan | None = None) -> RowGradient | None:
        """The rows read since the last call, each once, and their gradients.

        Args:
            plan: of these reads, where it was made ahead (p_rnn/models/plans.py).

        Returns:
            None when nothing was read.
        """
        reads, self.reads = self.reads, []
        if not reads:
            return None
        whole = [read.gradient for read in reads if isinstance(read.items, slice)]
        reads = [read for read in reads if not isinstance(read.items, slice)]
        some = None
        if reads:
            if len(reads) == 1:
                plan = reads[0].plan or plan
            items = [read.items for read in reads if not isinstance(read.items, slice)]
            plan = plan or plan_of_reads(items, self.num_rows)
            some = RowGradient(plan, [read.gradient for read in reads])
        if not whole:
            return some
        total = whole[0] if len(whole) == 1 else torch.stack(whole).sum(dim=0)
        if some is not None:
            assert some.rows is not None
            # The padding adds its zeros to the last row.
            total = total.index_add(0, some.rows.clamp(max=self.num_rows - 1), some.values)
        return RowGradient(None, [total])


def padded(weight: Tensor) -> Tensor:
    """A copy with one row of zeros more."""
    storage = weight.new_zeros(len(weight) + 1, *weight.shape[1:])
    storage[:-1] = weight.detach()
    return storage
