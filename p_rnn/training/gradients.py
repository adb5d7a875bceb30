"""Sparse gradients of tables, whose rows may occur more than once, and gradient clipping."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def entries_of(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """The table row [R] and the values [R, D] of each entry; a row may occur more than once."""
    # PyTorch documents these accessors for tensors that are not coalesced.
    return gradient._indices()[0], gradient._values()


def segment_sum(gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sum the entries of a sparse gradient that belong to the same row of the table.

    Unlike `Tensor.coalesce`, this creates no shape that depends on values, so it does not wait for
    a GPU, and it sums in a fixed order.

    Returns:
        rows: int64 [R], the table row of each entry, sorted; `sums`: [R, D], row k is the sum of
        the k-th distinct table row, the rest is zero; `segment`: int64 [R], the row of `sums` that
        belongs to each of `rows`.
    """
    index, values = entries_of(gradient)
    count = len(index)
    bits = max(count - 1, 1).bit_length()
    place = torch.arange(count, device=index.device)
    # Sort row and position packed into one number: half the time of a stable sort.
    keys = ((index << bits) | place).sort().values
    rows, order = keys >> bits, keys & ((1 << bits) - 1)
    new = torch.ones_like(rows, dtype=torch.bool)
    torch.ne(rows[1:], rows[:-1], out=new[1:])
    segment = new.cumsum(0) - 1
    # Where each segment starts; other entries are written to a last slot that is cut off.
    starts = rows.new_full((count + 1,), count)
    starts.scatter_(0, torch.where(new, segment, count), torch.where(new, place, count))
    sums = F.embedding_bag(order, values, starts[:count], mode="sum")
    return rows, sums, segment


def summed_rows(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """(rows [R], sums [R, D]) of a sparse gradient; a row that occurs twice has its sum twice."""
    if gradient.device.type == "cpu":  # no sync point there, and faster
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
            (entries_of(p.grad)[1] if p.grad.is_sparse else p.grad).mul_(scale)
