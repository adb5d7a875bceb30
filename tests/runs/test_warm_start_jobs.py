"""Training on, in whole jobs: validation, resuming, refusals, and whether it helps."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from p_rnn.models.network import PRNN
from p_rnn.runs import jobs as jobs_module
from p_rnn.runs.experiment import train
from p_rnn.settings.config import Config
from p_rnn.settings.errors import UserError
from p_rnn.settings.resolve import resolve
from p_rnn.settings.roles import tells_rows_apart
from p_rnn.settings.sections import PathsConfig
from p_rnn.settings.stored import differences_of
from tests.composed import composed
from tests.conftest import TINY, random_log
from tests.running import run_script
from tests.runs.warm_worlds import BOTH, table_of

Make = Callable[..., Config]


@pytest.fixture
def job(tiny: Make, tmp_path: Path) -> Make:
    """A small job with features."""
    table_of(range(30)).to_csv(tmp_path / "raw" / "items.csv", index=False)

    def make(*overrides: str) -> Config:
        words = ["model=concat", *BOTH, "tracking.tensorboard=false", *overrides]
        return tiny(*(words if "model=pop" not in overrides else overrides))

    return make


def test_the_first_validation_is_that_of_the_checkpoint(
    job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = train(job("num_epochs=2"), tmp_path / "a")
    seen: list[dict[str, float]] = []
    fit = jobs_module.fit

    def watched(trainer: Any, validate: Any, *rest: Any) -> Any:
        seen.append(validate())
        return fit(trainer, validate, *rest)

    monkeypatch.setattr(jobs_module, "fit", watched)
    best = str(tmp_path / "a" / "checkpoints" / "best.pt")
    metrics = train(job("num_epochs=1", "seed=3", f"warm_start={best}"), tmp_path / "b")
    assert seen[0] == {name: start["valid"][name] for name in seen[0]}
    assert metrics["config"]["warm_start"] == best


def test_the_final_training_starts_from_the_checkpoint_too(
    job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(job(), tmp_path / "a")
    sizes: list[int] = []
    real = jobs_module.warm_start

    def watched(config: Any, network: PRNN, *rest: Any) -> None:
        real(config, network, *rest)
        sizes.append(network.num_items)

    monkeypatch.setattr(jobs_module, "warm_start", watched)
    best = tmp_path / "a" / "checkpoints" / "best.pt"
    words = [f"warm_start={best.parent.parent}", "train_on_validation=true"]
    train(job(*words), tmp_path / "b")
    assert len(sizes) == 2
    train(job(*words, f"resume={tmp_path / 'b' / 'checkpoints' / 'last.pt'}"), tmp_path / "c")
    assert len(sizes) == 3  # what is resumed has its weights; the final training starts again


def test_a_resumed_run_ends_as_one_that_was_not_interrupted(
    job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(job(), tmp_path / "a")
    best = tmp_path / "a" / "checkpoints" / "best.pt"
    words = [f"warm_start={best}", "num_epochs=2"]
    whole = train(job(*words), tmp_path / "whole")
    train(job(*words[:1]), tmp_path / "half")
    shutil.move(best, tmp_path / "moved.pt")  # a resumed run does not need it
    last = tmp_path / "half" / "checkpoints" / "last.pt"
    resumed = train(job(*words, f"resume={last}"), tmp_path / "rest")
    assert resumed["test"] == whole["test"]
    a, b = (
        torch.load(tmp_path / name / "checkpoints" / "last.pt", weights_only=True)["model"]
        for name in ("whole", "rest")
    )
    assert all(torch.equal(value, b[name]) for name, value in a.items())
    with pytest.raises(UserError, match="was trained with warm_start="):
        train(job("num_epochs=2", f"resume={last}"), tmp_path / "other")


def test_a_missing_checkpoint_is_said_before_data_are_prepared(job: Make, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no checkpoint at .*none\.pt"):
        train(job(f"warm_start={tmp_path / 'none.pt'}"), tmp_path / "a")
    assert not (tmp_path / "prepared").exists()


def test_models_that_count_refuse_it(job: Make, tmp_path: Path) -> None:
    words = ["model=pop", "warm_start=best.pt"]
    nothing = [
        f"{key}=null" for key in ("hidden_size", "batch_size", "num_negatives", "num_epochs")
    ]
    with pytest.raises(UserError, match="warm_start has no effect on model=pop"):
        train(job(*words, *nothing), tmp_path / "a")
    counted = train(job("model=pop", *nothing), tmp_path / "pop")
    assert counted["epochs"] == 0
    best = tmp_path / "pop" / "checkpoints" / "best.pt"
    with pytest.raises(UserError, match=r"model\.name=pop, not concat"):
        train(job(f"warm_start={best}"), tmp_path / "b")


def test_runs_that_start_from_a_checkpoint_are_rows_of_their_own() -> None:
    assert tells_rows_apart("warm_start")
    config = resolve(composed("dataset=table", "dataset.path=none"))
    other = replace(config, warm_start="best.pt")
    varied = differences_of(config, other, lambda known: True)
    assert list(varied) == [("warm_start", "null", "best.pt")]


def test_searches_take_it(job: Make, tmp_path: Path) -> None:
    train(job(), tmp_path / "a")
    raw, best = tmp_path / "raw", tmp_path / "a" / "checkpoints" / "best.pt"
    words = ["model=concat", *BOTH, f"paths.prepared={tmp_path / 'prepared'}", *TINY]
    how = ["--space", "network", "--trials", "1", "--name", "again"]
    done = run_script("search", tmp_path, *how, *words, f"warm_start={best}", raw=raw)
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 0, said
    assert "30 of 30 items keep their rows" in said


def test_one_epoch_after_a_warm_start_is_better_than_one_from_nothing(tmp_path: Path) -> None:
    """Sessions walk through the items, which change a little on the sixth day."""
    log = random_log(seed=4, num_sessions=600, num_items=60)
    later = log.groupby("session")["time"].transform("min") >= 5 * 86_400
    log["item"] += 10 * later
    (tmp_path / "raw").mkdir()
    log.to_csv(tmp_path / "raw" / "tiny.csv", index=False)
    table_of(range(70)).to_csv(tmp_path / "raw" / "items.csv", index=False)

    def run(name: str, *overrides: str) -> float:
        config = composed(*TINY, "model=concat", *BOTH, "tracking.tensorboard=false", *overrides)
        config.paths = PathsConfig(str(tmp_path / "raw"), str(tmp_path / "prepared"))
        recall: float = train(config, tmp_path / name)["test"]["recall@5"]
        return recall

    run("old", "dataset.time_range=['1970-01-01','1970-01-06']", "num_epochs=8")
    fresh = run("fresh")
    warm = run("warm", f"warm_start={tmp_path / 'old' / 'checkpoints' / 'best.pt'}")
    assert warm > fresh + 0.1
