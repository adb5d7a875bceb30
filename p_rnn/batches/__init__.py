"""Makes the mini-batches of an epoch from the sessions, on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from p_rnn.batches.batch import Batch
from p_rnn.batches.negatives import Negatives
from p_rnn.batches.session_parallel import SessionParallel
from p_rnn.batches.windows import WindowBatches
from p_rnn.data.dataset import Sessions
from p_rnn.settings.config import Settings
from p_rnn.settings.registry import lookup
from p_rnn.streams import Streams

__all__ = ["BATCHINGS", "Batch", "Batches", "build_batches"]


class Batches(Protocol):
    """The mini-batches of an epoch, in order; each iteration is another epoch."""

    def __iter__(self) -> Iterator[Batch]: ...


BATCHINGS: dict[str, Callable[[Settings, Sessions, Negatives, Streams], Batches]] = {
    "session_parallel": SessionParallel,
    "sequences": WindowBatches,
}


def build_batches(
    config: Settings, sessions: Sessions, support: NDArray[np.int64], streams: Streams
) -> Batches:
    """The mini-batches that a resolved config asks for; `support`: int64 [N] training events."""
    kind: Any = lookup("batching", BATCHINGS, config.batching)
    made: Batches = kind(config, sessions, Negatives(config, support, streams), streams)
    return made
