"""Whole jobs with features: stages, cycles, resuming, early stopping, and checkpoints again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from p_rnn.evaluation.evaluator import summarise
from p_rnn.runs import fit as fit_module
from p_rnn.runs import jobs as jobs_module
from p_rnn.runs.comparison import evaluate_checkpoint
from p_rnn.runs.experiment import train
from p_rnn.settings.commands import EvaluateConfig
from p_rnn.settings.config import Config
from p_rnn.settings.errors import UserError
from p_rnn.settings.resolve import resolve
from p_rnn.settings.stored import from_dict, refuse_difference
from p_rnn.training.strategies import STRATEGIES
from p_rnn.training.trainer import Trainer

Make = Callable[..., Config]


def weights(folder: Path, name: str = "last") -> dict[str, Any]:
    return dict(torch.load(folder / "checkpoints" / f"{name}.pt", weights_only=True))


def assert_equal(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert a["model"].keys() == b["model"].keys()
    for name, value in a["model"].items():
        assert torch.equal(value, b["model"][name]), name


class Stop(Exception):
    """The power fails."""


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_interrupted_run_goes_on_bit_for_bit(
    strategy: str, job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after one pass, after two, three, five, where there are more."""
    settings = [f"strategy={strategy}", "num_epochs=2", "learning_rate=0.5"]
    whole = train(job(*settings), tmp_path / "whole")
    stops = [done for done in (1, 2, 3, 5) if done < len(whole["history"])]
    assert stops == ([1, 2, 3, 5] if strategy in ("alternating", "residual") else [1])
    save = fit_module._save
    for done in stops:
        saved: list[Any] = []

        def fail(*args: Any, done: int = done, saved: list[Any] = saved) -> None:
            save(*args)
            saved.append(args)
            if len(saved) == done:
                raise Stop

        with monkeypatch.context() as patch:
            patch.setattr(fit_module, "_save", fail)
            with pytest.raises(Stop):
                train(job(*settings), tmp_path / f"part{done}")
        resume = f"resume={tmp_path / f'part{done}' / 'checkpoints' / 'last.pt'}"
        again = train(job(*settings, resume), tmp_path / f"again{done}")
        for name in ("last", "best"):
            assert_equal(
                weights(tmp_path / "whole", name), weights(tmp_path / f"again{done}", name)
            )
        for key in ("test", "updates_of_subnets"):
            assert again[key] == whole[key], (done, key)
        assert without_clocks(again) == without_clocks(whole), done


def without_clocks(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """The history of a run."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in metrics["history"]]


def test_an_interruption_between_the_two_checkpoints_changes_nothing(
    job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """last.pt of the first pass of stage two is there, the others are still those of stage one."""
    settings = ["strategy=residual", "num_epochs=2", "learning_rate=0.5"]
    whole = train(job(*settings), tmp_path / "whole")
    save = fit_module.save_checkpoint

    def fail(path: Path, config: Config, content: dict[str, Any]) -> None:
        if path.name in ("stage.pt", "best.pt") and content["history"]["stage"] == 1:
            raise Stop
        save(path, config, content)

    with monkeypatch.context() as patch:
        patch.setattr(fit_module, "save_checkpoint", fail)
        with pytest.raises(Stop):
            train(job(*settings), tmp_path / "part")
    resume = f"resume={tmp_path / 'part' / 'checkpoints' / 'last.pt'}"
    again = train(job(*settings, resume), tmp_path / "again")
    assert_equal(weights(tmp_path / "whole", "best"), weights(tmp_path / "again", "best"))
    assert again["test"] == whole["test"]


def test_the_settings_of_a_run_make_it_again(job: Make, tmp_path: Path) -> None:
    """Also where nothing is pooled; and a sweep knows its finished jobs."""
    config = job("selected_features=[size]", "num_epochs=1")
    once = train(config, tmp_path / "once")
    stored = from_dict(once["config"], "once")
    assert train(stored, tmp_path / "twice")["test"] == once["test"]
    refuse_difference("it", stored, resolve(job("num_epochs=1")))
    with pytest.raises(UserError, match=r"subnets\.size\.num_layers=null, not 2"):
        refuse_difference("it", stored, resolve(job("num_epochs=1", "subnets.size.num_layers=2")))
    with pytest.raises(UserError, match="selected_features"):
        refuse_difference("it", stored, resolve(job("num_epochs=1", "selected_features=[tags]")))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_updates_of_each_subnet_are_equal(strategy: str, job: Make, tmp_path: Path) -> None:
    metrics = train(job(f"strategy={strategy}", "num_epochs=2"), tmp_path / "run")
    counts = metrics["updates_of_subnets"]
    assert list(counts) == ["id", "size", "tags"]
    assert len(set(counts.values())) == 1
    total = counts["id"] if strategy == "simultaneous" else sum(counts.values())
    assert metrics["updates"] == total
    assert metrics["config"]["selected_features"] == ["size", "tags"]


def test_validation_comes_at_the_end_of_a_cycle(job: Make, tmp_path: Path) -> None:
    metrics = train(job("strategy=alternating", "num_epochs=2"), tmp_path / "run")
    assert ["valid" in row for row in metrics["history"]] == [False, False, True] * 2
    assert [row["learners"] for row in metrics["history"]] == [[["id"]], [["size"]], [["tags"]]] * 2
    assert metrics["best_epoch"] in (3, 6)


def test_a_stage_starts_from_the_best_state_of_the_one_before(
    job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Early stopping ends a stage, not the run; what the next one starts from is its best."""
    loaded: list[tuple[int, dict[str, Any]]] = []
    load = fit_module.load_network

    def spy(network: Any, path: Path) -> dict[str, Any]:
        content = load(network, path)
        loaded.append((content["in_score"], content["history"]))
        return content

    monkeypatch.setattr(fit_module, "load_network", spy)
    settings = ["strategy=residual", "num_epochs=8", "early_stopping.patience=1", "learning_rate=1"]
    metrics = train(job(*settings), tmp_path / "run")
    stages = [row["stage"] for row in metrics["history"]]
    assert stages == sorted(stages)
    assert set(stages) == {0, 1, 2}
    for stage in (0, 1):
        rows = [row for row in metrics["history"] if row["stage"] == stage]
        assert len(rows) < 8  # stopped early
        best = max(rows, key=lambda row: row["valid"]["recall@20"])["epoch"]
        in_score, history = loaded[stage]
        assert in_score == stage + 1
        assert history["best_epoch"] == best
    epochs = [row["epoch"] for row in metrics["history"]]
    assert {(e - 1) // 8 for e in epochs} == {0, 1, 2}  # passes keep their numbers
    result = evaluate_checkpoint(EvaluateConfig(str(tmp_path / "run/checkpoints/best.pt")))
    assert result[0]["test"]["parallel"] == metrics["results"]["test"]["parallel"]


def validating(monkeypatch: pytest.MonkeyPatch, *values: float) -> None:
    """Have validation give these values of recall@20, pass after pass."""
    left = iter(values)

    def measured(*args: Any) -> dict[str, Any]:
        found = summarise(*args)
        return {**found, "metrics": {**found["metrics"], "recall@20": next(left)}}

    monkeypatch.setattr(jobs_module, "summarise", measured)


WORSE = (0.1, 0.2, 0.3, 0.25, 0.15, 0.28)  # two passes in each of three stages


@pytest.mark.parametrize(("keep", "epoch", "subnets"), [("best", 3, 2), ("last_stage", 6, 3)])
def test_best_pt_stays_with_the_better_stage(
    keep: str,
    epoch: int,
    subnets: int,
    job: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    validating(monkeypatch, *WORSE)
    settings = ["strategy=residual", "num_epochs=2", f"early_stopping.keep={keep}"]
    with caplog.at_level("INFO"):
        metrics = train(job(*settings, "train_on_validation=true"), tmp_path / "run")
    assert metrics["best_epoch"] == epoch
    assert metrics["best_epochs_of_stages"] == [2, 3, 6]
    assert weights(tmp_path / "run", "best")["in_score"] == subnets
    assert "optimizer" not in weights(tmp_path / "run", "best")
    assert weights(tmp_path / "run", "stage")["in_score"] == 3
    text = " ".join(caplog.text.split())
    assert "stage 3 did not improve validation: recall@20 0.2800 at best, but 0.3000 in" in text
    assert ("best.pt stays with the earlier stage" in text) == (keep == "best")
    assert "stage 2 did not improve" not in text
    assert "epoch 2/6 (id): loss" in text
    said = [record.message for record in caplog.records if record.message.startswith("epoch ")]
    lines = {message[:9]: " ".join(message.split()) for message in said}
    assert lines["epoch 3/6"].endswith("(best)")
    assert lines["epoch 6/6"].endswith("(best of stage 3)" if keep == "best" else "(best)")
    assert not lines["epoch 4/6"].endswith(")")
    final = weights(tmp_path / "run", "final")
    assert final["in_score"] == subnets  # and what is tested
    passes = {"best": 3, "last_stage": 5}[keep]  # two, one, and two
    assert f"validation sessions for {passes} epochs" in text


@pytest.mark.parametrize("done", [3, 4, 5])
def test_a_resumed_run_keeps_the_better_stage(
    done: int, job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["strategy=residual", "num_epochs=2"]
    validating(monkeypatch, *WORSE)
    whole = train(job(*settings), tmp_path / "whole")
    validating(monkeypatch, *WORSE)
    count, save = 0, fit_module._save

    def fail(*args: Any) -> None:
        nonlocal count
        save(*args)
        count += 1
        if count == done:
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(fit_module, "_save", fail)
        with pytest.raises(Stop):
            train(job(*settings), tmp_path / "part")
    resume = f"resume={tmp_path / 'part' / 'checkpoints' / 'last.pt'}"
    again = train(job(*settings, resume), tmp_path / "again")
    for name in ("last", "best", "stage"):
        assert_equal(weights(tmp_path / "whole", name), weights(tmp_path / "again", name))
    for key in ("test", "best_epoch", "best_epochs_of_stages"):
        assert again[key] == whole[key]


def test_residual_trains_again_on_validation_the_passes_that_were_best(
    job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[int, list[int]] = {}  # passes of each trainer, in the order of the trainers

    class Spy(Trainer):
        def run_pass(self, index: int, *rest: Any) -> Any:
            made.setdefault(id(self), []).append(index)
            trainers.append(self)  # no other one may get its id
            return super().run_pass(index, *rest)

    trainers: list[Any] = []
    monkeypatch.setattr("p_rnn.runs.jobs.Trainer", Spy)
    settings = ["strategy=residual", "num_epochs=3", "learning_rate=1", "train_on_validation=true"]
    metrics = train(job(*settings), tmp_path / "run")
    expected = []
    kept = next(row["stage"] for row in metrics["history"] if row["epoch"] == metrics["best_epoch"])
    for stage in range(kept + 1):
        rows = [row for row in metrics["history"] if row["stage"] == stage]
        best = max(rows, key=lambda row: row["valid"]["recall@20"])["epoch"]
        expected += list(range(3 * stage, best))
    search, final = made.values()
    assert search == [row["epoch"] - 1 for row in metrics["history"]]
    assert final == expected
    assert weights(tmp_path / "run", "final")["in_score"] == kept + 1


def test_resuming_residual_with_other_epochs_is_refused_where_they_would_matter(
    job: Make, tmp_path: Path
) -> None:
    train(job("strategy=residual", "num_epochs=1"), tmp_path / "run")
    resume = f"resume={tmp_path / 'run' / 'checkpoints' / 'last.pt'}"
    with pytest.raises(UserError, match="trains other subnets in epoch 2"):
        train(job("strategy=residual", "num_epochs=2", resume), tmp_path / "more")
    train(job("strategy=alternating", "num_epochs=1"), tmp_path / "turns")
    resume = f"resume={tmp_path / 'turns' / 'checkpoints' / 'last.pt'}"
    longer = train(job("strategy=alternating", "num_epochs=2", resume), tmp_path / "longer")
    assert len(longer["history"]) == 6


def test_changed_features_are_noticed(job: Make, tmp_path: Path) -> None:
    train(job("num_epochs=1"), tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "last.pt"
    for other in (
        "selected_features=[size]",
        "selected_features=[tags,size]",
        "subnets.tags.weight=0.1",
        "subnets.tags.hidden_size=5",
    ):
        key = other.split("=")[0]
        with pytest.raises(UserError, match=f"was trained with {key}="):
            train(job("num_epochs=2", f"resume={path}", other), tmp_path / "2")
    table = pd.read_csv(tmp_path / "raw" / "items.csv").assign(size=range(30))
    table.to_csv(tmp_path / "raw" / "items.csv", index=False)
    with pytest.raises(UserError, match=r"trained on other data \(features"):
        train(job("num_epochs=2", f"resume={path}"), tmp_path / "2")
    with pytest.raises(UserError, match="another version of the feature size"):
        evaluate_checkpoint(EvaluateConfig(str(path)))


def test_a_seed_fixes_a_run_with_features(job: Make, tmp_path: Path) -> None:
    settings = ["strategy=interleaving", "batching=sequences", "batch_size=40", "num_epochs=2"]
    one = train(job(*settings), tmp_path / "one")
    shutil.rmtree(tmp_path / "prepared")
    two = train(job(*settings), tmp_path / "two")
    assert one["test"] == two["test"]
    assert_equal(weights(tmp_path / "one"), weights(tmp_path / "two"))
    other = train(job(*settings, "seed=1"), tmp_path / "three")
    assert other["test"] != one["test"]


def test_a_data_set_without_features_and_pooling_without_bags_are_refused(
    job: Make, tiny: Make, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="dataset tiny has no item features"):
        train(tiny("model=parallel"), tmp_path / "none")
    with pytest.raises(UserError, match="pooling_mode has no effect: none of the features size"):
        train(job("selected_features=[size]", "pooling_mode=max"), tmp_path / "pool")
    assert not (tmp_path / "none").exists()


def test_a_strategy_with_one_subnet_says_what_it_does(
    job: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        config = job("strategy=residual")
        config.model.name = "concat"
        train(config, tmp_path / "run")
    assert "model=concat has one subnet: strategy=residual trains it as simultaneous" in caplog.text
