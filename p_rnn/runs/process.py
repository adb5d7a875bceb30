"""Process settings that the commands make before importing PyTorch; importing p_rnn makes none."""

from __future__ import annotations

import os
import time
from pathlib import Path

SAMPLE_S = 0.05
TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def _busy_share() -> float:
    """The share of the cores in use by other processes; 0 if the system does not report it."""

    def ticks() -> list[int]:
        first = Path("/proc/stat").read_text().partition("\n")[0]
        return [int(word) for word in first.split()[1:9]]

    try:
        before = ticks()
        time.sleep(SAMPLE_S)
        spent = [b - a for a, b in zip(before, ticks(), strict=True)]
    except (OSError, ValueError):
        return 0.0
    return 1 - (spent[3] + spent[4]) / max(sum(spent), 1)  # idle, and waiting for a disk


def spin_less() -> None:
    """Let waiting OpenMP threads spin less, as suits shared cores; the environment has priority."""
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        os.environ["GOMP_SPINCOUNT"] = "1000"


def prepare_process() -> None:
    """Set how OpenMP threads wait, and large pages, unless the environment already sets them.

    Threads that wait for each other spin for milliseconds before they sleep; PyTorch's OpenMP reads
    how long when it is loaded. That is fast for a job that has the cores to itself, but jobs that
    share cores take them from each other's working threads. So a job that starts while others are
    running spins less (docs/speed.md).
    """
    if _busy_share() > 0.3:
        spin_less()
    # Large pages for large tensors, if the system grants them on request: rows of a table are far
    # apart, and with small pages each needs its own TLB entry.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def ranks_asked() -> tuple[int, int]:
    """(rank, number of ranks) as torchrun says in the environment; (0, 1) without it."""
    if not all(os.environ.get(name) for name in TORCHRUN):
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
