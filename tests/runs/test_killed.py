"""Real processes that are killed, and sweeps that lose jobs."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from p_rnn.training.strategies import STRATEGIES
from tests.conftest import TINY, random_log
from tests.running import ROOT, _run, run_script, start_server

PLUGIN = """
import os, resource, signal
from pathlib import Path
import torch
from hydra.core.hydra_config import HydraConfig
from p_rnn.runs import saving
from p_rnn.runs.saving import Saver

saving.LEAST = 0  # checkpoints may cost what they like
number, calls, look = HydraConfig.get().job.num, [0], Saver._look

def _look(saver):
    look(saver)
    calls[0] += 1
    mark = Path(f"mark{number}")
    if calls[0] < 30 or mark.exists() or number not in (KILLED + BIG):
        return
    mark.touch()
    if number in KILLED:
        os.kill(os.getpid(), signal.SIGKILL)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + 10**8,) * 2)
    torch.zeros(10**9)

Saver._look = _look
"""
WHOLE = ("test", "updates", "updates_of_subnets", "best_epoch", "best_epochs_of_stages")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A working directory with raw data."""
    (tmp_path / "raw").mkdir()
    random_log(seed=1).to_csv(tmp_path / "raw" / "tiny.csv", index=False)
    table = pd.DataFrame({"item": range(30), "tags": [f"t{k % 4} t{4 + k % 3}" for k in range(30)]})
    table.to_csv(tmp_path / "raw" / "items.csv", index=False)
    return tmp_path


def sweep_of(
    place: Path, jobs: int, killed: list[int], big: list[int], *more: str
) -> tuple[int, str]:
    """Exit status and output of a sweep in which some jobs are killed or need too much memory."""
    text = PLUGIN.replace("KILLED", str(killed)).replace("BIG", str(big))
    (place / "killer.py").write_text(text)
    seeds = ",".join(map(str, range(jobs)))
    words = ["-m", *TINY, "plugins=[killer]", "num_epochs=2", "sweep_name=s", f"seed={seeds}"]
    words += ["checkpoint_minutes=0.0001", "tracking.tensorboard=false", *more]
    if more:  # in a new interpreter, at whose end joblib ends its processes
        process = start(place, *words)
        said = process.communicate(timeout=900)[0]
        return process.returncode, said
    done = run_script("train", place, *words, raw=place / "raw")
    return done.returncode, done.stdout + done.stderr


def check_sweep(place: Path, jobs: int, killed: list[int], big: list[int], *more: str) -> None:
    status, said = sweep_of(place, jobs, killed, big, *more)
    assert status == 2, said
    assert f"{len(killed + big)} jobs of the sweep failed" in said
    for number in killed:
        assert f"seed={number}: killed by SIGKILL" in said
    for number in big:
        assert f"seed={number}: out of memory" in said
    assert "Traceback" not in said
    folder = place / "multirun" / "s"
    assert len(list(folder.glob("*/metrics.json"))) == jobs - len(killed + big)
    assert (folder / "report" / "table.csv").exists()
    status, said = sweep_of(place, jobs, killed, big, *more)
    assert status == 0, said
    assert len(list(folder.glob("*/metrics.json"))) == jobs
    assert said.count("resuming from") == len(killed + big)
    assert not [*folder.rglob(".lock"), *folder.rglob("error.txt")]


@pytest.mark.slow
def test_a_sweep_goes_on_without_the_jobs_that_are_killed_or_too_large(place: Path) -> None:
    check_sweep(place, 3, [0], [1])


@pytest.mark.slow
def test_a_parallel_sweep_goes_on_without_them(place: Path) -> None:
    pytest.importorskip("joblib")
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    more = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=4"]
    check_sweep(place, 24, [3, 10], [16], *more)


@pytest.mark.slow
def test_a_killed_process_of_the_launcher_is_named(place: Path) -> None:
    """And the same command completes the sweep."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    words = ["-m", *TINY, "num_epochs=3", "sweep_name=s", "seed=0,1,2,3,4,5"]
    words += ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "tracking.tensorboard=false"]
    process = start(place, *words)
    locks = wait_for(lambda: list((place / "multirun").rglob(".lock")), process)
    job = int(locks[0].read_text().split()[1])
    worker = int(Path(f"/proc/{job}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(worker, signal.SIGKILL)
    said = process.communicate(timeout=200)[0]
    assert process.returncode == 2
    assert "a process of the launcher was killed" in said
    assert "repeat the command" in said
    assert "Traceback" not in said
    again = start(place, *words)
    said = again.communicate(timeout=200)[0]
    assert again.returncode == 0, said
    assert len(list(place.rglob("metrics.json"))) == 6


@pytest.mark.slow
def test_a_parallel_sweep_that_gets_sigterm_saves_the_state_of_its_jobs(place: Path) -> None:
    """And the same command, started twice at the same time, completes it."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    words = ["-m", *TINY, "num_epochs=50", "sweep_name=s", "seed=0,1,2"]
    words += ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "tracking.tensorboard=false"]
    process = start(place, *words)
    wait_for(lambda: len(list(place.rglob("best.pt"))) == 2, process)
    process.terminate()
    said = process.communicate(timeout=200)[0]
    assert process.returncode == 143, said
    assert "to continue, repeat the command\n" in said
    assert "Traceback" not in said
    assert not list(place.rglob(".lock"))
    both = [start(place, *words), start(place, *words)]
    said = "".join(each.communicate(timeout=600)[0] for each in both)
    assert [each.returncode for each in both] == [0, 0], said
    assert "left out: " in " ".join(said.split())  # lines are wrapped
    assert said.count("resuming from") == 2
    assert len(list(place.rglob("metrics.json"))) == 3
    assert "Traceback" not in said


def start(place: Path, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{place}"}
    environment["P_RNN_RAW_DATA"] = str(place / "raw")
    return subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "train.py"), *words],
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(find: Any, process: subprocess.Popen[str]) -> Any:
    """What `find` returns, as soon as it is something."""
    while process.poll() is None:
        if found := find():
            return found
        time.sleep(0.01)
    raise AssertionError(process.communicate()[0])


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_run_killed_at_20_moments_ends_as_if_it_had_not_been(strategy: str, place: Path) -> None:
    """Each time by SIGKILL, at a random moment, and resumed by the same command."""
    words = [*TINY, "model=parallel", "dataset.item_table.path=items.csv", "num_epochs=12"]
    words += [f"strategy={strategy}", "dropout_prob=0.2", "optimizer.momentum=0.1", "ema=0.9"]
    words += ["train_on_validation=true", "checkpoint_minutes=0.0005", "batch_size=4"]
    words += ["plugins=[often]"]
    (place / "often.py").write_text("from p_rnn.runs import saving\nsaving.LEAST = 0\n")
    words += ["dataset.features.tags.kind=tags", "tracking.tensorboard=false"]
    whole = quick(place, *words, "hydra.run.dir=whole")
    whole.join(600)
    assert whole.exitcode == 0, (place / "said").read_text()
    took = json.loads((place / "whole" / "metrics.json").read_text())["seconds"]["total"]
    rng, killed, ends, inside, early = random.Random(strategy), 0, 0, 0, 0
    state = place / "part" / "checkpoints" / "last.pt"
    while killed < 20:
        before, until = changed(state), time.monotonic() + 60
        process = quick(place, *words, "hydra.run.dir=part")
        # One in five while it reads the data or resumes; the others after it has begun to train.
        waits = rng.random() > 0.2
        while waits and process.is_alive() and time.monotonic() < until:
            if changed(state) != before:
                break
            time.sleep(0.002)
        process.join(rng.uniform(0, took / 8))
        process.kill()
        process.join()
        if process.exitcode == 0:  # it got to its end: once more, from nothing
            same(place / "whole", place / "part")
            ends += 1
            (place / "part").rename(place / f"done{ends}")
            continue
        assert process.exitcode == -signal.SIGKILL, (place / "said").read_text()
        killed += 1
        early += not state.exists()
        inside += state.exists() and "batches" in torch.load(state, weights_only=True)["underway"]
    last = quick(place, *words, "hydra.run.dir=part")
    last.join(600)
    assert last.exitcode == 0, (place / "said").read_text()
    same(place / "whole", place / "part")
    print(f"{strategy}: {killed} kills, {inside} inside an epoch, {early} before any training")


def quick(place: Path, *words: str) -> Any:
    """A process that is forked from one that has imported PyTorch."""
    command = [str(ROOT / "scripts" / "train.py"), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "P_RNN_RAW_DATA": str(place / "raw")}
    said = [place / "said", place / "said"]
    process = start_server().Process(target=_run, args=(command, place, environment, said))  # type: ignore[attr-defined]
    process.start()
    return process


def changed(path: Path) -> int:
    """When a file was written; 0 if it is not there."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def same(a: Path, b: Path) -> None:
    """Two runs ended bit for bit alike."""
    then, now = (json.loads((folder / "metrics.json").read_text()) for folder in (a, b))
    for key in WHOLE:
        assert now[key] == then[key], key
    for name in ("best", "last", "final"):
        x, y = (
            torch.load(folder / "checkpoints" / f"{name}.pt", weights_only=True)["model"]
            for folder in (a, b)
        )
        assert all(torch.equal(x[key], y[key]) for key in x), name
