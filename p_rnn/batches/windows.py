"""Sequence mini-batches: windows of the sessions, each read from a zero state.

Every event after the first of its session is a target once per epoch. The targets of a session are
cut into runs of `stride`. A window ends with the event before the last target of its run and has at
most `window` input events, so each target has at least window - stride + 1 events of context, or
all that the session has. stride=1 gives RecBole's training rows: every prefix, truncated to its
last `window` events.
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
from p_rnn.ragged import place_in_row, row_of_each
from p_rnn.settings.config import Settings
from p_rnn.streams import Streams

Array = NDArray[Any]


@dataclass(frozen=True)
class Windows:
    """A mini-batch of windows, packed without padding: step 0 of all windows, then step 1, ...

    Attributes:
        inputs: int64 [P] item indices; `widths`: number of windows with a step t (longest first).
        picks: int64 [M], the packed position before each target; `targets`: int64 [M].
    """

    inputs: Array
    widths: list[int]
    picks: Array
    targets: Array


def cut_windows(offsets: Array, window: int, stride: int) -> tuple[Array, Array, Array]:
    """All windows of an epoch, in the order of the sessions.

    Returns:
        start: int64 [R], the position of the first input in the log; `length`: number of inputs;
        `count`: number of targets, which are the events after each of the last `count` inputs.
    """
    pairs = np.maximum(np.diff(offsets) - 1, 0)  # targets of each session
    runs = -(-pairs // stride)
    session = row_of_each(runs)
    first = place_in_row(runs) * stride  # targets of the session in earlier runs
    count = np.minimum(stride, pairs[session] - first)
    length = np.minimum(first + count, window)
    return offsets[:-1][session] + first + count - length, length, count


def sequence_batches(
    sessions: Sessions, window: int, stride: int, batch_size: int, rng: np.random.Generator
) -> Iterator[Windows]:
    """The windows of an epoch in random order, in batches of at most `batch_size` targets.

    Windows are not split, so a batch may have up to stride - 1 targets fewer.
    """
    start, length, count = cut_windows(sessions.offsets, window, stride)
    order = rng.permutation(len(start))
    done = np.cumsum(count[order])  # targets up to and including each window
    lo, before = 0, 0
    while lo < len(order):
        hi = int(np.searchsorted(done, before + batch_size, side="right"))
        rows = order[lo:hi]
        yield _pack(sessions.items, start[rows], length[rows], count[rows])
        lo, before = hi, int(done[hi - 1])


def _pack(items: Array, start: Array, length: Array, count: Array) -> Windows:
    longest_first = np.argsort(-length, kind="stable")
    start, length, count = start[longest_first], length[longest_first], count[longest_first]
    step = np.arange(length[0])[:, None]  # [T, 1]
    there = step < length  # [T, R]
    at = (start + step)[there]
    target = (there & (step >= length - count))[there]
    return Windows(
        inputs=items[at].astype(np.int64),
        widths=there.sum(axis=1).tolist(),
        picks=np.flatnonzero(target),
        targets=items[at[target] + 1].astype(np.int64),
    )


class WindowBatches:
    """Mini-batches of windows, read from a zero state with back-propagation through time."""

    def __init__(
        self, config: Settings, sessions: Sessions, negatives: Negatives, streams: Streams
    ) -> None:
        self.window, self.stride, self.batch_size = config.window, config.stride, config.batch_size
        self.sessions, self.negatives, self.streams = sessions, negatives, streams
        self.reorder = config.reorder

    def __iter__(self) -> Iterator[Batch]:
        rng = self.streams.order("order")
        sessions = of_epoch(self.sessions, self.reorder, self.streams)
        for windows in sequence_batches(sessions, self.window, self.stride, self.batch_size, rng):
            yield self._batch(windows)

    def _batch(self, windows: Windows) -> Batch:
        # On the CPU, because the number of distinct items would be a sync point on a GPU.
        distinct, repeat = np.unique(windows.inputs, return_inverse=True)
        inputs, places, targets, picks = (
            torch.from_numpy(x).to(self.streams.device)
            for x in (distinct, repeat, windows.targets, windows.picks)
        )
        drawn = self.negatives.draw(1, len(picks))
        items = self.negatives.candidates(targets[None], drawn)
        return Batch(
            inputs,
            targets,
            None if items is None else items[0],
            self.negatives.columns(targets[None])[0],
            repeat=places,
            widths=windows.widths,
            picks=picks,
        )
