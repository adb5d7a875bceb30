"""Leaves the items of a session's history out of the counts of a ranking."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from p_rnn.evaluation.counting import Compare


def distinct(seen: Tensor) -> Tensor:
    """`seen` [B, T] with each item of a row once, sorted, and -1 elsewhere."""
    seen = seen.sort(dim=1).values
    again = torch.zeros_like(seen, dtype=torch.bool)
    again[:, 1:] = seen[:, 1:] == seen[:, :-1]
    return seen.masked_fill(again, -1)


@dataclass(frozen=True)
class SeenItems:
    """The seen items of some rows, in the order of the blocks in which their scores stand.

    Attributes:
        rows: int64 [E], the row that has seen an item.
        columns: int64 [E], the column of the item in its block.
        starts: of the entries of each block.
        counts: float64 [b], how many scores of seen items compare so with the target score.
    """

    rows: Tensor
    columns: Tensor
    starts: list[int]
    counts: Tensor

    @classmethod
    def of(cls, seen: Tensor, ranked: int, size: int) -> SeenItems:
        """
        Args:
            seen: int64 [b, T], distinct in a row, padded with -1.
            ranked: the number of candidates, in blocks of `size`; other seen items do not count.
        """
        rows, places = ((seen >= 0) & (seen < ranked)).nonzero(as_tuple=True)
        items, order = seen[rows, places].sort()
        bounds = torch.arange(0, ranked + size, size, device=seen.device)
        starts = torch.searchsorted(items, bounds).tolist()
        counts = torch.zeros(len(seen), dtype=torch.float64, device=seen.device)
        return cls(rows[order], items % size, starts, counts)

    def add(
        self, number: int, block: Tensor, target_scores: Tensor, comparisons: tuple[Compare, ...]
    ) -> None:
        """Count those in a block of scores [b, items]."""
        part = slice(self.starts[number], self.starts[number + 1])
        rows = self.rows[part]
        if len(rows):
            scores, own = block[rows, self.columns[part]], target_scores[rows, 0]
            for compare in comparisons:
                self.counts.index_add_(0, rows, compare(scores, own).double())
