"""The part of one rank in session-parallel mini-batches (p_rnn/distributed.py)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from torch import nn

from p_rnn import distributed
from p_rnn.batches.batch import Batch
from p_rnn.models.dropout import Dropout


class OwnSlots:
    """The mini-batches of which this rank has its own slots only, with all candidates.

    Slots that end leave the order of the others as it is, so the live slots of a rank stay
    neighbours. A rank whose slots have all ended goes on with mini-batches of no example.

    Attributes:
        own: the live slots of this rank, among all of the latest mini-batch.
    """

    own = slice(0)

    def __init__(self, batches: Iterable[Batch], network: nn.Module, batch_size: int) -> None:
        self.batches, self.batch_size = batches, batch_size
        self.dropouts = [m for m in network.modules() if isinstance(m, Dropout)]

    def __iter__(self) -> Iterator[Batch]:
        slots = self.batch_size // distributed.count()
        lo, hi = slots * distributed.number(), slots * (distributed.number() + 1)
        self.own = slice(lo, hi)
        for batch in self.batches:
            stay = batch.stay
            if stay is not None:
                own = (stay >= lo) & (stay < hi)
                before = int((stay < lo).sum())
                stay, lo, hi = stay[own] - lo, before, before + int(own.sum())
                self.own = slice(lo, hi)
            for dropout in self.dropouts:
                dropout.rows = (lo, hi, len(batch.targets))
            items = batch.items
            yield replace(
                batch,
                inputs=batch.inputs[lo:hi],
                targets=batch.targets[lo:hi],
                items=items if items is None or items.dim() == 1 else items[lo:hi],
                column=batch.column[lo:hi],
                keep=None if batch.keep is None else batch.keep[lo:hi],
                stay=stay,
                of=len(batch.targets),
            )
