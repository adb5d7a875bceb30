"""Counts how many scores compare with the target score in a given way, block by block."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from p_rnn.fast import native
from p_rnn.fast.native import functions

Compare = Callable[..., Tensor]
# By tie rule; a rank is 1 + the mean of these counts. ">=" is one comparison, ">" and "==" are two.
COMPARISONS: dict[str, tuple[Compare, ...]] = {
    "standard": (torch.gt,),
    "conservative": (torch.ge,),
    "median": (torch.gt, torch.ge),
}


class Counter:
    """Counts the scores of each row that compare so with the target score of the row.

    Attributes:
        total: [1], NaN or infinite if a score is.
    """

    def __init__(self, comparisons: tuple[Compare, ...], target_scores: Tensor, most: int) -> None:
        """
        Args:
            target_scores: [b, 1].
            most: the number of scores per row, over all blocks.
        """
        self.comparisons, self.target_scores = comparisons, target_scores
        # float32 counts exactly up to 2^24.
        few = torch.float32 if most < 2**24 else torch.float64
        self.exact = torch.promote_types(target_scores.dtype, few)
        self.total = target_scores.sum(dim=0, dtype=self.exact)
        self.found = target_scores.new_zeros(len(target_scores), dtype=self.exact)
        self.scratch = target_scores.new_empty(0)

    def add(self, block: Tensor) -> None:
        """Count a block of scores, [b, items]."""
        # Comparing into a buffer of numbers is five times as fast as making and summing booleans.
        if self.scratch.shape != block.shape:
            self.scratch = torch.empty(block.shape, dtype=block.dtype, device=block.device)
        for compare in self.comparisons:
            compare(block, self.target_scores, out=self.scratch)
            self.found += self.scratch.sum(dim=1, dtype=self.exact)
        self.total += block.sum(dtype=self.exact)

    def counts(self) -> Tensor:
        """float64 [b]: the sum of the counts of all comparisons."""
        return self.found.double()


class NativeCounter(Counter):
    """The same in C++, with one pass over a block."""

    def __init__(self, comparisons: tuple[Compare, ...], target_scores: Tensor, most: int) -> None:
        super().__init__(comparisons, target_scores.contiguous(), most)
        self.at_least, self.above = torch.zeros(2, len(target_scores), dtype=torch.int64)
        self.bad = torch.zeros(1, dtype=torch.int64)

    def add(self, block: Tensor) -> None:
        functions.count_scores(block, self.target_scores, self.at_least, self.above, self.bad)

    def counts(self) -> Tensor:
        self.total = torch.where(self.bad > 0, torch.nan, self.total)
        counts = {torch.ge: self.at_least, torch.gt: self.above}
        return torch.stack([counts[compare] for compare in self.comparisons]).sum(dim=0).double()


def counter_for(
    block: Tensor, comparisons: tuple[Compare, ...], target_scores: Tensor, most: int
) -> Counter:
    """The fastest counter that can handle such blocks."""
    cls = NativeCounter if native.serves(block) else Counter
    return cls(comparisons, target_scores, most)
