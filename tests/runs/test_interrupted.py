"""Runs that are interrupted inside of epochs go on bit for bit, and say where they are."""

from __future__ import annotations

import os
import platform
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from p_rnn.commands.errors import how_to_go_on
from p_rnn.runs import jobs as jobs_module
from p_rnn.runs import saving
from p_rnn.runs.experiment import train
from p_rnn.runs.interruption import Interrupted
from p_rnn.runs.locks import LOCK, _held, holder, locked, was_killed
from p_rnn.runs.saving import Saver
from p_rnn.runs.sweeps import RememberSweep, run_job
from p_rnn.settings.config import Config
from p_rnn.settings.errors import UserError
from p_rnn.training.strategies import STRATEGIES
from tests.runs.test_stages import Stop, assert_equal, weights, without_clocks
from tests.worlds import settings, trainer

Make = Callable[..., Config]
# Whatever a run remembers between two mini-batches.
SETTINGS = (
    "num_epochs=2",
    "batch_size=30",
    "learning_rate=0.3",
    "optimizer.momentum=0.2",
    "schedule=cosine",
    "shuffle=true",
    "ema=0.9",
    "tracking.log_every=7",
    "tracking.tensorboard=false",
    "evaluation.baselines=[]",
    "early_stopping.patience=1",
)


def stopping(monkeypatch: pytest.MonkeyPatch, after: list[int]) -> list[int]:
    """Have runs save and stop after these numbers of mini-batches, run by run; counts all."""
    count = [0]

    def look(saver: Saver) -> None:
        count[0] += 1
        if after and count[0] == after[0]:
            del after[0]
            count[0] = 0
            saver.save()
            raise Stop

    monkeypatch.setattr(Saver, "_look", look)
    return count


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_run_stopped_inside_of_epochs_goes_on_bit_for_bit(
    strategy: str, job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an epoch; once also in the training on both splits."""
    final = strategy == "residual"
    words = [*SETTINGS, f"strategy={strategy}", f"train_on_validation={str(final).lower()}"]
    count = stopping(monkeypatch, [])
    whole = train(job(*words), tmp_path / "whole")
    total = count[0]
    stops = [total // 3, total // 2] if final else [total // 2]
    stopping(monkeypatch, stops)
    resume: list[str] = []
    for number in range(len(stops) + 1):
        folder = tmp_path / f"part{number}"
        try:
            again = train(job(*words, *resume), folder)
        except Stop:
            resume = [f"resume={folder / 'checkpoints' / 'last.pt'}"]
    assert not stops
    for name in ("last", "best", *(["final"] if final else [])):
        assert_equal(weights(tmp_path / "whole", name), weights(folder, name))
    for key in ("test", "updates", "updates_of_subnets", "best_epochs_of_stages"):
        assert again[key] == whole[key], key
    assert without_clocks(again) == without_clocks(whole)
    assert not list(folder.rglob("final_last.pt"))


QUICK = ("num_epochs=2", "tracking.tensorboard=false", "evaluation.baselines=[]")


@pytest.mark.parametrize(
    ("number", "place"), [(signal.SIGTERM, "a mini-batch"), (signal.SIGINT, "validation")]
)
def test_a_signal_leaves_a_checkpoint_from_which_the_same_job_goes_on(
    number: int, place: str, tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it comes after the last mini-batch of an epoch."""
    whole = run_job(tiny(*QUICK), tmp_path / "whole")
    what, count = (Saver, "_look") if place == "a mini-batch" else (jobs_module, "evaluate"), [0]
    before = getattr(*what)

    def kill(*arguments: Any) -> Any:
        count[0] += 1
        if count[0] == (30 if place == "a mini-batch" else 1):
            os.kill(os.getpid(), number)
        return before(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(*what, kill)
        with pytest.raises(Interrupted) as raised:
            run_job(tiny(*QUICK), tmp_path / "part")
    assert raised.value.status == {signal.SIGTERM: 143, signal.SIGINT: 130}[number]
    assert raised.value.folder == tmp_path / "part"
    underway = weights(tmp_path / "part")["underway"]
    assert underway.get("batches", 30) == 30
    assert ("batches" in underway) == (place == "a mini-batch")
    assert underway["pass"] == 0
    assert not (tmp_path / "part" / LOCK).exists()
    again = run_job(tiny(*QUICK), tmp_path / "part")
    assert_equal(weights(tmp_path / "whole"), weights(tmp_path / "part"))
    assert again["test"] == whole["test"]
    assert without_clocks(again) == without_clocks(whole)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_checkpoints_inside_of_epochs_are_written_by_the_clock(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every checkpoint_minutes, and so rarely that writing takes at most two hundredths."""
    now, takes, inside = [0.0], [0], list[int]()
    write = saving.save_checkpoint

    def saved(path: Path, config: Any, content: dict[str, Any]) -> None:
        write(path, config, content)
        now[0] += takes[0]
        if content["underway"]:
            inside.append(content["underway"]["batches"])

    look = Saver._look

    def slow(saver: Saver) -> None:
        now[0] += 1.0
        look(saver)

    monkeypatch.setattr(saving.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(saving, "save_checkpoint", saved)
    monkeypatch.setattr(Saver, "_look", slow)
    found = {}
    for name, cost, minutes in (("often", 0, "0.5"), ("dear", 1, "0.5"), ("never", 0, "null")):
        inside.clear()
        takes[0] = cost
        train(tiny(*QUICK, "num_epochs=1", f"checkpoint_minutes={minutes}"), tmp_path / name)
        found[name] = inside[:2]
    assert found == {"often": [30, 60], "dear": [50], "never": []}


def test_a_diverged_state_replaces_no_good_one(tiny: Make, tmp_path: Path) -> None:
    made, _ = trainer(settings(), tmp_path)
    made.run_pass(0)

    def spoil() -> None:
        made._points.append(torch.tensor(float("nan")))
        made.position()

    with pytest.raises(UserError, match="the loss became nan"):
        made.run_pass(1, spoil)


def test_one_folder_has_one_process(tiny: Make, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    assert holder(folder) is None
    with locked(folder):
        assert holder(folder) == f"process {os.getpid()} on {platform.node()}"
        with locked(folder):  # its own
            assert not was_killed(folder)
        _held.clear()  # as if this were another process
        with pytest.raises(UserError, match=f"{folder} is in use by process {os.getpid()} on"):
            run_job(tiny(*QUICK), folder)
    assert not folder.exists()
    folder.mkdir()
    (folder / LOCK).write_text("process 1 on elsewhere\n")
    assert was_killed(folder)
    with locked(folder):  # what the dead left holds nothing
        assert not was_killed(folder)
    assert not (folder / LOCK).exists()


def test_what_interrupted_commands_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    last = tmp_path / "outputs" / "a=b" / "checkpoints" / "last.pt"
    error = Interrupted(signal.SIGTERM, last.parents[1])

    def said(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["p-rnn train", *words])
        return how_to_go_on(error)

    assert said() == "interrupted; to continue, repeat the command"
    last.parent.mkdir(parents=True)
    last.touch()
    there = "outputs/a=b/checkpoints/last.pt"
    assert said().endswith(f"repeat the command with resume=\"'{there}'\"")
    own = f"interrupted; the state is in {there}; to continue, repeat the command"
    assert said("hydra.run.dir=outputs/a=b") == own
    monkeypatch.setattr(RememberSweep, "folder", tmp_path / "multirun" / "s")
    assert said("-m", "seed=1,2") == f"{own} with sweep_name=s"
    assert said("-m", "seed=1,2", "sweep_name=s") == own
