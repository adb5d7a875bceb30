"""How much memory there is, so that what cannot fit is refused before it is allocated."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from p_rnn.settings.errors import UserError

if TYPE_CHECKING:  # PyTorch takes seconds to import, and 0.2 GB
    import torch

CGROUPS, OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def available(device: torch.device | str = "cpu") -> float:
    """Bytes that can still be allocated on a device; infinity where the system does not say."""
    kind = str(device).partition(":")[0]
    if kind == "cuda":
        import torch

        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + kept)
    return min(_of_machine(), _of_group()) if kind == "cpu" else math.inf


def require(
    needed: Mapping[str, float], mend: str, device: torch.device | str = "cpu", more: str = ""
) -> None:
    """Refuse what needs more memory than there is.

    Args:
        needed: bytes of each part, by its name; a lower bound, so that nothing is refused that
            could run.
        mend: the setting to blame, and what to do. `more`: a remark on the largest part.

    Raises:
        UserError: all parts together do not fit.
    """
    total, there = sum(needed.values()), available(device)
    if total <= there:
        return
    parts = [f"{name} {in_bytes(size)}" for name, size in needed.items() if size > 0.01 * total]
    what = f"{', '.join(parts)}{more}" if len(parts) > 1 or more else parts[0]
    where = "of the GPU " if str(device).startswith("cuda") else ""
    raise UserError(f"not enough memory: {what}; {in_bytes(there)} {where}are free; {mend}")


def in_bytes(count: float) -> str:
    """1536 as 1.5 KiB."""
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            return f"{count:,.{0 if unit == 'bytes' or count >= 100 else 1}f} {unit}"
        count /= 1024
    raise AssertionError


def _of_machine() -> float:
    """MemAvailable and free swap; infinity without /proc."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        kib = {line.split(":")[0]: int(line.split()[1]) for line in lines}
        if "MemAvailable" in kib:
            return 1024.0 * (kib["MemAvailable"] + kib.get("SwapFree", 0))
    return math.inf


def _of_group() -> float:
    """What the control groups of the process (a container, a job of Slurm) still allow."""
    left = [math.inf]
    with contextlib.suppress(OSError, ValueError):
        for line in OWN_GROUPS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":  # version 2
                top, limit, use, caches = CGROUPS, "memory.max", "memory.current", ""
            elif controllers == "memory":  # version 1
                top, limit, use = CGROUPS / "memory", "limit_in_bytes", "usage_in_bytes"
                limit, use, caches = f"memory.{limit}", f"memory.{use}", "total_"
            else:
                continue
            own = top / path.strip("/")
            for group in (own, *own.parents):
                if group.is_relative_to(top):
                    left.append(_left_of(group, limit, use, caches))
    return min(left)


def _left_of(group: Path, limit: str, use: str, caches: str) -> float:
    """The limit of a group minus its use, in which files that are only cached do not count."""
    try:
        most, used = int((group / limit).read_text()), int((group / use).read_text())
        lines = (group / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):  # no such file, or the limit "max"
        return math.inf
    stat = dict(line.split() for line in lines)
    cached = sum(int(stat.get(f"{caches}{kind}_file", 0)) for kind in ("active", "inactive"))
    return max(most - used + cached, 0)
