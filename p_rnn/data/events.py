"""The event log in memory: columns of codes, sorted by session and time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from p_rnn.data.codes import Codes, as_stored, plain_ids
from p_rnn.data.readers.base import Reader
from p_rnn.ragged import counts_of
from p_rnn.settings.errors import UserError

Array = NDArray[Any]
SORTED_TOGETHER = 2**22  # events


@dataclass(frozen=True)
class EventLog:
    """E events, grouped by session, in time order within each; equal times keep file order.

    Attributes:
        session: int32 [E], non-decreasing codes into `session_ids`.
        item: int32 [E], codes into `item_ids`.
        time: float64 [E], seconds since 1970.
        kind: int32 [E], codes into `kinds`, or None if the events have no types.
        part: int8 [E], index into `parts` of the split whose file the event comes from, or None
            if one log is split by a rule. Within a session, earlier parts come first.
        histories: whether sessions are histories, of which only the last event counts.
        dropped: number of events that the reader left out, by the name of the setting.
        span_s: the first and the last time before any rule.
        session_ids: raw id per session code, text in ASCII as bytes; `item_ids`: raw id per item
            code.
    """

    session: Array
    item: Array
    time: Array
    kind: Array | None
    session_ids: Array
    item_ids: Array
    kinds: list[str]
    part: Array | None = None
    parts: tuple[str, ...] = ()
    histories: bool = False
    dropped: dict[str, int] = field(default_factory=dict)
    span_s: tuple[float, float] = (0.0, 0.0)

    def __len__(self) -> int:
        return len(self.item)

    def keep(self, mask: Array) -> EventLog:
        """The events where `mask` (bool [E]) is true; codes keep their meaning."""
        if mask.all():
            return self
        columns: dict[str, Any] = {"session": self.session, "item": self.item, "time": self.time}
        columns |= {"kind": self.kind, "part": self.part}
        kept: dict[str, Any] = {k: None if x is None else x[mask] for k, x in columns.items()}
        return replace(self, **kept)

    def session_of(self, event: int) -> Any:
        """The raw id of the session of an event."""
        return as_stored(self.session_ids[[self.session[event]]])[0]

    def offsets(self) -> Array:
        """int64 [S+1]: the s-th session left has the events offsets[s]..offsets[s+1]-1."""
        starts = np.flatnonzero(self.is_first())
        return np.append(starts, len(self)).astype(np.int64)

    def is_first(self) -> Array:
        """bool [E]: the first event of its session."""
        first = np.ones(len(self), dtype=bool)
        np.not_equal(self.session[1:], self.session[:-1], out=first[1:])
        return first

    def counts(self) -> dict[str, int]:
        """Numbers of events, sessions and items that are left."""
        return {
            "events": len(self),
            "sessions": int(self.is_first().sum()) if len(self) else 0,
            "items": int(np.count_nonzero(counts_of(self.item))) if len(self) else 0,
        }


def joined(parts: list[Array]) -> Array:
    """The concatenation of arrays of one type; frees each as soon as it is copied."""
    whole = np.empty(sum(map(len, parts)), dtype=parts[0].dtype)
    end = len(whole)
    while parts:
        part = parts.pop()
        whole[end - len(part) : end] = part
        end -= len(part)
    return whole


def sorted_order(session: Array, time: Array, part: Array | None) -> Array:
    """[E]: the events by session, part and time; those that are equal keep their order.

    The events of a range of sessions are sorted at a time: a sort of all takes as much memory as
    the events, and is slower.
    """
    ends = np.cumsum(counts_of(session))
    order = np.empty(len(session), dtype=np.uint32 if len(session) < 2**32 else np.int64)
    done = first = 0
    while done < len(session):
        last = int(np.searchsorted(ends, done + SORTED_TOGETHER, side="right"))
        last = max(last, first + 1)  # a session may have more events
        at = np.flatnonzero((session >= first) & (session < last))
        keys = [time[at], session[at]] if part is None else [time[at], part[at], session[at]]
        order[done : done + len(at)] = at[np.lexsort(keys)]
        done, first = done + len(at), last
    return order


def collect(readers: Mapping[str, Reader], name: str) -> EventLog:
    """Read all events, of one log or of the files of each split.

    Raises:
        UserError: no events, or a time that is not finite.
    """
    sessions, items, kinds = Codes("session"), Codes("item"), Codes("event type")
    times: list[Array] = []
    sizes: list[int] = []  # events of each reader
    dropped: Counter[str] = Counter()
    typed = False
    for reader in readers.values():
        rows = sum(map(len, times))
        last_s = max((part.max() for part in times), default=0.0)
        for chunk in reader.events():
            # Each file numbers its rows from 0; make the numbers unique over all files.
            own = chunk["session"]
            sessions.add(own + rows if reader.histories else own)
            items.add(chunk["item"])
            clock = chunk["time"].to_numpy(dtype=np.float64, copy=True)
            times.append(clock if reader.timed else clock + (last_s + 1) * bool(rows))
            if typed := "event_type" in chunk:
                kinds.add(chunk["event_type"].astype(str))
        sizes.append(sum(map(len, times)) - rows)
        dropped.update(reader.dropped())
    if not sum(sizes):
        raise UserError(f"dataset {name} has no events: its files contain no rows")
    session, ids = sessions.take()
    session_ids = plain_ids(ids, "session", "S")
    del ids
    time = joined(times)
    if not np.isfinite(time).all():
        row = int(np.flatnonzero(~np.isfinite(time))[0])
        raise UserError(f"dataset {name}: event {row + 1} has no valid time")
    item, item_ids = items.take()
    kind, kind_ids = kinds.take() if typed else (None, pd.Index([], dtype=np.int64))
    part = np.repeat(np.arange(len(sizes), dtype=np.int8), sizes) if len(sizes) > 1 else None
    order = sorted_order(session, time, part)
    # One at a time, so that each unsorted column is freed before the next is sorted.
    session = session[order]
    item = item[order]
    time = time[order]
    if kind is not None:
        kind = kind[order]
    if part is not None:
        part = part[order]
    return EventLog(
        session=session,
        item=item,
        time=time,
        kind=kind,
        session_ids=session_ids,
        item_ids=plain_ids(item_ids, "item"),
        kinds=[str(name) for name in plain_ids(kind_ids, "event type").tolist()],
        part=part,
        parts=tuple(readers),
        histories=readers["train"].histories,
        dropped=dict(dropped),
        span_s=(float(time.min()), float(time.max())),
    )
