"""Session-parallel mini-batches: B slots, each walking one session at a time.

The schedule is a pure function of (offsets, B): sessions in order; a slot whose session has ended
takes the next one and starts from a zero state; when none is left the batch shrinks. Every pair of
consecutive events of a session is visited exactly once: sum(len - 1) pairs per epoch.
(Hidasi et al., ICLR 2016, section 3.1.1.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p_rnn.data.dataset import Sessions

Array = NDArray[Any]


@dataclass(frozen=True)
class Block:
    """T consecutive steps of the schedule; row t is valid up to width[t].

    Attributes:
        inputs: int64 [T, B] item index of the input event; `targets`: of the one after it.
        first: bool [T, B], the input is the first event of its session, so its state is zero.
        width: int64 [T], live slots; they stand at the front.
        stay: where a step has fewer slots than the one before, which of those go on (int64).
    """

    inputs: Array
    targets: Array
    first: Array
    width: Array
    stay: dict[int, Array]


def num_pairs(offsets: Array) -> int:
    """Pairs of consecutive events, which is the number of examples of an epoch."""
    return int(np.maximum(np.diff(offsets) - 1, 0).sum())


def session_parallel(sessions: Sessions, batch_size: int, block_steps: int) -> Iterator[Block]:
    """All steps of an epoch, in blocks of `block_steps` (the last one may be shorter).

    Python runs once per step and never per event; memory is one block and O(S) for the lengths.
    """
    usable = np.flatnonzero(sessions.lengths >= 2)
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
            yield Block(
                inputs=sessions.items[at].astype(np.int64),
                targets=sessions.items[np.minimum(at + 1, last)].astype(np.int64),
                first=first[:steps],
                width=width[:steps],
                stay=stay,
            )
