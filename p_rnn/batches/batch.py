"""The mini-batch: input items, target items and candidates of one training step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """M examples: a target item each, with the input items before it.

    Attributes:
        inputs: int64 [B], the input item of each slot; for windows [U], the distinct input items.
        targets: int64 [M], the target items (M = B except for windows).
        items: int64 candidates. [C]: shared by all examples, their targets first; [M, C]: per
            example, the target first; None: the whole catalogue.
        column: int64 [M], the index of each example's target among its candidates.
        keep: [B, 1], 0 where a session begins, so that the state is reset, else 1.
        stay: int64 [B], the slots of the previous mini-batch that are still live; None: all.
        repeat: for windows, int64 [P]: the index into `inputs` at each packed position.
        widths: for windows, the number that have a step t; windows are sorted longest first.
        picks: for windows, int64 [M]: the positions whose outputs predict the targets.
        full: all B slots are live, so that all such mini-batches have the same shapes.
        of: the examples of the whole mini-batch, if this is one rank's part of it.
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
    of: int | None = None

    @property
    def examples(self) -> int:
        """The examples of the mini-batch, over all ranks."""
        return len(self.targets) if self.of is None else self.of

    @property
    def candidates(self) -> Tensor | slice:
        return slice(None) if self.items is None else self.items

    @property
    def has_negatives(self) -> bool:
        """Whether there is any candidate other than the target."""
        return self.items is None or self.items.shape[-1] > 1
