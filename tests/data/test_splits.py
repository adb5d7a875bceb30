"""Splits against plain Python, the strictness of the cut, and the order of item indices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p_rnn.data.events import EventLog
from p_rnn.data.prepare import _write_events
from p_rnn.data.splits import DAY_S, Part, split
from p_rnn.settings.errors import UserError
from p_rnn.settings.sections import DatasetConfig

Session = list[tuple[int, float]]  # (item, time), in order of time


def make_log(sessions: list[Session]) -> EventLog:
    """Session s holds the events of sessions[s]; item codes are the item numbers."""
    rows = [(s, item, time) for s, events in enumerate(sessions) for item, time in events]
    session, item, time = (np.array(column) for column in zip(*rows, strict=True))
    return EventLog(
        session=session.astype(np.int32),
        item=item.astype(np.int32),
        time=time.astype(np.float64),
        kind=None,
        session_ids=np.arange(len(sessions)) + 1000,
        item_ids=np.arange(item.max() + 1) * 10,
        kinds=[],
    )


def read(log: EventLog, part: Part) -> list[tuple[int, Session]]:
    """(session number, events) of a part, by its ranges; `events()` must agree."""
    found = []
    for first, last in zip(part.first.tolist(), part.last.tolist(), strict=True):
        assert len(set(log.session[first:last].tolist())) == 1
        events = list(
            zip(log.item[first:last].tolist(), log.time[first:last].tolist(), strict=True)
        )
        found.append((int(log.session[first]), events))
    ranges = zip(part.first.tolist(), part.last.tolist(), strict=True)
    assert part.events().tolist() == [e for lo, hi in ranges for e in range(lo, hi)]
    assert part.lengths.tolist() == [len(events) for _, events in found]
    return found


def brute_time(sessions: list[Session], rules: DatasetConfig) -> dict[str, list[Any]]:
    """The split by time, session by session; Python's sort keeps the order of equal starts."""
    assert rules.test_days is not None
    rest = sorted(enumerate(sessions), key=lambda s: s[1][0][1])
    parts = {}
    for name in ("test", "valid") if rules.validation else ("test",):
        cut = max(events[0][1] for _, events in rest) - rules.test_days * 86_400
        parts[name] = [s for s in rest if s[1][0][1] > cut]
        rest = [s for s in rest if s[1][0][1] <= cut]
        if rules.straddling == "truncate":
            rest = [(s, [event for event in events if event[1] <= cut]) for s, events in rest]
            shortest = max(rules.min_session_length or 1, 2)
            rest = [(s, events) for s, events in rest if len(events) >= shortest]
        if not rest:
            break
    return {"train": rest, **parts}


def random_sessions(seed: int) -> list[Session]:
    """Starts lie on a grid of half days, so that cuts are hit exactly; some last for days."""
    rng = np.random.default_rng(seed)
    sessions = []
    for _ in range(int(rng.integers(20, 60))):
        start = float(rng.integers(0, 20)) * 43_200
        pace = float(rng.choice([60.0, 43_200.0]))
        steps = rng.integers(0, 2, int(rng.integers(2, 9))) * pace
        times = start + np.cumsum(steps) - steps[0]
        sessions.append([(int(rng.integers(30)), t) for t in times.tolist()])
    return sessions


@pytest.mark.parametrize("straddling", ["whole", "truncate"])
@pytest.mark.parametrize("validation", [True, False])
@pytest.mark.parametrize("days", [0.5, 1.0, 2.25])
def test_time_split_equals_plain_python(straddling: str, validation: bool, days: float) -> None:
    for seed in range(25):
        sessions = random_sessions(seed)
        log = make_log(sessions)
        rules = DatasetConfig.of(
            test_days=days,
            straddling=straddling,
            validation=validation,
            min_session_length=[None, 2, 4][seed % 3],
        )
        expected = brute_time(sessions, rules)
        parts = split(log, rules)
        assert list(parts) == ["train", *(["valid"] if validation else []), "test"]
        for name, part in parts.items():
            assert read(log, part) == expected[name], (seed, name)
            starts = log.time[part.first]
            assert (np.diff(starts) >= 0).all()
        if straddling == "truncate":
            first_held_out = min(
                log.time[part.first].min() for n, part in parts.items() if n != "train"
            )
            assert log.time[parts["train"].events()].max() < first_held_out


def pair(start: float, length: int = 2, step: float = 1.0) -> Session:
    return [(k % 3, start + step * k) for k in range(length)]


def test_the_cut_is_strict_and_validation_is_cut_from_the_rest() -> None:
    day = DAY_S
    # Last start: day 10. Cut of the test: day 9, which itself is no test session any more.
    # Of the rest, the last start is day 9; the cut of validation is day 8.
    starts = [10 * day, 9 * day + 1, 9 * day, 8 * day + 1, 8 * day, 2 * day]
    log = make_log([pair(s) for s in starts])
    parts = split(log, DatasetConfig.of(test_days=1.0, straddling="whole"))
    sessions = {name: [s for s, _ in read(log, part)] for name, part in parts.items()}
    assert sessions == {"train": [5, 4], "valid": [3, 2], "test": [1, 0]}
    parts = split(log, DatasetConfig.of(test_days=1.0, straddling="whole", validation=False))
    sessions = {name: [s for s, _ in read(log, part)] for name, part in parts.items()}
    assert sessions == {"train": [5, 4, 3, 2], "test": [1, 0]}


def test_straddling_sessions_by_hand() -> None:
    day = DAY_S
    log = make_log(
        [
            pair(10 * day),
            # Starts before the cut at day 9 and goes on until after it; an event exactly at the
            # cut is still before the test.
            [(0, 9 * day - 5), (1, 9 * day), (2, 9 * day + 5)],
            [(0, 9 * day - 4), (1, 9 * day + 1), (2, 9 * day + 2)],  # one event is left: no session
            pair(3 * day),
        ]
    )
    whole = split(log, DatasetConfig.of(test_days=1.0, straddling="whole", validation=False))
    assert [(s, len(e)) for s, e in read(log, whole["train"])] == [(3, 2), (1, 3), (2, 3)]
    cut = split(log, DatasetConfig.of(test_days=1.0, straddling="truncate", validation=False))
    assert [(s, len(e)) for s, e in read(log, cut["train"])] == [(3, 2), (1, 2)]
    assert [s for s, _ in read(log, cut["test"])] == [0]


def test_a_validation_session_is_truncated_at_the_cut_of_the_test() -> None:
    day = DAY_S
    straddling = [(0, 9 * day - 5), (1, 9 * day - 4), (2, 9 * day + 1)]
    log = make_log([pair(10 * day), straddling, pair(day)])
    parts = split(log, DatasetConfig.of(test_days=1.0, straddling="truncate"))
    assert read(log, parts["valid"]) == [(1, straddling[:2])]
    assert [s for s, _ in read(log, parts["train"])] == [2]


USERS = [pair(50.0, 1), pair(40.0, 2), pair(30.0, 3), pair(20.0, 4), pair(20.0, 5)]


@pytest.mark.parametrize(
    ("validation", "expected"),
    [
        # Users with 4 and 5 events start first; too short a user only trains, with all it has.
        (
            True,
            {
                "train": [(3, 2), (4, 3), (2, 1), (1, 2), (0, 1)],
                "valid": [(3, 3), (4, 4), (2, 2)],
                "test": [(3, 4), (4, 5), (2, 3)],
            },
        ),
        (
            False,
            {
                "train": [(3, 3), (4, 4), (2, 2), (1, 1), (0, 1)],
                "test": [(3, 4), (4, 5), (2, 3), (1, 2)],
            },
        ),
    ],
)
def test_leave_one_out(validation: bool, expected: dict[str, Any]) -> None:
    log = make_log(USERS)
    parts = split(log, DatasetConfig.of(split="leave_one_out", validation=validation))
    assert list(parts) == list(expected)
    for name, part in parts.items():
        rows = read(log, part)
        assert [(s, len(events)) for s, events in rows] == expected[name]
        assert all(events == USERS[s][: len(events)] for s, events in rows)  # always a prefix


@pytest.mark.parametrize(
    ("sessions", "rules", "says"),
    [
        ([pair(0.0), pair(5.0)], {"test_days": 1.0}, "(train|valid) split.*test_days"),
        ([pair(0.0), pair(2e6)], {"test_days": 1.0}, "train split.*test_days"),
        ([pair(0.0), pair(2e6, 1)], {"test_days": 1.0, "validation": False}, "test split"),
        ([pair(0.0), pair(1.0)], {"split": "leave_one_out"}, "no user has 3 or more events"),
    ],
)
def test_an_empty_split_is_refused(sessions: list[Session], rules: Any, says: str) -> None:
    settings = {"straddling": "whole", "min_session_length": None, **rules}
    with pytest.raises(UserError, match=says) as error:
        split(make_log(sessions), DatasetConfig.of(**settings))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("validation", [True, False])
@pytest.mark.parametrize("kind", ["time", "leave_one_out"])
def test_items_are_indexed_by_where_they_first_occur(
    tmp_path: Path, kind: str, validation: bool
) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        sessions = random_sessions(seed)
        # Some items exist only late, so that every group of items is there.
        sessions = [
            [(i + (30 if rng.random() < t / 2e6 else 0), t) for i, t in events]
            for events in sessions
        ]
        log = make_log(sessions)
        rules = DatasetConfig.of(
            split=kind,
            validation=validation,
            test_days=1.0 if kind == "time" else None,
            straddling="whole" if kind == "time" else None,
        )
        parts = split(log, rules)
        folder = tmp_path / str(seed)
        folder.mkdir()
        counts = _write_events(log, parts, folder)
        raw = {
            name: [e for _, rows in read(log, part) for e, _ in rows]
            for name, part in parts.items()
        }
        train, valid, test = (set(raw.get(name, [])) for name in ("train", "valid", "test"))
        item = (np.load(folder / "item_ids.npy") // 10).tolist()
        known, seen = counts["num_train_items"], counts["num_seen_items"]
        assert set(item[:known]) == train
        assert set(item[known:seen]) == valid - train
        assert set(item[seen:]) == test - valid - train
        assert counts["num_items"] == len(item) == len(set(item))
        support = [raw["train"].count(i) for i in item[:known]]
        assert support == sorted(support, reverse=True)
        for name, events in raw.items():
            stored = np.load(folder / name / "items.npy")
            assert stored.dtype == np.int32
            assert [item[i] for i in stored] == events
