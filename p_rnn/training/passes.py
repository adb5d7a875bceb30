"""A pass over the data: its totals, and where it is."""

from __future__ import annotations

from dataclasses import dataclass

from p_rnn.models.cells import State


@dataclass
class PassResult:
    """Totals of one pass over the data."""

    loss: float = 0.0  # mean over the examples of all updates
    events: int = 0  # examples that were learned from
    skipped: int = 0  # mini-batches of one example and no negative: no update
    seconds: float = 0.0


@dataclass
class Underway:
    """A pass that is being made.

    Attributes:
        state: of the slots, to be carried to the next mini-batch; `batches`: mini-batches so far.
        started: when, less the time that an interrupted run spent in it.
    """

    index: int
    state: State
    result: PassResult
    started: float
    batches: int = 0
