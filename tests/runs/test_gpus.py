"""One job of a sweep per GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from p_rnn.runs.gpus import device_of_job

JOBLIB = {"_target_": "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"}
LOCAL = {"_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher"}
SLURM = {"_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"}
BASIC = {"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}


@pytest.mark.parametrize(
    ("launcher", "device", "gpus", "expected"),
    [
        ({**JOBLIB, "n_jobs": 4}, "auto", 4, "cuda:1"),
        ({**JOBLIB, "n_jobs": 8}, "cuda", 4, "cuda:1"),
        ({**JOBLIB, "n_jobs": 1}, "auto", 4, "auto"),
        ({**JOBLIB, "n_jobs": 4}, "cpu", 4, "cpu"),
        ({**JOBLIB, "n_jobs": 4}, "cuda:3", 4, "cuda:3"),
        ({**JOBLIB, "n_jobs": 4}, "auto", 1, "auto"),
        ({**JOBLIB, "n_jobs": 4}, "auto", 0, "auto"),
        (LOCAL, "auto", 2, "cuda:1"),
        (SLURM, "auto", 4, "auto"),
        (BASIC, "auto", 4, "auto"),
    ],
)
def test_jobs_beside_each_other_take_the_gpus_in_turn(
    launcher: dict[str, Any],
    device: str,
    gpus: int,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert device_of_job(device, launcher, 5) == expected
