"""Which GPU a job of a sweep takes where a launcher runs several jobs at a time on one machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def device_of_job(device: str, launcher: Mapping[str, Any], number: int) -> str:
    """The device of job `number` of a sweep: cuda:{number % n} on a machine of n GPUs.

    Only where `device` leaves the choice (auto, cuda) and the launcher runs jobs beside each other
    here: joblib, and submitit's local one. A cluster gives each job GPUs of its own.
    """
    beside = launcher.get("n_jobs", 1) != 1 or "LocalLauncher" in str(launcher.get("_target_"))
    count = torch.cuda.device_count() if beside and device in ("auto", "cuda") else 0
    return f"cuda:{number % count}" if count > 1 else device
