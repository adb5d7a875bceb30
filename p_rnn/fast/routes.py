"""A file that remembers which route was the fastest, per machine and shapes."""

from __future__ import annotations

import json
import platform
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import torch

from p_rnn.batches import Batch
from p_rnn.fast.native import private_folder
from p_rnn.files import written_whole
from p_rnn.training.step import Update


@lru_cache(maxsize=1)
def processor() -> str:
    """The model name of the CPU, as the system reports it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def key_of(update: Update, batch: Batch) -> str:
    """What the time of a step depends on: processor, threads, versions, shapes, loss."""
    network = update.network
    shapes = sorted(str(tuple(p.shape)) for p in network.parameters())
    items = None if batch.items is None else len(batch.items)
    parts = (
        processor(),
        torch.get_num_threads(),
        torch.__version__,
        len(batch.targets),
        items,
        bool(batch.widths),
        type(network.merge).__name__,
        type(update.optimizer).__name__,
        getattr(getattr(update.loss, "func", update.loss), "__name__", ""),
        *shapes,
    )
    return " | ".join(map(str, parts))


def _file() -> Path | None:
    folder = private_folder()
    return None if folder is None else folder / "routes.json"


def _read(path: Path) -> dict[str, str]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def known(key: str) -> str | None:
    """The remembered route of a key, or None."""
    path = _file()
    return None if path is None else _read(path).get(key)


def keep(key: str, route: str) -> None:
    """Remember a route; does nothing if the file cannot be written."""
    path = _file()
    if path is None:
        return
    with suppress(OSError), written_whole(path) as temporary:
        temporary.write_text(json.dumps({**_read(path), key: route}, indent=1) + "\n")
