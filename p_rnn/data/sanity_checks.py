"""Warnings about data that breaks no rule but looks wrong.

A session dated decades after the others, or seconds read as milliseconds, break no rule: the data
is split all the same, and the results mean nothing. So `prepare` prints dates and warns.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p_rnn.data.events import EventLog
from p_rnn.data.splits import DAY_S, Part, day
from p_rnn.settings.sections import DatasetConfig

Array = NDArray[Any]
EARLIEST_S = 315_532_800  # 1980: an earlier time is probably in another unit
# A split has outliers if it is wider than WIDER times the span of the central 98 % of its session
# starts, plus OUTLIER_DAYS (of session starts) or LASTING_DAYS (to the last event).
WIDER, OUTLIER_DAYS, LASTING_DAYS = 4, 2, 14
GAP_DAYS = 7  # between two splits, or a quarter of the training span if that is longer
FEW_TARGETS = 50  # the standard error of a recall of 0.5 is then 0.07
FEW_SHARE = 0.0005  # of the events of a log that is split by time
LONG, LONGER = 1_000, 20  # a long session has LONG events and LONGER times the 99th percentile
MISSING_WORDS = ("NULL", "null", "None", "nan", "NaN", "N/A", "\\N", "undefined")
SAMPLE = 100_000  # times from which a quantile is estimated

Span = tuple[float, float]


def spans(log: EventLog, parts: Mapping[str, Part]) -> dict[str, list[int]]:
    """First and last time in s of the log as read, of what the rules left, and of each split."""
    found = {"read": log.span_s, "left": (log.time.min(), log.time.max())}
    for name, part in parts.items():  # times are sorted within a session
        found[name] = (log.time[part.first].min(), log.time[part.last - 1].max())
    return {name: [int(np.floor(t)) for t in span] for name, span in found.items()}


def suspicious_times(log: EventLog, parts: Mapping[str, Part], rules: DatasetConfig) -> list[str]:
    """Warnings about the times of a log and the sizes of its splits; one line each."""
    found = [*_other_unit(log, rules), *_outliers(log, parts)]
    if rules.split == "time":
        found += _gaps(log, parts)
    return [*found, *_few_targets(log, parts, rules)]


def missing_words(log: EventLog, rules: DatasetConfig) -> list[str]:
    """Warnings about ids such as "NULL", which most likely stand for a missing id."""
    found = []
    for name, ids, codes in (
        ("item", log.item_ids, log.item),
        ("session", log.session_ids, log.session),
    ):
        for word in MISSING_WORDS if ids.dtype.kind in "US" else ():
            same = np.flatnonzero(ids == (word.encode() if ids.dtype.kind == "S" else word))
            events = int(np.isin(codes, same).sum()) if len(same) else 0
            if events:
                columns = rules.parameters.get("columns")
                column = getattr(columns, name) if columns else name
                found.append(
                    f"{events:,} events have the {name} '{word}': if that means a missing id, drop "
                    f"them with dataset.where='{column} != {word}'"
                )
    return found


def _other_unit(log: EventLog, rules: DatasetConfig) -> list[str]:
    wrong = (log.time < EARLIEST_S) | (log.time > time.time() + DAY_S)
    if not wrong.any():
        return []
    given = rules.parameters.get("time_unit")
    unit = f" (dataset.time_unit={given})" if given else ""
    return [
        f"{np.count_nonzero(wrong):,} of {len(log):,} events are before 1980 or in the future (the "
        f"log spans {day(log.time.min())} to {day(log.time.max())}): is the time unit "
        f"right{unit}?"
    ]


def _outliers(log: EventLog, parts: Mapping[str, Part]) -> list[str]:
    found = []
    for name, part in parts.items():
        starts, ends = log.time[part.first], log.time[part.last - 1]
        low, high = _central(starts)
        usual_s = WIDER * (high - low)
        if starts.max() - starts.min() > usual_s + OUTLIER_DAYS * DAY_S:
            found.append(
                f"the sessions of the {name} split start between {day(starts.min())} and "
                f"{day(starts.max())}, but nearly all of them between {day(low)} and {day(high)}: "
                f"{_cut_off(log)}"
            )
        elif ends.max() - starts.min() > usual_s + LASTING_DAYS * DAY_S:
            lasts = int(np.argmax(ends - starts))
            found.append(
                f"the {name} split spans {day(starts.min())} to {day(ends.max())}, as session "
                f"{log.session_of(part.first[lasts])} lasts "
                f"{(ends - starts)[lasts] / DAY_S:,.0f} days; dataset.session_gap_s=3600 splits "
                "sessions at gaps of more than an hour"
            )
    return found


def _gaps(log: EventLog, parts: Mapping[str, Part]) -> list[str]:
    names = [name for name in ("train", "valid", "test") if name in parts]
    low, high = _central(log.time[parts["train"].first])
    most_s = max(GAP_DAYS * DAY_S, (high - low) / 4)
    found = []
    for before, name in itertools.pairwise(names):
        start = log.time[parts[name].first].min()
        gap_s = start - log.time[parts[before].first].max()
        if gap_s > most_s:
            found.append(
                f"the {name} split starts {gap_s / DAY_S:,.0f} days after the last session before "
                f"it, on {day(start)}, with {len(parts[name].first):,} sessions: {_cut_off(log)}"
            )
    return found


def _few_targets(log: EventLog, parts: Mapping[str, Part], rules: DatasetConfig) -> list[str]:
    found = []
    for name in set(parts) - {"train"}:
        part = parts[name]
        before = 1 if part.context is None else part.context
        targets = int(np.maximum(part.lengths - before, 0).sum())
        if rules.split == "leave_one_out":
            targets = len(part.first)
        few = targets < FEW_TARGETS
        if rules.split == "time":
            few = few or targets < FEW_SHARE * len(log)
        if few:
            fix = "; increase dataset.test_days" if rules.split == "time" else ""
            found.append(
                f"the {name} split has only {targets:,} targets ({len(log):,} events in total), so "
                f"its metrics are mostly noise{fix}"
            )
    return sorted(found)


def long_sessions(log: EventLog, train: Part) -> list[str]:
    """A warning about a session so long that it alone determines the number of steps per epoch."""
    lengths = train.lengths
    at = int(np.argmax(lengths))
    usual = float(np.quantile(lengths, 0.99))
    if lengths[at] < max(LONG, LONGER * usual):
        return []
    return [
        f"session {log.session_of(train.first[at])} has {lengths[at]:,} events, and "
        f"99 % have at most {usual:,.0f}: it slows training down and dominates it; set "
        f"dataset.max_session_length={max(2 * int(usual), 50)} to drop it, and "
        "dataset.long_sessions=truncate or split to keep part or all of it"
    ]


def _central(times: Array) -> Span:
    """The 1st and 99th percentile of some times."""
    low, high = np.quantile(times[:: max(1, len(times) // SAMPLE)], (0.01, 0.99))
    return float(low), float(high)


def _cut_off(log: EventLog) -> str:
    """Advice on outliers: the time_range that keeps everything near the bulk of the log."""
    low, high = _central(log.time)
    reach = max(high - low, DAY_S)
    near = log.time[(log.time >= low - reach) & (log.time <= high + reach)]
    return (
        "if these are outliers, leave them out with "
        f"dataset.time_range=['{day(near.min())}','{day(near.max() + DAY_S)}']"
    )
