"""The rules of `prepare`, in the order in which they act; each is EventLog -> EventLog."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from p_rnn.config import DatasetConfig
from p_rnn.data.events import EventLog
from p_rnn.errors import UserError
from p_rnn.registry import suggest

Array = NDArray[Any]


def apply_rules(log: EventLog, rules: DatasetConfig) -> tuple[EventLog, list[dict[str, Any]]]:
    """All rules that are on, and what each one dropped (events, sessions, items).

    Raises:
        UserError: a rule does not fit the log, or nothing is left after it.
    """
    now = log.counts()
    report: list[dict[str, Any]] = [{"rule": "read", **now}]

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
        log = record("drop_repeats", drop_repeats(log))
    before_filters = -1
    while len(log) != before_filters:  # each filter can bring the others below their bounds
        before_filters = len(log)
        if rules.min_session_length is not None and rules.min_session_length > 1:
            log = record("min_session_length", keep_lengths(log, low=rules.min_session_length))
        if rules.min_item_support is not None and rules.min_item_support > 1:
            log = record("min_item_support", keep_support(log, rules.min_item_support))
        if rules.max_session_length is not None:
            log = record("max_session_length", keep_lengths(log, high=rules.max_session_length))
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


def drop_duplicates(log: EventLog, rules: DatasetConfig) -> EventLog:
    """Events equal in session, item, time and type: refuse the log, or keep the first of each.

    Raises:
        UserError: there are some and `dataset.duplicates=error`.
    """
    # Duplicates stand within runs of equal session and time, and such runs are short and rare.
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
            f"{log.session_ids[log.session[e]]}, item {log.item_ids[log.item[e]]}, time "
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
                f"dataset.event_types: no event is a '{kind}'{suggest(kind, log.kinds)}"
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
    """A new session wherever a visitor's pause is longer than `gap_s` seconds."""
    first = log.is_first()
    first[1:] |= np.diff(log.time) > gap_s
    visitor = log.session[first]
    return replace(
        log,
        session=(np.cumsum(first) - 1).astype(np.int32),
        session_ids=log.session_ids[visitor],
    )


def drop_repeats(log: EventLog) -> EventLog:
    """Of a run of the same item within a session, only the first event."""
    mask = log.is_first()
    mask[1:] |= log.item[1:] != log.item[:-1]
    return log.keep(mask)


def keep_lengths(log: EventLog, low: int = 1, high: int | None = None) -> EventLog:
    """Only sessions of `low` to `high` events."""
    length = np.diff(log.offsets())
    good = length >= low
    if high is not None:
        good &= length <= high
    return log.keep(np.repeat(good, length))


def keep_support(log: EventLog, low: int) -> EventLog:
    """Only items with at least `low` events."""
    return log.keep(np.bincount(log.item)[log.item] >= low)
