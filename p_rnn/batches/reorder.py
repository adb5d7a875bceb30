"""Sessions whose events are slightly out of order: an augmentation of the training data."""

from __future__ import annotations

import numpy as np

from p_rnn.data.dataset import Sessions
from p_rnn.ragged import place_in_row, row_of_each
from p_rnn.streams import Streams


def reordered(sessions: Sessions, places: float, rng: np.random.Generator) -> Sessions:
    """The sessions with their events sorted by position + a uniform number from [0, places).

    An event moves by fewer than `places` places. Two events of neighbouring positions change
    places with probability 1/8 for places=2 and 2/9 for places=3; up to 1 nothing changes. What is
    bought or read together has no order that matters; the model then learns what belongs together,
    and not which came first by chance (the "reorder" of CL4SRec, Xie et al. 2022, within limits).
    """
    lengths = sessions.lengths
    moved = place_in_row(lengths) + rng.uniform(0, places, sessions.num_events)
    order = np.lexsort((moved, row_of_each(lengths)))
    return Sessions(np.asarray(sessions.items)[order], sessions.offsets, sessions.times)


def of_epoch(sessions: Sessions, places: float, streams: Streams) -> Sessions:
    """The sessions that the present epoch reads: `reordered`, or as they are for places=0."""
    return reordered(sessions, places, streams.order("reorder")) if places else sessions
