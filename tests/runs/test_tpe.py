"""Search by TPE: learns, prunes, goes on after an interruption; the space; a real search."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from p_rnn.runs import tpe
from p_rnn.runs.search import Range, draws, read_space
from p_rnn.settings.errors import UserError
from tests.conftest import random_log
from tests.running import run_script as script
from tests.runs.test_report import NETWORK, SETTINGS

optuna = pytest.importorskip("optuna")
SPACE = (
    "learning_rate: {low: 0.001, high: 1, log: true}\nhidden_size: {low: 8, high: 64, step: 8}\n"
)
Attempt = Callable[..., dict[str, Any] | None]


@pytest.fixture
def space(tmp_path: Path) -> str:
    path = tmp_path / "space.yaml"
    path.write_text(SPACE + "loss.name: [cross_entropy, bpr_max]\n")
    return str(path)


def quality(words: Sequence[str]) -> float:
    """Best at learning_rate .03 with cross_entropy; hidden_size matters little."""
    given = dict(word.split("=") for word in words)
    far = abs(math.log10(float(given["learning_rate"]) / 0.03))
    return -far - (given["loss.name"] == "bpr_max") - int(given["hidden_size"]) / 1e4


def finished(value: float) -> dict[str, Any]:
    return {
        "valid": {"recall@20": value},
        "test": {},
        "config": {"early_stopping": {"metric": "recall@20"}},
    }


def plays(words: Sequence[str], place: Path, varied: Sequence[str], watch: Any) -> dict[str, Any]:
    """A job of six epochs that gets better each epoch."""
    value = quality(words)
    for epoch in range(1, 7):
        watch(epoch, value - 1 / epoch)
    return finished(value)


def trials_in(folder: Path) -> list[Any]:
    backend = optuna.storages.journal.JournalFileBackend(str(folder / tpe.STUDY_FILE))
    study = optuna.load_study(study_name="search", storage=optuna.storages.JournalStorage(backend))
    return list(study.trials)


def test_it_learns_and_prunes(space: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tpe, "attempt", plays)
    best = tpe.search(space, 30, tmp_path / "s", 3, [])
    trials = trials_in(tmp_path / "s")
    assert len(trials) == 30
    pruned = [t for t in trials if t.state.name == "PRUNED"]
    assert pruned
    assert min(t.number for t in pruned) >= tpe.RANDOM
    assert all(max(t.intermediate_values) >= tpe.WARM_UP for t in pruned)
    done = {t.number: t.value for t in trials if t.value is not None and t not in pruned}
    assert best is not None
    assert best.reached == max(done.values())
    assert best.folder.name == f"trial{max(done, key=lambda k: done[k]):03d}"
    late = [quality([f"{k}={v}" for k, v in t.params.items()]) for t in trials[-10:]]
    early = [quality([f"{k}={v}" for k, v in t.params.items()]) for t in trials[: tpe.RANDOM]]
    assert sum(late) / len(late) > sum(early) / len(early) + 0.5


def test_more_trials_and_an_interruption(
    space: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same trials as in one go; the interrupted one is repeated in its own folder."""
    monkeypatch.setattr(tpe, "attempt", plays)
    tpe.search(space, 14, tmp_path / "whole", 0, ["seed=1"], prune=False)
    wanted = [t.params for t in trials_in(tmp_path / "whole")]
    places: list[str] = []

    def dies(words: Sequence[str], place: Path, *others: Any) -> dict[str, Any]:
        places.append(place.name)
        if len(places) == 11:
            raise KeyboardInterrupt
        return plays(words, place, *others)

    monkeypatch.setattr(tpe, "attempt", dies)
    with pytest.raises(KeyboardInterrupt):
        tpe.search(space, 12, tmp_path / "parts", 0, ["seed=1"], prune=False)
    tpe.search(space, 12, tmp_path / "parts", 0, ["seed=1"], prune=False)
    tpe.search(space, 14, tmp_path / "parts", 0, ["seed=1"], prune=False)
    trials = trials_in(tmp_path / "parts")
    assert [t.params for t in trials] == wanted
    assert all(t.state.name == "COMPLETE" for t in trials)
    assert places[9:12] == ["trial009", "trial010", "trial010"]


def test_failures_and_other_searches(
    space: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tpe, "attempt", lambda *_: None)
    folder = tmp_path / "s"
    assert tpe.search(space, 2, folder, 0, []) is None
    assert [t.state.name for t in trials_in(folder)] == ["FAIL", "FAIL"]
    with pytest.raises(UserError, match=r"another space, seed or settings; give another name"):
        tpe.search(space, 2, folder, 1, [])
    with pytest.raises(UserError, match=r"another space, seed or settings; give another name"):
        tpe.search(space, 2, folder, 0, ["hidden_size=8"])
    (tmp_path / "random" / "trial000").mkdir(parents=True)
    with pytest.raises(UserError, match=r"holds trials without study.log; give another name"):
        tpe.search(space, 2, tmp_path / "random", 0, [])


def test_ranges_of_a_space(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(SPACE)
    space = read_space(str(path))
    assert space == {"learning_rate": Range(0.001, 1, None, True), "hidden_size": Range(8, 64, 8)}
    drawn = [each for each, _ in zip(draws(space, 0), range(300), strict=False)]
    rates = [each["learning_rate"] for each in drawn]
    assert 0.001 <= min(rates) < 0.002
    assert 0.5 < max(rates) <= 1
    assert sum(rate < 0.0316 for rate in rates) == pytest.approx(150, abs=45)
    assert {each["hidden_size"] for each in drawn} == set(range(8, 65, 8))
    for wrong in (
        "{low: 0, high: 1, log: true}",
        "{low: 2, high: 1, step: 1}",
        "{low: 1, high: 2, log: false}",
        "{low: 1, high: 2, step: 0}",
        "{low: 1, high: 2}",
        "[]",
        "3",
    ):
        path.write_text(f"learning_rate: {wrong}\n")
        with pytest.raises(UserError, match=r"learning_rate needs a list of values, or low"):
            read_space(str(path))


def test_a_real_search(space: str, tmp_path: Path) -> None:
    random_log(0).to_csv(tmp_path / "tiny.csv", index=False)
    words = [*SETTINGS, *NETWORK, "model=id_only", f"paths.raw={tmp_path}", "num_epochs=2"]
    words += [f"paths.prepared={tmp_path}/prepared", "loss.bpreg=null", "loss.elu_param=null"]
    Path(space).write_text(SPACE)
    given = ["--space", space, "--name", "s", "--sampler", "tpe", *words]
    done = script("search", tmp_path, "--trials", "2", *given)
    assert done.returncode == 0, done.stderr
    output = done.stdout + done.stderr
    assert "best of 2 trials (0 pruned) on validation" in output
    values = [t.value for t in trials_in(tmp_path / "multirun" / "s")]
    for k, value in enumerate(values):
        stored = tmp_path / "multirun" / "s" / f"trial{k:03d}" / "metrics.json"
        assert json.loads(stored.read_text())["valid"]["recall@20"] == value
