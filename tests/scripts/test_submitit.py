"""A sweep whose jobs submitit runs, by its local executor; preempted, they resume."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.running import ROOT

SETTINGS = (
    "dataset.synthetic.num_events=3000",
    "dataset.synthetic.num_items=200",
    "hidden_size=8",
    "num_negatives=16",
    "batch_size=8",
    "num_epochs=40",
    "num_threads=1",
    "tracking.tensorboard=false",
)
LIMIT_S = 300


def tasks(folder: Path) -> list[int]:
    """The processes of submitit's jobs below a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode().split("\0")
        except OSError:
            continue
        if "submitit.core._submit" in words and any(str(folder) in word for word in words):
            found.append(int(path.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="processes are not listed")
def test_preempted_jobs_of_submitit_resume(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs the extra slurm")
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), "-m", "sweep_name=cluster"]
    command += ["hydra/launcher=submitit_local", "seed=1,2", *SETTINGS]
    python = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    sweep = subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": python}
    )
    jobs = [tmp_path / "multirun" / "cluster" / f"seed={seed}" for seed in (1, 2)]
    until = time.monotonic() + LIMIT_S
    while not all(len(epochs(job)) > 2 for job in jobs):
        assert sweep.poll() is None, "it has ended"
        assert time.monotonic() < until
        time.sleep(0.1)
    preempted = tasks(tmp_path)
    assert len(preempted) == 2
    for number in preempted:
        os.kill(number, signal.SIGUSR2)  # what submitit asks Slurm for before a job is taken away
    assert sweep.wait(LIMIT_S) == 0
    for job in jobs:
        assert "resuming from" in (job / "train.log").read_text()
        assert json.loads((job / "metrics.json").read_text())["epochs"] == 40


def epochs(job: Path) -> list[str]:
    """The lines about epochs in the log of a job."""
    try:
        return [line for line in (job / "train.log").read_text().split("\n") if "events/s" in line]
    except OSError:
        return []
