"""Session-parallel mini-batches: B slots, each walking one session at a time.

The schedule is a pure function of (offsets, B) and the order of the sessions: a slot whose session
has ended takes the next one and starts from a zero state; when none is left the batch shrinks.
Every pair of consecutive events of a session is visited exactly once: sum(len - 1) pairs per epoch.
(Hidasi et al., ICLR 2016, section 3.1.1.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from p_rnn.batches.batch import Batch
from p_rnn.batches.negatives import Negatives
from p_rnn.batches.reorder import of_epoch
from p_rnn.data.dataset import Sessions
from p_rnn.settings.config import Settings
from p_rnn.settings.errors import UserError
from p_rnn.streams import Streams

Array = NDArray[Any]

# Item indices prepared at a time: on a CPU few enough to stay in the cache, on a GPU enough to make
# the cost of kernel launches negligible.
NUMBERS_PER_BLOCK = {"cpu": 2**17, "cuda": 2**22}
MAX_BLOCK_STEPS = 1024


@dataclass(frozen=True)
class StepBlock:
    """T consecutive steps of the schedule; row t is valid up to column width[t].

    Attributes:
        inputs: int64 [T, B], the input items; `targets`: int64 [T, B], the target items.
        first: bool [T, B], whether the input is the first event of its session (state is reset).
        width: int64 [T], number of live slots, which come first.
        stay: step -> int64 indices of the slots of the previous step that are still live, for the
            steps that have fewer slots than the previous one.
    """

    inputs: Array
    targets: Array
    first: Array
    width: Array
    stay: dict[int, Array]


def num_pairs(offsets: Array) -> int:
    """The number of pairs of consecutive events, which are the examples of an epoch."""
    return int(np.maximum(np.diff(offsets) - 1, 0).sum())


def blocks_of(
    sessions: Sessions, batch_size: int, block_steps: int, order: Array | None = None
) -> Iterator[StepBlock]:
    """All steps of an epoch, in blocks of `block_steps` (the last one may be shorter).

    Args:
        order: of the sessions, int64 [S]; None: as they are, in time order.

    The Python loop runs once per step, not per event; memory is one block plus O(S) for lengths.
    """
    usable = np.flatnonzero(sessions.lengths >= 2)
    if order is not None:
        usable = order[sessions.lengths[order] >= 2]
    starts = sessions.offsets[:-1][usable]
    pairs = sessions.lengths[usable] - 1
    taken = min(batch_size, len(usable))
    position, left = starts[:taken].copy(), pairs[:taken].copy()
    new = np.ones(taken, dtype=bool)

    while len(position):
        at = np.zeros((block_steps, batch_size), dtype=np.int64)
        first = np.zeros((block_steps, batch_size), dtype=bool)
        width = np.zeros(block_steps, dtype=np.int64)
        stay: dict[int, Array] = {}
        steps = 0
        while steps < block_steps:
            ended = np.flatnonzero(left == 0)
            if len(ended):
                refill = ended[: len(usable) - taken]
                following = slice(taken, taken + len(refill))
                position[refill], left[refill] = starts[following], pairs[following]
                new[refill] = True
                taken += len(refill)
                if len(refill) < len(ended):
                    going_on = np.flatnonzero(left > 0)
                    position, left, new = position[going_on], left[going_on], new[going_on]
                    if not len(going_on):
                        break
                    stay[steps] = going_on
            live = len(position)
            at[steps, :live], first[steps, :live], width[steps] = position, new, live
            position, left = position + 1, left - 1
            new = np.zeros(live, dtype=bool)
            steps += 1
        if steps:
            at, last = at[:steps], sessions.num_events - 1
            yield StepBlock(
                inputs=sessions.items[at].astype(np.int64),
                targets=sessions.items[np.minimum(at + 1, last)].astype(np.int64),
                first=first[:steps],
                width=width[:steps],
                stay=stay,
            )


class SessionParallel:
    """Mini-batches of B slots; the hidden state of a slot is carried to the next mini-batch (P).

    With `shuffle` each epoch has a random order of the sessions, else all have their time order, as
    in GRU4Rec.

    Raises:
        UserError: fewer sessions of two or more events than slots.
    """

    def __init__(
        self, config: Settings, sessions: Sessions, negatives: Negatives, streams: Streams
    ) -> None:
        self.batch_size, self.shuffle, self.streams = config.batch_size, config.shuffle, streams
        self.reorder = config.reorder
        self.sessions, self.negatives, self.device = sessions, negatives, streams.device
        usable = int((sessions.lengths >= 2).sum())
        if self.batch_size > usable:
            raise UserError(
                f"batch_size={self.batch_size} exceeds the {usable} training sessions with two "
                f"events or more; set batch_size to at most {usable}, or batching=sequences"
            )

    def __iter__(self) -> Iterator[Batch]:
        room = NUMBERS_PER_BLOCK.get(self.device.type, 2**17)
        numbers = self.batch_size + self.negatives.shared
        block_steps = min(MAX_BLOCK_STEPS, max(1, room // numbers))
        order = None
        if self.shuffle:
            order = self.streams.order("order").permutation(self.sessions.num_sessions)
        sessions = of_epoch(self.sessions, self.reorder, self.streams)
        for block in blocks_of(sessions, self.batch_size, block_steps, order):
            drawn = self.negatives.draw(len(block.width), self.batch_size)
            for part in _equally_wide(block):
                own = None if drawn is None else drawn[part]
                yield from self._batches(block, part, own)

    def _batches(
        self, block: StepBlock, part: slice, drawn: torch.Tensor | None
    ) -> Iterator[Batch]:
        """The mini-batches of the steps `part` of a block, which have equally many live slots."""
        width, device = int(block.width[part.start]), self.device
        stay = block.stay.get(part.start)
        going_on = None if stay is None else torch.from_numpy(stay).to(device)
        inputs, targets = (
            torch.from_numpy(x[part, :width]).to(device) for x in (block.inputs, block.targets)
        )
        keep = torch.from_numpy(~block.first[part, :width, None]).to(device, torch.float32)
        items = self.negatives.candidates(targets, drawn)
        column = self.negatives.columns(targets)
        for t in range(len(inputs)):
            yield Batch(
                inputs[t],
                targets[t],
                None if items is None else items[t],
                column[t],
                keep[t],
                going_on,
                full=width == self.batch_size,
            )
            going_on = None


def _equally_wide(block: StepBlock) -> Iterator[slice]:
    """Runs of consecutive steps with the same number of live slots."""
    cuts = np.flatnonzero(np.diff(block.width)) + 1
    for lo, hi in zip([0, *cuts.tolist()], [*cuts.tolist(), len(block.width)], strict=True):
        yield slice(lo, hi)
