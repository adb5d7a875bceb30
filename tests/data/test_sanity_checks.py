"""Dates that `prepare` prints, and logs that it warns of."""

from __future__ import annotations

import logging
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from p_rnn.data.prepare import describe, prepare
from p_rnn.settings.errors import UserError
from p_rnn.settings.hydra_glue import load_config

START_S, DAY_S = 1_709_251_200, 86_400  # 2024-03-01
Event = tuple[int, int, float]


def log(num_sessions: int = 300, days: float = 10) -> list[Event]:
    """About 1,200 clicks on 20 items, evenly over the days."""
    rng = random.Random(1)
    rows: list[Event] = []
    for s in range(num_sessions):
        time = START_S + s * days * DAY_S / num_sessions
        for _ in range(rng.randint(2, 6)):
            rows.append((s, rng.randrange(20), time))
            time += rng.randint(5, 60)
    return rows


def warned(
    folder: Path, caplog: pytest.LogCaptureFixture, rows: list[Any], *overrides: str
) -> list[str]:
    """The warnings of a data set, which come again when it is used again."""
    frame = pd.DataFrame(rows, columns=["session", "item", "time"])
    frame.to_csv(folder / "e.csv", index=False)
    places = [f"paths.raw={folder}", f"paths.prepared={folder / 'prepared'}"]
    config = load_config("dataset=table", "dataset.path=e.csv", *places, *overrides)
    found = []
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="p_rnn"):
            prepare(config.dataset, config.paths)
        found.append([r.message for r in caplog.records if r.levelno == logging.WARNING])
    assert found[0] == found[1]
    assert all(message.startswith("warning: ") and "\n" not in message for message in found[0])
    return found[0]


def test_ordinary_logs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert warned(tmp_path, caplog, log()) == []
    growing = [
        (s, i, START_S + 10 * DAY_S * ((t - START_S) / 10 / DAY_S) ** 0.25) for s, i, t in log()
    ]
    assert warned(tmp_path, caplog, growing) == []
    year = log(3000, days=365)
    assert warned(tmp_path, caplog, year, "dataset.test_days=7") == []
    out = ["dataset.split=leave_one_out", "dataset.test_days=null", "dataset.straddling=null"]
    assert warned(tmp_path, caplog, log(), *out) == []


def test_the_table_has_dates(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    warned(tmp_path, caplog, log(), "dataset.time_range=['2024-03-02','2024-03-12']")
    (table,) = [r.message for r in caplog.records if r.message.startswith("rule")]
    lines = {line.split()[0]: line for line in table.splitlines()}
    assert max(map(len, lines.values())) <= 80
    assert lines["rule"].split()[-2:] == ["from", "to"]
    assert lines["read"].endswith("  2024-03-01  2024-03-10")
    assert lines["left"].endswith("  2024-03-02  2024-03-10")
    assert lines["train"].endswith("  2024-03-02  2024-03-08")
    assert lines["test"].endswith("  2024-03-10  2024-03-10")
    manifest: dict[str, Any] = {  # of an older version, or without times
        "rules": [{"rule": "read", "events": 5, "sessions": 2, "items": 3}],
        "splits": {},
        "num_train_items": 3,
    }
    assert "-" not in describe(manifest)


@pytest.mark.parametrize(
    ("factor", "shift", "says"),
    [
        (1, -START_S + 1_710_000, "spans 1970-01-20 to 1970-01-30"),
        (1, -55 * 365 * DAY_S, "before 1980"),
        (1, 40 * 365 * DAY_S, "in the future"),
    ],
)
def test_times_in_another_unit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, factor: float, shift: float, says: str
) -> None:
    rows = [(s, i, t * factor + shift) for s, i, t in log()]
    (message,) = warned(tmp_path, caplog, rows)
    assert says in message
    assert f"{len(rows):,} of {len(rows):,} events" in message
    assert "is the time unit right (dataset.time_unit=s)?" in message


def test_seconds_as_milliseconds(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Ten days are a quarter of an hour then, which no day divides."""
    with pytest.raises(UserError, match="of 1970-01-20; is the time unit right") as error:
        warned(tmp_path, caplog, log(), "dataset.time_unit=ms")
    assert "\n" not in str(error.value)
    (message,) = warned(tmp_path, caplog, log(), "dataset.time_unit=ms", "dataset.test_days=0.001")
    assert "1970-01-20 to 1970-01-20" in message
    assert "(dataset.time_unit=ms)" in message


def test_a_session_decades_after_the_rest(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    late = START_S + 15 * 365 * DAY_S
    stray = [(999, k, float(late + k)) for k in range(4)]
    found = warned(tmp_path, caplog, [*log(), *stray])
    assert len(found) == 3
    assert "4 of " in found[0]
    assert "in the future" in found[0]
    assert "the test split starts 5,465 days after the last session before it" in found[1]
    assert "dataset.time_range=['2024-03-01','2024-03-11']" in found[1]
    assert "the test split has only 3 targets" in found[2]
    mended = warned(
        tmp_path, caplog, [*log(), *stray], "dataset.time_range=['2024-03-01','2024-03-11']"
    )
    assert mended == []


def test_a_session_decades_before_the_rest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stray = [(999, k, float(k)) for k in range(4)]
    found = warned(tmp_path, caplog, [*stray, *log()])
    assert len(found) == 2
    assert "4 of " in found[0]
    assert "before 1980" in found[0]
    assert "the train split start between 1970-01-01 and 2024-03-08" in found[1]
    assert "['2024-03-01','2024-03-11']" in found[1]
    weeks = [(999, k, float(START_S - 40 * DAY_S + k)) for k in range(4)]
    (message,) = warned(tmp_path, caplog, [*weeks, *log()])
    assert (
        "start between 2024-01-21 and 2024-03-08, but nearly all of them between 2024-03-01"
        in message
    )


def test_a_session_that_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = log()
    session = rows[-1][0]
    (message,) = warned(tmp_path, caplog, [*rows, (session, 3, rows[-1][2] + 200 * DAY_S)])
    assert "the test split spans 2024-03-10 to 2024-09-26" in message
    assert f"session {session} lasts 200 days" in message
    assert "dataset.session_gap_s=3600" in message


def test_words_for_a_missing_id(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows: list[Any] = [(s, "NULL" if k % 40 == 0 else i, t) for k, (s, i, t) in enumerate(log())]
    (message,) = warned(tmp_path, caplog, rows)
    assert f"{len(rows[::40])} events have the item 'NULL'" in message
    assert "dataset.where='item != NULL'" in message
    assert warned(tmp_path, caplog, rows, "dataset.where='item != NULL'") == []


def test_few_targets(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = warned(tmp_path, caplog, log(), "dataset.test_days=0.2")
    for split, message in zip(("test", "valid"), found, strict=True):
        assert f"the {split} split has only" in message
        assert "increase dataset.test_days" in message


@pytest.mark.parametrize(("length", "expected"), [(900, 0), (3000, 1)])
def test_a_session_that_is_too_long(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, length: int, expected: int
) -> None:
    rng = np.random.default_rng(0)
    bot = [(777, int(rng.integers(20)), float(START_S + 60 * k)) for k in range(length)]
    found = warned(tmp_path, caplog, [*log(), *bot], "dataset.min_item_support=null")
    assert len(found) == expected
    for message in found:
        assert f"session 777 has {length:,} events" in message
        assert "dataset.max_session_length=50" in message
        assert "dataset.long_sessions=truncate or split" in message
    fix = ["dataset.max_session_length=50", "dataset.long_sessions=split"]
    assert warned(tmp_path, caplog, [*log(), *bot], *fix) == []
