"""Device, threads and versions of a run, and the JSON files of its results."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from p_rnn import distributed
from p_rnn.files import written_whole
from p_rnn.settings.errors import UserError

log = logging.getLogger(__name__)

# Parameters of glibc's mallopt(3): never mmap single blocks, and return memory to the system only
# above this many free bytes. Otherwise each step gets fresh pages for its scores and gradients,
# which costs as much as half of the step.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
KEPT = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 2**26}


def keep_freed_memory() -> None:
    """Let the allocator keep up to 2 GiB of freed memory; does nothing without glibc."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    for parameter, value in KEPT.items():
        mallopt(parameter, value)


def use_device(
    name: str, num_threads: int | None, matmul_precision: str = "highest"
) -> torch.device:
    """The device called `name`, or the best one for "auto"; sets the number of CPU threads.

    Raises:
        UserError: the device is not available, or does not support the precision.
    """
    # Gradients of a softmax are full of denormals (below 1e-38), on which many processors are a
    # hundred times slower. This flushes them to zero in this thread and in threads it creates, so
    # it must come before PyTorch creates any. (For C++ see fast/native/denormals.h.)
    torch.set_flush_denormal(True)
    keep_freed_memory()
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device={name} is not available here; use auto or cpu") from error
    if device.type == "cpu" and matmul_precision != "highest":
        raise UserError(f"matmul_precision={matmul_precision} has no effect on a CPU; leave it out")
    torch.set_float32_matmul_precision(matmul_precision)
    return device


def checkpoint_at(path: Path | str) -> Path:
    """The checkpoint at a path: itself, or what a run tested, if this is the folder of a run."""
    path = Path(path)
    for name in ("checkpoints/final.pt", "checkpoints/best.pt", "final.pt", "best.pt"):
        if path.is_dir() and (path / name).is_file():
            log.info("%s is a folder: reading %s in it", path, name)
            return path / name
    return path


def environment(device: torch.device) -> dict[str, Any]:
    """Versions and machine, stored with the results that were measured on it."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "ranks": distributed.count(),
        "command": sys.argv,
    }


def write_json(path: Path, value: Any) -> None:
    """Write `value` atomically; infinite and NaN values are refused, since JSON has none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")
