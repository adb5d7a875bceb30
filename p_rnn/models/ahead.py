"""Modules that need numbers which depend on item indices or on chance alone.

Such numbers can be made for many steps at once, before the steps run: that saves operations, keeps
the steps free of random generators and of shapes that depend on data, and so lets a whole step be
compiled or captured.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn


class Ahead(nn.Module):
    """A module whose forward takes the numbers of the present step where there are any.

    Attributes:
        now: what `ahead` made for this step; empty where it was not called, as in evaluation.
        numbers: about how many it makes for an item; for the size of blocks.
    """

    numbers: int

    def __init__(self) -> None:
        super().__init__()
        self.now: tuple[Tensor, ...] = ()

    def wanted(self, learning: bool) -> bool:
        """Whether there is anything to make, for a subnet that learns or rests."""
        raise NotImplementedError

    def ahead(self, items: Tensor) -> list[Tensor]:
        """Tensors with a leading T for T steps that read items [T, B]."""
        raise NotImplementedError


@contextmanager
def prepared(modules: Iterable[Ahead], tensors: Iterable[Sequence[Tensor]]) -> Iterator[None]:
    """Within it the modules have the numbers of a step."""
    modules = list(modules)
    for module, own in zip(modules, tensors, strict=True):
        module.now = tuple(own)
    try:
        yield
    finally:
        for module in modules:
            module.now = ()
