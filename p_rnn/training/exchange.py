"""Sums of losses and gradients over the ranks (p_rnn/distributed.py)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from p_rnn import distributed
from p_rnn.training.gradients import entries_of

Rows = tuple[Tensor, Tensor]  # rows of a table, int64 [P], and their gradients [P, D]


class Exchange:
    """Sums losses and gradients over the ranks: one gathering of row numbers, and one sum.

    Of tables only the rows that any rank has read are exchanged.
    """

    room = 0  # row numbers in a message, in all tables together; all ranks have the same

    def __call__(
        self, whole: Sequence[Tensor], rows: Sequence[Rows]
    ) -> tuple[list[Tensor], list[Rows]]:
        """The sums over all ranks; rows come out sorted and distinct."""
        found, places = self._rows_of_all([index for index, _ in rows])
        sums = [
            values.new_zeros(len(each), values.shape[1]).index_add_(0, place, values)
            for each, place, (_, values) in zip(found, places, rows, strict=True)
        ]
        parts = [*whole, *sums]
        flat = distributed.add_up(torch.cat([each.reshape(-1) for each in parts]))
        split = _cut(flat, [each.numel() for each in parts])
        shaped = [new.view_as(old) for new, old in zip(split, parts, strict=True)]
        return shaped[: len(whole)], list(zip(found, shaped[len(whole) :], strict=True))

    def gradients(self, network: nn.Module, loss: Tensor) -> Tensor:
        """Replace `.grad` of all parameters by their sums; returns the sum of the losses."""
        given = [p for p in network.parameters() if p.grad is not None]
        whole = [p for p in given if not p.grad.is_sparse]  # type: ignore[union-attr]
        tables = [p for p in given if p.grad.is_sparse]  # type: ignore[union-attr]
        rows = [entries_of(p.grad) for p in tables]  # type: ignore[arg-type]
        (total, *sums), summed = self([loss, *(p.grad for p in whole)], rows)  # type: ignore[list-item]
        for p, gradient in zip(whole, sums, strict=True):
            p.grad = gradient
        for p, (index, values) in zip(tables, summed, strict=True):
            p.grad = torch.sparse_coo_tensor(
                index[None], values, p.shape, check_invariants=False, is_coalesced=True
            )
        return total

    def _rows_of_all(self, own: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """For each table the rows of all ranks, sorted and distinct, and where the own ones are."""
        if not own:
            return [], []
        sizes = [len(index) for index in own]
        gathered = self._gathered(torch.cat([torch.tensor(sizes, device=own[0].device), *own]))
        theirs = [_cut(message[len(own) :], message[: len(own)].tolist()) for message in gathered]
        found, places = [], []
        for k in range(len(own)):
            each = [parts[k] for parts in theirs]
            distinct, place = torch.unique(torch.cat(each), return_inverse=True)
            before = sum(len(index) for index in each[: distributed.number()])
            found.append(distinct)
            places.append(place[before : before + sizes[k]])
        return found, places

    def _gathered(self, message: Tensor) -> list[Tensor]:
        """The messages (int64) of all ranks, of any length."""
        while True:
            sent = message.new_zeros(self.room + 1)
            sent[0] = len(message)
            sent[1 : 1 + len(message)] = message[: self.room]
            received = message.new_empty(distributed.count(), self.room + 1)
            with distributed.together():
                dist.all_gather(list(received), sent)
            lengths = received[:, 0].tolist()
            if max(lengths) <= self.room:
                return [each[1 : 1 + n] for each, n in zip(received, lengths, strict=True)]
            self.room = max(lengths) * 5 // 4


def _cut(x: Tensor, sizes: Sequence[int]) -> Sequence[Tensor]:
    return torch.split(x, list(sizes))
