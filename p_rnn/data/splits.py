"""Cut a filtered event log into training, validation and test sessions."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p_rnn.data.events import EventLog
from p_rnn.settings.config import DatasetConfig
from p_rnn.settings.errors import UserError

Array = NDArray[Any]
DAY_S = 86_400


@dataclass(frozen=True)
class Part:
    """Sessions of one split, as ranges of events of the log, in time order of their first event.

    Attributes:
        first: int64 [S], the first event of each session in the log; `last`: one past its last.
        context: int64 [S], the events before the first target of each session; None: one, or all
            but the last under leave_one_out.
    """

    first: Array
    last: Array
    context: Array | None = None

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


def day(time_s: float) -> str:
    """A time as a day in UTC; one beyond the calendar as a year."""
    try:
        return f"{datetime.datetime.fromtimestamp(time_s, datetime.UTC):%Y-%m-%d}"
    except (OverflowError, ValueError, OSError):
        return f"year {1970 + time_s / (365.25 * DAY_S):.0f}"


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
    elif rules.split == "given":
        parts = _given(log, sessions)
    else:
        parts = _leave_one_out(sessions, rules.validation)
    for name, part in parts.items():
        if not (part.lengths >= 2).any():
            hint = "no user has 3 events or more"
            if rules.split == "given":
                hint = "and none goes on from the splits before"
            elif rules.split == "time":
                span = (start.max() - start.min()) / DAY_S
                hint = (
                    f"all start within {span:.3g} days, from {day(start.min())} on; is the unit of "
                    f"time right? dataset.test_days={rules.test_days}"
                )
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


def _given(log: EventLog, sessions: Part) -> dict[str, Part]:
    """The files as they are. A session that goes on in a later file has its earlier events as
    context there; of a history only the last event is a target, but for training.
    """
    assert log.part is not None
    parts = {}
    for number, name in enumerate(log.parts):
        # Within a session events are in the order of the parts, so these are counts of a beginning.
        events = [
            np.add.reduceat((log.part <= n).astype(np.int64), log.offsets()[:-1])
            for n in (number - 1, number)
        ]
        of_session = np.searchsorted(log.offsets()[:-1], sessions.first)
        before, until = events[0][of_session], events[1][of_session]
        own = until > before
        context = until - 1 if log.histories else np.maximum(before, 1)
        last = sessions.first + until
        parts[name] = Part(sessions.first[own], last[own], context[own] if number else None)
    return parts


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
