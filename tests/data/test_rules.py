"""Every rule against a plain Python version, and small cases worked by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from p_rnn.data.codes import as_stored
from p_rnn.data.events import EventLog, collect
from p_rnn.data.readers.base import Reader
from p_rnn.data.rules import apply_rules
from p_rnn.settings.errors import UserError
from p_rnn.settings.sections import DatasetConfig

Event = tuple[Any, Any, float, str]  # session, item, time, type
OFF: dict[str, Any] = {"min_session_length": None, "min_item_support": None, "duplicates": "keep"}
DAY = 86_400
T0 = 1_500_000_000 // DAY * DAY  # 2017-07-14 00:00 UTC


class Frames(Reader):
    """A reader that hands out a list of events in chunks."""

    def __init__(self, events: list[Event], chunk: int = 7, types: bool = True) -> None:
        self.frame = pd.DataFrame(events, columns=["session", "item", "time", "event_type"])
        self.frame["time"] = self.frame["time"].astype(float)
        if not types:
            del self.frame["event_type"]
        self.chunk = chunk

    def events(self) -> Iterator[pd.DataFrame]:
        for lo in range(0, len(self.frame), self.chunk):
            yield self.frame[lo : lo + self.chunk]


def run(events: list[Event], **rules: Any) -> tuple[list[Event], list[dict[str, Any]]]:
    """The events that the rules leave, session after session, and the report."""
    log, report = apply_rules(
        collect({"train": Frames(events)}, "d"), DatasetConfig.of(name="d", **{**OFF, **rules})
    )
    return listed(log), report


def listed(log: EventLog) -> list[Event]:
    assert log.kind is not None
    rows = zip(log.session, log.item, log.time, log.kind, strict=True)
    return [
        (as_stored(log.session_ids)[s].item(), log.item_ids[i].item(), float(t), log.kinds[k])
        for s, i, t, k in rows
    ]


def grouped(events: list[Event]) -> list[list[Event]]:
    """Sessions in order of first appearance, each sorted by time; ties keep file order."""
    sessions: dict[Any, list[Event]] = {}
    for event in events:
        sessions.setdefault(event[0], []).append(event)
    return [sorted(rows, key=lambda event: event[2]) for rows in sessions.values()]


def brute(events: list[Event], **rules: Any) -> list[list[Event]]:
    """The rules, one loop each."""
    rules = {**OFF, **rules}
    sessions = grouped(events)
    if rules["duplicates"] == "drop":
        sessions = [list(dict.fromkeys(rows)) for rows in sessions]
    if (types := rules.get("event_types")) is not None:
        sessions = [[event for event in rows if event[3] in types] for rows in sessions]
    gap = rules.get("session_gap_s")
    if (span := rules.get("time_range")) is not None:
        low, high = (pd.Timestamp(text, tz="UTC").timestamp() for text in span)
        if gap is None:
            sessions = [rows for rows in sessions if rows and low <= rows[0][2] < high]
        else:
            sessions = [[event for event in rows if low <= event[2] < high] for rows in sessions]
    if gap is not None:
        cut: list[list[Event]] = []
        for rows in sessions:
            for k, event in enumerate(rows):
                if k == 0 or event[2] - rows[k - 1][2] > gap:
                    cut.append([])
                cut[-1].append(event)
        sessions = cut
    if rules.get("drop_repeats") == "all":
        sessions = [
            [e for k, e in enumerate(rows) if e[1] not in [b[1] for b in rows[:k]]]
            for rows in sessions
        ]
    elif rules.get("drop_repeats"):
        sessions = [
            [e for k, e in enumerate(rows) if k == 0 or e[1] != rows[k - 1][1]] for rows in sessions
        ]
    sessions = [rows for rows in sessions if rows]
    before: list[list[Event]] | None = None
    while sessions != before:
        before = sessions
        sessions = [rows for rows in sessions if len(rows) >= (rules["min_session_length"] or 1)]
        support = Counter(event[1] for rows in sessions for event in rows)
        low_support = rules["min_item_support"] or 1
        sessions = [[e for e in rows if support[e[1]] >= low_support] for rows in sessions]
        longest, how = rules.get("max_session_length") or 10**9, rules.get("long_sessions")
        if how == "truncate":
            sessions = [rows[-longest:] for rows in sessions]
        elif how == "split":
            sessions = [
                rows[k : k + longest] for rows in sessions for k in range(0, len(rows), longest)
            ]
        sessions = [rows for rows in sessions if 0 < len(rows) <= longest]
    return sessions


def random_events(seed: int) -> list[Event]:
    """Unsorted, with repeats, equal timestamps and exact duplicates; gaps are multiples of 10 s."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(30, 200))
    popularity = 1 / np.arange(1, 16)
    return [
        (
            f"s{rng.integers(25)}",
            int(rng.choice(15, p=popularity / popularity.sum())) + 1000,
            float(T0 + 10 * rng.integers(0, 300) + 43_200 * rng.integers(0, 3)),
            str(rng.choice(["view", "cart", "buy"])),
        )
        for _ in range(count)
    ]


COMBINATIONS: list[dict[str, Any]] = [
    {},
    {"duplicates": "drop"},
    {"event_types": ["view", "buy"]},
    {"time_range": ["2017-07-14", "2017-07-14 12:00"]},
    {"time_range": ["2017-07-14", "2017-07-14 12:20"], "session_gap_s": 200.0},
    {"session_gap_s": 100.0},
    {"drop_repeats": True},
    {"drop_repeats": "all"},
    {"min_session_length": 2, "max_session_length": 4, "long_sessions": "truncate"},
    {"min_session_length": 2, "max_session_length": 4, "long_sessions": "split"},
    {
        "min_session_length": 3,
        "min_item_support": 6,
        "max_session_length": 5,
        "long_sessions": "split",
        "drop_repeats": "all",
    },
    {"min_session_length": 2},
    {"min_session_length": 4, "min_item_support": 8},
    {"min_session_length": 2, "min_item_support": 5, "max_session_length": 6},
    {"min_item_support": 1, "min_session_length": 1, "max_session_length": 3},
    {
        "duplicates": "drop",
        "event_types": ["view", "cart"],
        "session_gap_s": 1000.0,
        "drop_repeats": True,
        "min_session_length": 2,
        "min_item_support": 3,
        "max_session_length": 8,
    },
]


@pytest.mark.parametrize("rules", COMBINATIONS, ids=lambda rules: "-".join(rules) or "none")
def test_random_logs_equal_plain_python(rules: dict[str, Any]) -> None:
    compared = 0
    for seed in range(40):
        events = random_events(seed)
        expected = brute(events, **rules)
        if len({event[1] for rows in expected for event in rows}) < 2:
            with pytest.raises(UserError):
                run(events, **rules)
            continue
        compared += 1
        log, report = apply_rules(
            collect({"train": Frames(events)}, "d"), DatasetConfig.of(name="d", **{**OFF, **rules})
        )
        assert listed(log) == [event for rows in expected for event in rows]
        assert np.diff(log.offsets()).tolist() == [len(rows) for rows in expected]
        # What was read minus what each rule dropped is what is left.
        read, *dropped, left = report
        assert (read["rule"], left["rule"]) == ("read", "left")
        assert read["events"] == len(events)
        for key in ("events", "sessions", "items"):
            assert read[key] - sum(row[key] for row in dropped) == left[key]
        assert left["events"] == sum(map(len, expected))
        assert left["sessions"] == len(expected)
        assert len({row["rule"] for row in report}) == len(report)
    assert compared >= 10


def test_the_filters_reach_a_fixpoint_over_several_rounds() -> None:
    """A chain: every filter round takes one more session or item, until two sessions are left."""
    chain = [(s, item, 0.0, "v") for s in range(6) for item in (s, s + 1)]
    events = [*chain, *[(s, item, 1.0, "v") for s in (10, 11) for item in (50, 51)]]
    kept, report = run(events, min_session_length=2, min_item_support=2)
    assert {event[0] for event in kept} == {10, 11}
    assert [row["events"] for row in report] == [16, 6, 6, 4]  # ends of the chain, six times


def test_duplicates_compare_the_type_too() -> None:
    events = [(1, 5, 9.0, "view"), (1, 5, 9.0, "buy"), (1, 6, 9.0, "view"), (2, 5, 9.0, "view")]
    for mode in ("error", "drop", "keep"):
        assert run(events, duplicates=mode)[0] == events
    twice = [*events[:3], events[0], events[3]]
    assert run(twice, duplicates="drop")[0] == events
    assert run(twice, duplicates="keep")[0] == twice
    with pytest.raises(UserError, match=r"1 events are duplicates.*item 5.*duplicates=drop") as e:
        run(twice, duplicates="error")
    assert "\n" not in str(e.value)


def test_duplicates_without_types() -> None:
    events = [(1, 5, 9.0, "view"), (1, 5, 9.0, "buy"), (1, 6, 9.5, "view")]
    log = collect({"train": Frames(events, types=False)}, "d")
    assert log.kind is None
    left, _ = apply_rules(log, DatasetConfig.of(**{**OFF, "duplicates": "drop"}))
    assert len(left) == 2


def test_equal_times_keep_file_order_and_input_may_be_unsorted() -> None:
    events = [
        (2, 8, 5.0, "v"),
        (1, 7, 3.0, "v"),
        (2, 6, 1.0, "v"),
        (2, 9, 5.0, "v"),
        (1, 4, 3.0, "v"),
        (1, 5, 2.0, "v"),
        (2, 1, 5.0, "v"),
    ]
    kept, _ = run(events)
    assert [e[1] for e in kept if e[0] == 1] == [5, 7, 4]
    assert [e[1] for e in kept if e[0] == 2] == [6, 8, 9, 1]


def test_a_gap_cuts_only_when_longer_than_the_bound() -> None:
    times = [0.0, 100.0, 200.0, 300.5, 300.5]
    events = [("a", k, t, "v") for k, t in enumerate(times)] + [("b", 0, 0.0, "v")]
    log, report = apply_rules(
        collect({"train": Frames(events)}, "d"), DatasetConfig.of(session_gap_s=100.0, **OFF)
    )
    assert np.diff(log.offsets()).tolist() == [3, 2, 1]
    assert as_stored(log.session_ids).tolist() == ["a", "a", "b"]
    assert report[1] == {"rule": "session_gap_s", "events": 0, "sessions": -1, "items": 0}


def test_time_range_is_half_open_and_goes_by_the_first_event() -> None:
    times = {"early": [-1, 5], "at_start": [0, DAY + 9], "late": [DAY, DAY + 1]}
    events = [(s, k, float(T0 + t), "v") for s, ts in times.items() for k, t in enumerate(ts)]
    span = ["2017-07-14", "2017-07-15"]
    assert [e[0] for e in run(events, time_range=span)[0]] == ["at_start"] * 2
    kept, _ = run(events, time_range=span, session_gap_s=1e6)
    assert [(e[0], e[2] - T0) for e in kept] == [("early", 5), ("at_start", 0)]


def test_only_immediate_repeats_go_and_the_first_event_stays() -> None:
    events = [(1, item, float(k), "v") for k, item in enumerate([3, 3, 4, 3, 3, 3])]
    events.append((2, 3, 0.0, "v"))  # a repeat across sessions is none
    kept, _ = run(events, drop_repeats=True)
    assert [(e[0], e[1], e[2]) for e in kept] == [(1, 3, 0), (1, 4, 2), (1, 3, 3), (2, 3, 0)]


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({"min_session_length": 9}, "min_session_length"),
        ({"min_item_support": 9}, "min_item_support"),
        ({"time_range": ["2001-01-01", "2001-01-02"]}, "time_range"),
        ({"time_range": ["soon", "later"]}, "time_range.*two dates"),
        ({"event_types": ["veiw"]}, "no event has the type 'veiw'; did you mean 'view'"),
        ({"event_types": []}, "event_types"),
        ({"event_types": ["buy"]}, "only one item"),
    ],
)
def test_errors_name_the_rule(rules: dict[str, Any], says: str) -> None:
    events = [(1, 5, 0.0, "view"), (1, 6, 1.0, "view"), (1, 6, 2.0, "buy")]
    with pytest.raises(UserError, match=says) as error:
        run(events, **rules)
    assert "\n" not in str(error.value)


def test_no_rows_and_bad_times_are_refused() -> None:
    with pytest.raises(UserError, match="no events"):
        collect({"train": Frames([])}, "d")
    with pytest.raises(UserError, match="event 2 has no valid time"):
        collect({"train": Frames([(1, 2, 0.0, "v"), (1, 3, float("nan"), "v")])}, "d")
