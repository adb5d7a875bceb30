"""From when to when a log and its splits go, and what of it looks wrong though it breaks no rule.

A session dated decades after the rest, or seconds read as milliseconds, break no rule: the splits
are made all the same, and the figures mean nothing. So `prepare` prints dates and warns.
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
from p_rnn.settings.config import DatasetConfig

Array = NDArray[Any]
EARLIEST_S = 315_532_800  # 1980: a click before it is a time in another unit
WIDER = 4  # x the span of the central 98 % of its starts, and these days, and a split has strays
STRAY_DAYS, LASTING_DAYS = 2, 14  # sessions that begin elsewhere, sessions that go on
APART_DAYS = 7  # without a session, or a quarter of the training span if that is longer
FEW_TARGETS = 50  # an error of seven points in a recall of one half
FEW_SHARE = 0.0005  # of the events of a log that is split by time
LONG, LONGER = 1_000, 20  # events, and times the 99th percentile: a session that rules an epoch
MISSING_WORDS = ("NULL", "null", "None", "nan", "NaN", "N/A", "\\N", "undefined")
SAMPLE = 100_000  # times that are looked at for a quantile

Span = tuple[float, float]


def spans(log: EventLog, parts: Mapping[str, Part]) -> dict[str, list[int]]:
    """First and last time of the log as it was read, of what is left and of each split, in s."""
    found = {"read": log.span_s, "left": (log.time.min(), log.time.max())}
    for name, part in parts.items():  # times are sorted within a session
        found[name] = (log.time[part.first].min(), log.time[part.last - 1].max())
    return {name: [int(np.floor(t)) for t in span] for name, span in found.items()}


def doubts(log: EventLog, parts: Mapping[str, Part], rules: DatasetConfig) -> list[str]:
    """What looks wrong about the times of a log and its splits; a line each."""
    found = [*_other_unit(log, rules), *_strays(log, parts, rules)]
    if rules.split == "time":
        found += _apart(log, parts)
    return [*found, *_few_targets(log, parts, rules)]


def missing_words(log: EventLog, rules: DatasetConfig) -> list[str]:
    """Ids that are a word for a missing one: an id may be called so, but hardly ever is."""
    found = []
    for name, ids, codes in (
        ("item", log.item_ids, log.item),
        ("session", log.session_ids, log.session),
    ):
        for word in MISSING_WORDS if ids.dtype.kind == "U" else ():
            events = int(np.isin(codes, np.flatnonzero(ids == word)).sum())
            if events:
                columns = rules.parameters.get("columns")
                column = getattr(columns, name) if columns else name
                found.append(
                    f"{events:,} events have the {name} '{word}': if that is a missing id, leave "
                    f"them out with dataset.where='{column} != {word}'"
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
        f"log goes from {day(log.time.min())} to {day(log.time.max())}): is the unit of time "
        f"right{unit}?"
    ]


def _strays(log: EventLog, parts: Mapping[str, Part], rules: DatasetConfig) -> list[str]:
    found = []
    for name, part in parts.items():
        starts, ends = log.time[part.first], log.time[part.last - 1]
        low, high = _central(starts)
        usual_s = WIDER * (high - low)
        if starts.max() - starts.min() > usual_s + STRAY_DAYS * DAY_S:
            found.append(
                f"the sessions of the {name} split begin from {day(starts.min())} to "
                f"{day(starts.max())}, but nearly all of them from {day(low)} to {day(high)}: "
                f"{_cut_off(log)}"
            )
        elif ends.max() - starts.min() > usual_s + LASTING_DAYS * DAY_S:
            lasts = int(np.argmax(ends - starts))
            found.append(
                f"the {name} split spans {day(starts.min())} to {day(ends.max())}, as session "
                f"{log.session_ids[log.session[part.first[lasts]]]} lasts "
                f"{(ends - starts)[lasts] / DAY_S:,.0f} days; dataset.session_gap_s=3600 cuts "
                "sessions at pauses of an hour"
            )
    return found


def _apart(log: EventLog, parts: Mapping[str, Part]) -> list[str]:
    names = [name for name in ("train", "valid", "test") if name in parts]
    low, high = _central(log.time[parts["train"].first])
    most_s = max(APART_DAYS * DAY_S, (high - low) / 4)
    found = []
    for before, name in itertools.pairwise(names):
        start = log.time[parts[name].first].min()
        gap_s = start - log.time[parts[before].first].max()
        if gap_s > most_s:
            found.append(
                f"the {name} split begins {gap_s / DAY_S:,.0f} days after the last session before "
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
            mend = "; set dataset.test_days to more" if rules.split == "time" else ""
            found.append(
                f"the {name} split has only {targets:,} targets of {len(log):,} events, so its "
                f"figures are mostly chance{mend}"
            )
    return sorted(found)


def long_sessions(log: EventLog, train: Part) -> list[str]:
    """A session that is so long that an epoch takes as many steps as it has events."""
    lengths = train.lengths
    at = int(np.argmax(lengths))
    usual = float(np.quantile(lengths, 0.99))
    if lengths[at] < max(LONG, LONGER * usual):
        return []
    return [
        f"session {log.session_ids[log.session[train.first[at]]]} has {lengths[at]:,} events, and "
        f"99 % have at most {usual:,.0f}: training is slow and learns its habits; set "
        f"dataset.max_session_length={max(2 * int(usual), 50)}, which drops it, or with it "
        "dataset.long_sessions=truncate or split"
    ]


def _central(times: Array) -> Span:
    """Between which times the central 98 % lie."""
    low, high = np.quantile(times[:: max(1, len(times) // SAMPLE)], (0.01, 0.99))
    return float(low), float(high)


def _cut_off(log: EventLog) -> str:
    """The setting that leaves strays out: the range of all times near the central ones."""
    low, high = _central(log.time)
    reach = max(high - low, DAY_S)
    near = log.time[(log.time >= low - reach) & (log.time <= high + reach)]
    return (
        "if these are strays, leave them out with "
        f"dataset.time_range=['{day(near.min())}','{day(near.max() + DAY_S)}']"
    )
