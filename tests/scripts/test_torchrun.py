"""p-rnn train under torchrun: one rank writes, K ranks learn what one learns, one may die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p_rnn import distributed
from p_rnn.__main__ import run
from p_rnn.settings.errors import UserError
from tests.running import ROOT
from tests.worlds import settings

SETTINGS = (
    "dataset.synthetic.num_events=3000",
    "dataset.synthetic.num_items=200",
    "hidden_size=8",
    "num_negatives=16",
    "batch_size=16",
    "compile=never",
)
LIMIT_S = 300


def start(ranks: int, folder: Path, *words: str) -> subprocess.Popen[str]:
    launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={ranks}"]
    return subprocess.Popen(
        [sys.executable, *launcher, str(ROOT / "scripts" / "train.py"), *SETTINGS, *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(ranks: int, folder: Path, *words: str) -> dict[str, Any]:
    process = start(ranks, folder, *words)
    said, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, said
    assert said.count("tested:") == 1
    place = next(word for word in words if word.startswith("hydra.run.dir="))
    metrics: dict[str, Any] = json.loads(
        (folder / place.partition("=")[2] / "metrics.json").read_text()
    )
    return metrics


@pytest.mark.slow
def test_two_ranks_train_what_one_trains_and_resume_with_another_number(tmp_path: Path) -> None:
    one = finish(1, tmp_path, "num_epochs=3", "hydra.run.dir=one")
    two = finish(2, tmp_path, "num_epochs=3", "hydra.run.dir=two")
    finish(2, tmp_path, "num_epochs=2", "hydra.run.dir=half")
    last = "resume=half/checkpoints/last.pt"
    on = finish(1, tmp_path, "num_epochs=3", "hydra.run.dir=on", last)
    assert [made["environment"]["ranks"] for made in (one, two, on)] == [1, 2, 1]
    for made in (two, on):
        for here, there in zip(made["history"], one["history"], strict=True):
            np.testing.assert_allclose(here["loss"], there["loss"], rtol=1e-4)
            assert here["events"] == there["events"]
        assert made["test"].keys() == one["test"].keys()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "half", "on", "one", "two"]
    assert len(list((tmp_path / "two").glob("events.out.tfevents.*"))) == 1


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are not listed")
def test_no_rank_hangs_when_another_one_dies(tmp_path: Path) -> None:
    process = start(2, tmp_path, "num_epochs=1000", "hydra.run.dir=run")
    until = time.monotonic() + LIMIT_S
    log = tmp_path / "run" / "train.log"
    while not (log.exists() and "epoch 2/1000" in log.read_text()):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.1)
    ranks = sorted(
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/stat")
        if int(path.read_text().rpartition(")")[2].split()[1]) == process.pid
    )
    os.kill(ranks[-1], signal.SIGKILL)
    said, _ = process.communicate(timeout=60)
    assert process.returncode != 0, said
    assert not any(Path(f"/proc/{number}").exists() for number in ranks)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train", "-m", "seed=1,2"], "torchrun trains one model, not a sweep"),
        (["search"], "torchrun is for p-rnn train"),
    ],
)
@pytest.mark.parametrize("rank", [0, 1])
def test_what_does_not_run_in_ranks_is_refused_by_rank_0(
    words: list[str],
    says: str,
    rank: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("p_rnn.commands.one_speaks.PATIENCE_S", 0)
    for name, value in {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "1")
    with pytest.raises(SystemExit) as error:
        run(words[0], words[1:], "p-rnn")
    assert error.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert (len(lines) == 1 and says in lines[0]) if rank == 0 else not lines


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("batch_size=3", "batch_size=3 cannot be divided among 2 ranks; make it a multiple of 2"),
        ("batching=sequences", "batching=sequences cannot be divided among ranks"),
        ("compile=graph", "compile=graph cannot exchange gradients"),
    ],
)
def test_settings_that_cannot_be_divided_are_refused(word: str, says: str) -> None:
    words = [word] if word.startswith("batch_size") else [word, "batch_size=4"]
    with pytest.raises(UserError, match=says) as error:
        distributed.check(settings(*words), 2)
    assert "\n" not in str(error.value)
