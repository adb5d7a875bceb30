"""Damaged and foreign files beside good runs: one line each, and the report of the good ones."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from p_rnn.evaluation.ranks_file import RANKS
from p_rnn.runs.experiment import train
from p_rnn.runs.report.write import write_report
from p_rnn.runs.search import read_space
from p_rnn.settings.config import Config
from p_rnn.settings.errors import UserError
from tests.composed import composed
from tests.conftest import TINY, random_log
from tests.runs.damage import Damage, damages_of_metrics, damages_of_ranks

METRICS = "metrics.json"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two good runs, `a` and `b`, and `c`, which is to be damaged."""
    place = tmp_path_factory.mktemp("foreign")
    (place / "raw").mkdir()
    random_log(seed=1).to_csv(place / "raw" / "tiny.csv", index=False)
    words = [*TINY, f"paths.raw={place / 'raw'}", f"paths.prepared={place / 'prepared'}"]
    words += ["tracking.tensorboard=false", "num_epochs=2"]
    for name, rate in (("a", 0.05), ("b", 0.1), ("c", 0.2)):
        config: Config = composed(*words, f"learning_rate={rate}")
        train(config, place / "runs" / name)
    return place / "runs"


def outcome(runs: Path, file: str, damage: Damage) -> str | None:
    """What is wrong with the report where a file of `c` is damaged; None: nothing."""
    path, kept = runs / "c" / file, runs.parent / "kept"
    shutil.copytree(runs / "c", kept, symlinks=True)
    said = Listener()
    log = logging.getLogger("p_rnn")
    log.addHandler(said)
    out = runs.parent / "report"
    try:
        damage[1](path)
        before = figures(runs.parent / "good" / "table.csv")
        text = write_report([runs], out, against="learning_rate=0.05")
        now = figures(out / "table.csv")
        if any(now.get(name) != before[name] for name in ("a", "b")):
            return "other runs changed"
        if now.get("c", before["c"]) != before["c"]:
            return f"a wrong number: {now['c']}"
        told = [line for line in said.lines if str(path) in line]
        if file == METRICS and "c" not in now and not told:
            return "left out in silence"
        if file == RANKS and "learning_rate=0.2 - " in text and text != before["text"]:
            return "a wrong test"
        if any("\n" in line for line in told):
            return "more than one line"
        return None
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:100]}"
    finally:
        log.removeHandler(said)
        shutil.rmtree(out, ignore_errors=True)
        shutil.rmtree(runs / "c")
        kept.rename(runs / "c")


class Listener(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def figures(path: Path) -> dict[str, Any]:
    """{name of the run: its figures}, and the table as text."""
    with path.open(newline="") as file:
        rows = {Path(row["folder"]).name: row for row in csv.DictReader(file)}
    found: dict[str, Any] = {
        name: {k: x for k, x in row.items() if "@" in k or k in ("parameters", "updates")}
        for name, row in rows.items()
    }
    return {**found, "text": (path.with_name("table.txt")).read_text().strip("\n")}


def wrong(
    runs: Path, file: str, damages: Iterable[Damage], every: int = 1
) -> tuple[int, list[str]]:
    """How many were tried, and those with which something was wrong."""
    if not (runs.parent / "good").exists():
        write_report([runs], runs.parent / "good", against="learning_rate=0.05")
    tried, found = 0, []
    for number, damage in enumerate(damages):
        if number % every == 0:
            tried += 1
            if (why := outcome(runs, file, damage)) is not None:
                found.append(f"{file}, {damage[0]}: {why}")
    return tried, found


def kinds(runs: Path) -> list[tuple[str, list[Damage]]]:
    metrics = json.loads((runs / "c" / METRICS).read_text())
    return [
        (METRICS, list(damages_of_metrics(metrics))),
        (RANKS, list(damages_of_ranks(runs / "c" / RANKS))),
    ]


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which take a second each."""
    monkeypatch.setattr("p_rnn.runs.report.write.draw_all", lambda *_: [])


@pytest.mark.parametrize("every", [29, pytest.param(1, marks=pytest.mark.slow)])
def test_damaged_files_spoil_no_report(every: int, runs: Path, no_pictures: None) -> None:
    for file, damages in kinds(runs):
        tried, found = wrong(runs, file, damages, every)
        print(f"{file}: {tried} tried, {len(found)} wrong")
        assert not found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("[1, 2]\n", "must hold keys and values"),
        ("a: &x [*x]\n", "an anchor that contains itself"),
        ("a: &x {b: *x}\n", "an anchor that contains itself"),
        ("a: ${b}\nb: ${a}\n", "Recursive interpolation"),
        ("a: []\n", "needs a list of values"),
        ("a: [1\n", "space.yaml"),
        ("a: \xe9\0\n", "space.yaml"),
        ("a: " + "[" * 3000 + "]" * 3000 + "\n", "nested too deep"),
        (
            "a: &a0 [1, 2]\n"
            + "".join(f"b{n}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]\n" for n in range(12)),
            "more than 100,000 values",
        ),
    ],
)
def test_spaces_that_are_none(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as raised:
        read_space(str(path))
    assert said in str(raised.value)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
