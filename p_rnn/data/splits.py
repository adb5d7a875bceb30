"""Cut a filtered event log into training, validation and test sessions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p_rnn.config import DatasetConfig
from p_rnn.data.events import EventLog
from p_rnn.errors import UserError

Array = NDArray[Any]
DAY_S = 86_400


@dataclass(frozen=True)
class Part:
    """Sessions of one split, as ranges of events of the log, in time order of their first event.

    Attributes:
        first: int64 [S], the first event of each session in the log; `last`: one past its last.
    """

    first: Array
    last: Array

    @property
    def lengths(self) -> Array:
        lengths: Array = self.last - self.first
        return lengths

    def events(self) -> Array:
        """int64 [E], the positions in the log of all events, session after session."""
        length = self.lengths
        ends = np.cumsum(length)
        total = int(ends[-1]) if len(ends) else 0
        events: Array = np.arange(total) + np.repeat(self.first - (ends - length), length)
        return events


def split(log: EventLog, rules: DatasetConfig) -> dict[str, Part]:
    """`train`, `valid` (unless `validation=false`) and `test`.

    Raises:
        UserError: a split is empty, or training has no pair of consecutive events.
    """
    offsets = log.offsets()
    start = log.time[offsets[:-1]]
    order = np.argsort(start, kind="stable")  # sessions that start together keep their order
    sessions = Part(offsets[:-1][order], offsets[1:][order])
    if rules.split == "time":
        parts = _by_time(log, sessions, start[order], rules)
    else:
        parts = _leave_one_out(sessions, rules.validation)
    for name, part in parts.items():
        if not (part.lengths >= 2).any():
            hint = "no user has 3 events or more"
            if rules.split == "time":
                span = (start.max() - start.min()) / DAY_S
                hint = f"all start within {span:.3g} days; dataset.test_days={rules.test_days}"
            raise UserError(
                f"dataset {rules.name}: no session of the {name} split has two events ({hint})"
            )
    return parts


def _by_time(log: EventLog, sessions: Part, start: Array, rules: DatasetConfig) -> dict[str, Part]:
    """Sessions that start after the cut test; the same again from the rest validates.

    With `straddling=truncate`, earlier sessions keep only their events up to the cut.
    """
    assert rules.test_days is not None
    parts: dict[str, Part] = {}
    rest = np.ones(len(start), dtype=bool)
    last = sessions.last.copy()
    for name in ("test", "valid") if rules.validation else ("test",):
        if not rest.any():
            break
        cut = start[rest].max() - rules.test_days * DAY_S
        after = rest & (start > cut)
        parts[name] = Part(sessions.first[after], last[after])
        rest &= ~after
        if rules.straddling == "truncate":
            last = _truncate(log, sessions.first, last, cut)
            # Of a session that is cut down, what is left must still be a session.
            rest &= last - sessions.first >= max(rules.min_session_length or 1, 2)
    train = Part(sessions.first[rest], last[rest])
    return {"train": train, **dict(reversed(parts.items()))}


def _truncate(log: EventLog, first: Array, last: Array, cut: float) -> Array:
    """One past the last event not after `cut` of each session; sessions that start later stay.

    Times are sorted within a session, so the events to keep are a prefix: count them.
    """
    events = Part(first, last)
    late = (log.time[events.events()] > cut).astype(np.int64)
    dropped = np.add.reduceat(late, np.cumsum(events.lengths) - events.lengths)
    return np.where(log.time[first] > cut, last, last - dropped)


def _leave_one_out(sessions: Part, validation: bool) -> dict[str, Part]:
    """The last event of each user tests, the one before validates (RecBole's protocol).

    Held-out parts contain the whole history; only their last event is a target. Users with
    fewer than 2 events, or 3 with validation, only train.
    """
    held_out = 2 if validation else 1
    enough = sessions.lengths > held_out
    parts = {"train": Part(sessions.first, sessions.last - held_out * enough)}
    if validation:
        parts["valid"] = Part(sessions.first[enough], sessions.last[enough] - 1)
    parts["test"] = Part(sessions.first[enough], sessions.last[enough])
    return parts
