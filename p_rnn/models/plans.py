"""Plans: how the gradients of the reads of a step become one gradient per row of a table.

Rows that are read more than once have their gradients summed before the optimizer squares them.
What is to be summed depends on indices alone, so it is worked out for many steps at once, and in a
fixed order, which keeps runs bit-identical whatever the threads do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Bags:
    """Which rows of a table each of B places sums up, with which weights.

    Attributes:
        rows: int64 [P]; `weights`: [P]; rows of weight zero are padding.
        starts: int64 [B], where the rows of a place begin; the last one's go on to the end.
        owner: int64 [P], the place to which a row belongs.
    """

    rows: Tensor
    weights: Tensor
    starts: Tensor
    owner: Tensor


@dataclass(frozen=True)
class RowPlan:
    """Gradient of row rows[u] = sum over j in segment u of weights_j * source[order_j].

    Of many steps at once each field has a leading T.

    Attributes:
        rows: int64 [R], each row that is read once, then the scratch row.
        starts: int64 [R], where segments begin; those of the padding are empty.
        order: int64 [R], rows of the gradients of all reads below each other.
        weights: [R] of bags, else None.
    """

    rows: Tensor
    starts: Tensor
    order: Tensor
    weights: Tensor | None = None

    def sums(self, source: Tensor) -> Tensor:
        """[M, D] (or [M]) -> [R, D] (or [R])."""
        return sum_of_rows(source, self.order, self.starts, self.weights)

    def tensors(self) -> list[Tensor]:
        """The fields that there are, in order."""
        values = [getattr(self, f.name) for f in fields(self)]
        return [x for x in values if x is not None]


def sum_of_rows(source: Tensor, rows: Tensor, starts: Tensor, weights: Tensor | None) -> Tensor:
    """[B, D]: sum_j weights_j source[rows_j] over j in [starts_b, starts_b+1); [B] of [N]."""
    if source.dim() == 1:
        return sum_of_rows(source[:, None], rows, starts, weights)[:, 0]
    return torch._embedding_bag_forward_only(source, rows, starts, False, 0, False, weights)[0]


def plan_rows(index: Tensor, num_rows: int) -> RowPlan:
    """The plans of T steps from the rows [T, R] that each of them reads.

    Sorting keys of row and place puts the reads of a row next to each other, in their order.
    """
    steps, reads = index.shape
    bits = max(reads - 1, 1).bit_length()
    place = torch.arange(reads, device=index.device)
    keys = (index << bits) | place
    if (num_rows + 1) << bits < 2**31:
        keys = keys.int()  # sorted in half the time
    keys = _sort(keys).long()
    order, rows = keys & ((1 << bits) - 1), keys >> bits
    new = torch.ones_like(rows, dtype=torch.bool)
    torch.ne(rows[:, 1:], rows[:, :-1], out=new[:, 1:])
    # Segment u of a step goes to column u; what is no start goes to a column that is cut off.
    column = torch.where(new, new.cumsum(dim=1) - 1, reads)
    unique = rows.new_full((steps, reads + 1), num_rows).scatter_(1, column, rows)
    starts = rows.new_full((steps, reads + 1), reads)
    starts.scatter_(1, column, place.expand_as(rows))
    return RowPlan(unique[:, :reads], starts[:, :reads], order)


def plan_bags(bags: Bags, num_rows: int) -> RowPlan:
    """The plans of T steps that read bags, each field of which has a leading T."""
    plan = plan_rows(bags.rows, num_rows)
    weights = bags.weights.gather(1, plan.order)
    # The padding has no owner, and no weight either.
    owner = bags.owner.clamp(max=bags.starts.shape[1] - 1)
    return RowPlan(plan.rows, plan.starts, owner.gather(1, plan.order), weights)


def plan_of_reads(reads: Sequence[Tensor | Bags], num_rows: int) -> RowPlan:
    """The plan of one step: of rows, or of the bags of one read."""
    first = reads[0]
    if isinstance(first, Bags):
        assert len(reads) == 1, "a table of bags serves one input"
        one = Bags(*(getattr(first, f.name)[None] for f in fields(first)))
        return _only_step(plan_bags(one, num_rows), num_rows)
    index = torch.cat([items for items in reads if isinstance(items, Tensor)])
    return _only_step(plan_rows(index[None], num_rows), num_rows)


def _only_step(plan: RowPlan, num_rows: int) -> RowPlan:
    """Of a plan of one step, without padding."""
    rows, starts, *others = (x[0] for x in plan.tensors())
    count = int((rows < num_rows).sum())  # the CPU waits for the GPU
    return RowPlan(rows[:count], starts[:count], *others)


def _sort(keys: Tensor) -> Tensor:
    """Each row of [T, R] in ascending order; on a CPU, NumPy's vectorised sort."""
    if keys.device.type != "cpu":
        return keys.sort(dim=1).values
    return torch.from_numpy(np.sort(keys.numpy(), axis=1))
