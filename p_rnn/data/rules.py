"""The rules of `prepare`, in the order in which they are applied; each is EventLog -> EventLog."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from p_rnn.data.events import EventLog
from p_rnn.ragged import counts_of, place_in_row
from p_rnn.settings.errors import UserError
from p_rnn.settings.registry import suggest
from p_rnn.settings.sections import DatasetConfig

Array = NDArray[Any]


def apply_rules(log: EventLog, rules: DatasetConfig) -> tuple[EventLog, list[dict[str, Any]]]:
    """Apply all rules that are on; also report what each one dropped (events, sessions, items).

    Raises:
        UserError: a rule does not fit the log, or nothing is left after it.
    """
    now = log.counts()
    report: list[dict[str, Any]] = [
        {"rule": "read", **now, "events": now["events"] + sum(log.dropped.values())},
        *({"rule": k, "events": n, "sessions": 0, "items": 0} for k, n in log.dropped.items()),
    ]

    def record(rule: str, after: EventLog) -> EventLog:
        nonlocal now
        before, now = now, (now if after is log else after.counts())
        report.append({"rule": rule, **{key: before[key] - now[key] for key in now}})
        if not len(after):
            raise UserError(
                f"dataset {rules.name}: no events are left after {rule}; "
                f"it dropped the last {before['events']} events in {before['sessions']} sessions"
            )
        return after

    if log.histories:
        log = record("histories", drop_prefixes(log))
    if rules.duplicates != "keep":
        log = record("duplicates", drop_duplicates(log, rules))
    if rules.event_types is not None:
        log = record("event_types", keep_event_types(log, rules.event_types))
    if rules.time_range is not None:
        by_session = rules.session_gap_s is None
        log = record("time_range", keep_time_range(log, rules.time_range, by_session))
    if rules.session_gap_s is not None:
        log = record("session_gap_s", cut_at_gaps(log, rules.session_gap_s))
    if rules.drop_repeats:
        log = record("drop_repeats", drop_repeats(log, every=rules.drop_repeats == "all"))
    before: dict[str, int] = {}
    while now != before:  # each filter can push sessions or items below the bounds of the others
        before = now  # only counts: keeping the previous log would take memory
        if rules.min_session_length is not None and rules.min_session_length > 1:
            log = record("min_session_length", keep_lengths(log, low=rules.min_session_length))
        if rules.min_item_support is not None and rules.min_item_support > 1:
            log = record("min_item_support", keep_support(log, rules.min_item_support))
        if rules.max_session_length is not None:
            shortened = shorten(log, rules.max_session_length, rules.long_sessions or "drop")
            log = record("max_session_length", shortened)
    report = _merge_rounds(report)
    report.append({"rule": "left", **now})
    if report[-1]["items"] < 2:
        raise UserError(f"dataset {rules.name}: only one item is left, so there is nothing to rank")
    return log, report


def _merge_rounds(report: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per rule, the rounds of the repeated filters added up."""
    merged: dict[str, dict[str, Any]] = {}
    for row in report:
        into = merged.setdefault(row["rule"], {"rule": row["rule"]})
        for key in ("events", "sessions", "items"):
            into[key] = into.get(key, 0) + row[key]
    return list(merged.values())


def drop_prefixes(log: EventLog) -> EventLog:
    """Drop training sessions that are a prefix of the session before or after them.

    Files of histories have a row for each event of a session, with the events before it. For
    training the longest row contains the others; for evaluation each row has its own target.
    """
    offsets = log.offsets()
    length = np.diff(offsets)
    is_prefix = np.zeros(len(length), dtype=bool)
    for one, other in ((slice(None, -1), slice(1, None)), (slice(1, None), slice(None, -1))):
        start, of, size = offsets[:-1][one], offsets[:-1][other], length[one]
        could = size < length[other]
        at = np.repeat(np.flatnonzero(could), size[could])  # [events], the pair of each
        place = place_in_row(size[could])
        equal = log.item[start[at] + place] == log.item[of[at] + place]
        differs = np.bincount(at[~equal], minlength=len(size)) > 0
        is_prefix[one] |= could & ~differs
    if log.part is not None:
        is_prefix &= log.part[offsets[:-1]] == 0
    return log.keep(np.repeat(~is_prefix, length))


def drop_duplicates(log: EventLog, rules: DatasetConfig) -> EventLog:
    """Events equal in session, item, time and type: refuse the log, or keep the first of each.

    Raises:
        UserError: there are some and `dataset.duplicates=error`.
    """
    # Duplicates lie within runs of equal session and time, and such runs are short and rare.
    tied = np.zeros(len(log), dtype=bool)
    tied[1:] = (log.session[1:] == log.session[:-1]) & (log.time[1:] == log.time[:-1])
    tied[:-1] |= tied[1:]
    at = np.flatnonzero(tied)
    frame = pd.DataFrame({"s": log.session[at], "t": log.time[at], "i": log.item[at]})
    if log.kind is not None:
        frame["k"] = log.kind[at]
    duplicate = at[frame.duplicated().to_numpy()]
    if len(duplicate) and rules.duplicates == "error":
        e = duplicate[0]
        raise UserError(
            f"dataset {rules.name}: {len(duplicate)} events are duplicates (first: session "
            f"{log.session_of(e)}, item {log.item_ids[log.item[e]]}, time "
            f"{log.time[e]:.15g}); set dataset.duplicates=drop or keep"
        )
    mask = np.ones(len(log), dtype=bool)
    mask[duplicate] = False
    return log.keep(mask)


def keep_event_types(log: EventLog, wanted: list[str]) -> EventLog:
    """Only events of the given types."""
    if log.kind is None:
        raise UserError(
            "dataset.event_types has no effect: these events have no types; leave it out"
        )
    for kind in wanted:
        if kind not in log.kinds:
            raise UserError(
                f"dataset.event_types: no event has the type '{kind}'{suggest(kind, log.kinds)}"
            )
    codes = [log.kinds.index(kind) for kind in wanted]
    return log.keep(np.isin(log.kind, codes))


def keep_time_range(log: EventLog, time_range: list[str], by_session: bool) -> EventLog:
    """Events in [from, to), or whole sessions whose first event is in it. Dates are UTC."""
    try:
        start, end = (pd.to_datetime(text, utc=True).timestamp() for text in time_range)
    except ValueError as error:
        raise UserError(
            f"dataset.time_range={time_range} needs two dates like 2017-10-01 or '2017-10-01 12:00'"
        ) from error
    time = log.time
    if by_session:
        offsets = log.offsets()
        time = np.repeat(log.time[offsets[:-1]], np.diff(offsets))
    return log.keep((time >= start) & (time < end))


def cut_at_gaps(log: EventLog, gap_s: float) -> EventLog:
    """Start a new session wherever a visitor pauses for more than `gap_s` seconds."""
    first = log.is_first()
    first[1:] |= np.diff(log.time) > gap_s
    return _cut(log, first)


def _cut(log: EventLog, first: Array) -> EventLog:
    """Start a session at each event where `first` (bool [E]) is true."""
    return replace(
        log,
        session=(np.cumsum(first) - 1).astype(np.int32),
        session_ids=log.session_ids[log.session[first]],
    )


def drop_repeats(log: EventLog, every: bool = False) -> EventLog:
    """Keep the first event of each run of an item within a session, or of all its events in it."""
    if every:
        pair = log.session.astype(np.int64) * len(log.item_ids) + log.item
        return log.keep(~pd.Series(pair).duplicated().to_numpy())
    mask = log.is_first()
    mask[1:] |= log.item[1:] != log.item[:-1]
    return log.keep(mask)


def shorten(log: EventLog, high: int, how: str) -> EventLog:
    """Drop sessions of more than `high` events, truncate them to their last ones, or split them."""
    offsets = log.offsets()
    length = np.diff(offsets)
    if how == "drop" or not (length > high).any():
        return keep_lengths(log, high=high)
    place = place_in_row(length)
    if how == "truncate":
        return log.keep(place >= np.repeat(length - high, length))
    return _cut(log, place % high == 0)


def keep_lengths(log: EventLog, low: int = 1, high: int | None = None) -> EventLog:
    """Only sessions of `low` to `high` events."""
    length = np.diff(log.offsets())
    good = length >= low
    if high is not None:
        good &= length <= high
    return log.keep(np.repeat(good, length))


def keep_support(log: EventLog, low: int) -> EventLog:
    """Only items with at least `low` events."""
    return log.keep((counts_of(log.item) >= low)[log.item])
