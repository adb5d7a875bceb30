"""Gradients of tables, of which a step reads few rows, some of them more than once."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def segment_sum(gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The sums of the rows of a sparse gradient that belong to the same row of the table.

    Unlike `Tensor.coalesce`, it makes no shape that depends on values, so that no GPU is waited
    for, and sums in a fixed order.

    Returns:
        rows: int64 [R], of the table, sorted; `sums`: [R, D], of the k-th distinct row, the others
        zero; `segment`: int64 [R], which of the sums is that of each of `rows`.
    """
    # What PyTorch's documentation prescribes for gradients that are not coalesced.
    index, values = gradient._indices()[0], gradient._values()
    count = len(index)
    bits = max(count - 1, 1).bit_length()
    place = torch.arange(count, device=index.device)
    # A row and where it was read as one number: half the time of a stable sort.
    keys = ((index << bits) | place).sort().values
    rows, order = keys >> bits, keys & ((1 << bits) - 1)
    new = torch.ones_like(rows, dtype=torch.bool)
    torch.ne(rows[1:], rows[:-1], out=new[1:])
    segment = new.cumsum(0) - 1
    # Where segments begin; what is no beginning goes to a place that is cut off.
    starts = rows.new_full((count + 1,), count)
    starts.scatter_(0, torch.where(new, segment, count), torch.where(new, place, count))
    sums = F.embedding_bag(order, values, starts[:count], mode="sum")
    return rows, sums, segment


def summed_rows(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """(rows, sums) [R] and [R, D] of a sparse gradient: rows that come again have the same sum."""
    if gradient.device.type == "cpu":  # nothing is waited for, and this is quicker
        gradient = gradient.coalesce()
        return gradient.indices()[0], gradient.values()
    rows, sums, segment = segment_sum(gradient)
    return rows, sums.index_select(0, segment)


@torch.no_grad()
def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The L2 norm of all gradients together, dense and sparse, 0-d."""
    squares = [
        (segment_sum(p.grad)[1] if p.grad.is_sparse else p.grad).square().sum()
        for p in parameters
        if p.grad is not None
    ]
    return torch.stack(squares).sum().sqrt() if squares else torch.zeros(())


@torch.no_grad()
def clip_(parameters: Iterable[nn.Parameter], norm: Tensor, most: float) -> None:
    """Scale all gradients so that their norm is at most `most` (Pascanu et al. 2013)."""
    scale = (most / (norm + 1e-6)).clamp(max=1.0)
    for p in parameters:
        if p.grad is not None:
            (p.grad._values() if p.grad.is_sparse else p.grad).mul_(scale)
