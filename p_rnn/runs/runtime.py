"""The machine under a run: device, threads, versions, and the JSON files of its results."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from p_rnn.files import written_whole
from p_rnn.settings.errors import UserError

# Of glibc's mallopt(3): map no block on its own, and return memory to the system only above so many
# free bytes. Otherwise each step gets the pages of its scores and gradients anew, which costs as
# much as half of the step.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
KEPT = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 2**26}


def keep_freed_memory() -> None:
    """Have the allocator keep up to 2 GiB of freed memory; nothing happens without glibc."""
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
        UserError: no such device here, or a precision that it does not have.
    """
    # Gradients of a softmax are full of numbers below 1e-38, for each of which many processors take
    # a hundred times as long; from now on they are zero, in this thread and in those that it makes,
    # so this comes before any of PyTorch's. (In C++, fast/native/denormals.h does it.)
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
    """Write `value` atomically; infinite and NaN values are refused, since JSON has none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")
