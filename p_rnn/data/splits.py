"""Split a filtered event log into training, validation and test sessions."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p_rnn.data.events import EventLog
from p_rnn.ragged import offsets_of, ranges
from p_rnn.settings.errors import UserError
from p_rnn.settings.sections import DatasetConfig

Array = NDArray[Any]
DAY_S = 86_400
BLOCK_EVENTS = 2**21  # handled together, where positions of all would take too much memory


@dataclass(frozen=True)
class Part:
    """Sessions of one split, as ranges of events of the log, in time order of their first event.

    Attributes:
        first: int64 [S], the first event of each session in the log; `last`: one past its last.
        context: int64 [S], number of events before the first target of each session; None: 1, or
            all but the last event under leave_one_out.
    """

    first: Array
    last: Array
    context: Array | None = None

    @property
    def lengths(self) -> Array:
        lengths: Array = self.last - self.first
        return lengths

    @property
    def num_events(self) -> int:
        return int(self.lengths.sum())

    def events(self) -> Array:
        """int64 [E], the positions of all events in the log, session after session."""
        return ranges(self.first, self.lengths)

    def blocks(self) -> Iterator[Part]:
        """The same sessions in the same order, some at a time, and without `context`."""
        done = np.cumsum(self.lengths)
        cuts = np.searchsorted(done, np.arange(0, self.num_events, BLOCK_EVENTS))
        edges = np.unique([0, *cuts.tolist(), len(done)])
        for low, high in itertools.pairwise(edges.tolist()):
            yield Part(self.first[low:high], self.last[low:high])

    def support(self, item: Array, num_codes: int) -> Array:
        """int64 [num_codes]: events per item; `item`: int32 [E] codes, of the whole log."""
        total = np.zeros(num_codes, dtype=np.int64)
        for block in self.blocks():
            total += np.bincount(item[block.events()], minlength=num_codes)
        return total


def day(time_s: float) -> str:
    """A time as a date in UTC; as a year if `datetime` cannot represent it."""
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
    order = np.argsort(start, kind="stable")  # sessions with equal starts keep their order
    sessions = Part(offsets[:-1][order], offsets[1:][order])
    if rules.split == "time":
        parts = _by_time(log, sessions, start[order], rules)
    elif rules.split == "given":
        parts = _given(log, sessions)
    else:
        parts = _leave_one_out(sessions, rules.validation)
    for name, part in parts.items():
        if not (part.lengths >= 2).any():
            hint = "no user has 3 or more events"
            if rules.split == "given":
                hint = "and none continues a session of an earlier split"
            elif rules.split == "time":
                hint = _short_log(start, rules)
            raise UserError(
                f"dataset {rules.name}: no session of the {name} split has two events ({hint})"
            )
    return parts


def _short_log(start: Array, rules: DatasetConfig) -> str:
    """Why sessions with these starts leave a split empty."""
    assert rules.test_days is not None
    span, days = (start.max() - start.min()) / DAY_S, rules.test_days
    hint = f"all start within {span:.3g} days of {day(start.min())}; is the time unit right?"
    if span <= days:
        return f"{hint} dataset.test_days={days} is longer than the log"
    if rules.validation and span <= 2 * days:
        return f"{hint} dataset.test_days={days}, for test and validation each, leaves nothing"
    return f"{hint} dataset.test_days={days}"


def _by_time(log: EventLog, sessions: Part, start: Array, rules: DatasetConfig) -> dict[str, Part]:
    """Sessions that start after the cut are the test split; the rest is split again for validation.

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
            # What is left of a truncated session must be long enough to remain a session.
            rest &= last - sessions.first >= max(rules.min_session_length or 1, 2)
    train = Part(sessions.first[rest], last[rest])
    return {"train": train, **dict(reversed(parts.items()))}


def _truncate(log: EventLog, first: Array, last: Array, cut: float) -> Array:
    """One past the last event of each session at or before `cut`; later sessions stay whole.

    Times are sorted within a session, so the events to keep are a prefix.
    """
    events = Part(first, last)
    late = (log.time[events.events()] > cut).astype(np.int64)
    dropped = np.add.reduceat(late, offsets_of(events.lengths)[:-1])
    return np.where(log.time[first] > cut, last, last - dropped)


def _given(log: EventLog, sessions: Part) -> dict[str, Part]:
    """One split per file.

    A session that continues in a later file has its earlier events as context there. In validation
    and test, only the last event of a history is a target.
    """
    assert log.part is not None
    parts = {}
    for number, name in enumerate(log.parts):
        # Within a session events are ordered by part, so these are lengths of prefixes.
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
    """Test on the last event of each user, validate on the one before it (RecBole's protocol).

    Held-out splits contain the whole history, of which only the last event is a target. Users with
    fewer than 2 events (3 with validation) are in the training split only.
    """
    held_out = 2 if validation else 1
    enough = sessions.lengths > held_out
    parts = {"train": Part(sessions.first, sessions.last - held_out * enough)}
    if validation:
        parts["valid"] = Part(sessions.first[enough], sessions.last[enough] - 1)
    parts["test"] = Part(sessions.first[enough], sessions.last[enough])
    return parts
