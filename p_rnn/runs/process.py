"""What the commands set for their process before PyTorch is imported; imports set nothing."""

from __future__ import annotations

import os
import time
from pathlib import Path

SAMPLE_S = 0.05


def _busy_share() -> float:
    """The share of the cores that other processes use just now; 0 where the system does not say."""

    def ticks() -> list[int]:
        first = Path("/proc/stat").read_text().partition("\n")[0]
        return [int(word) for word in first.split()[1:9]]

    try:
        before = ticks()
        time.sleep(SAMPLE_S)
        spent = [b - a for a, b in zip(before, ticks(), strict=True)]
    except (OSError, ValueError):
        return 0.0
    return 1 - (spent[3] + spent[4]) / max(sum(spent), 1)  # idle, and idle with work for a disk


def spin_less() -> None:
    """Have OpenMP's threads wait as is best beside others, unless the environment says how."""
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        os.environ["GOMP_SPINCOUNT"] = "1000"


def prepare_process() -> None:
    """How OpenMP's threads wait, and large pages; nothing that the environment sets already.

    Threads that wait for each other spin for milliseconds before they sleep; PyTorch's OpenMP reads
    how long when it is loaded. That is fast for a job that has the cores to itself, but of jobs
    that share them it takes the cores from the others' working threads, so a job that starts beside
    others spins less (docs/speed.md).
    """
    if _busy_share() > 0.3:
        spin_less()
    # Large pages for large tensors, where the system grants them on request: rows of a table lie
    # far apart, and each would need an entry of its own in the processor's list of pages.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
