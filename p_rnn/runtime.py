"""The machine under a run: device, threads, versions, and files written whole."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from p_rnn.errors import UserError


def use_device(name: str, num_threads: int | None) -> torch.device:
    """The device called `name`, or the best one for "auto"; sets the number of CPU threads.

    Raises:
        UserError: no such device here.
    """
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device={name} is not available here; use auto or cpu") from error
    return device


def environment(device: torch.device) -> dict[str, Any]:
    """Versions and machine, to be stored with the figures that were measured on it."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "command": sys.argv,
    }


def write_json(path: Path, value: Any) -> None:
    """Write whole or not at all; infinite or NaN values are refused, since JSON has none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")
    temporary.replace(path)
