"""The mini-batch: what a step of training reads, and what it is to predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """M examples: a target each, and the items read before it.

    Attributes:
        inputs: int64 [B], the item that each slot reads; of windows [U], each distinct item once.
        targets: int64 [M], the item after each (M = B, but for windows).
        items: int64 candidates. [C]: the same for all examples, their targets first; [M, C]: each
            its own, the target first; None: the whole catalogue.
        column: int64 [M], where the target of each example stands among its candidates.
        keep: [B, 1], 0 where a session begins and the state before it is forgotten, else 1.
        stay: int64 [B], which slots of the mini-batch before go on; None: all.
        repeat: of windows, int64 [P]: which of `inputs` stands at each place, step after step.
        widths: of windows, how many have a step t; the longest come first.
        picks: of windows, int64 [M]: the places from which the targets are predicted.
        full: no slot is empty, so that shapes are those of all such mini-batches.
    """

    inputs: Tensor
    targets: Tensor
    items: Tensor | None
    column: Tensor
    keep: Tensor | None = None
    stay: Tensor | None = None
    repeat: Tensor | None = None
    widths: Sequence[int] = ()
    picks: Tensor | None = None
    full: bool = False

    @property
    def candidates(self) -> Tensor | slice:
        return slice(None) if self.items is None else self.items

    @property
    def has_negatives(self) -> bool:
        """Whether there is anything to tell the targets from."""
        return self.items is None or self.items.numel() > 1
