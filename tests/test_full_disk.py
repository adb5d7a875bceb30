"""A full disk is one line wherever something is written, and what was there before stays.

A limit of the size of files stands for the disk.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tensorboard.compat.proto.summary_pb2 import Summary

from p_rnn.data.prepare import prepare
from p_rnn.evaluation.evaluator import Ranks
from p_rnn.evaluation.ranks_file import write_ranks
from p_rnn.event_file import EventFile
from p_rnn.files import write_text
from p_rnn.recommend.top_file import writer
from p_rnn.runs.runtime import write_json
from p_rnn.settings.config import Config
from p_rnn.settings.errors import FullDisk
from p_rnn.settings.resolve import resolve
from p_rnn.training.checkpoint import load_checkpoint, save_checkpoint

ROOM = 4096  # bytes that a file may have


@contextmanager
def full(room: int = ROOM) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def ranks() -> Ranks:
    numbers = np.arange(4 * ROOM)
    return Ranks(numbers, numbers, numbers, numbers.astype(np.float64))


def top(path: Path) -> None:
    with writer(path) as write:
        write(pd.DataFrame({"session": np.arange(ROOM), "item": "a"}))


WRITERS: dict[str, Callable[[Path], Any]] = {
    "a.txt": lambda path: write_text(path, "a" * 2 * ROOM),
    "a.json": lambda path: write_json(path, ["a"] * 2 * ROOM),
    "a.npz": lambda path: write_ranks(path, ranks()),
    "a.csv": top,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("before")
    with full(), pytest.raises(FullDisk, match=rf"{path} could not be written; free") as caught:
        WRITERS[name](path)
    assert "\n" not in str(caught.value)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_checkpoint(tmp_path: Path, tiny: Callable[..., Config]) -> None:
    path, config = tmp_path / "checkpoints" / "last.pt", resolve(tiny())
    about = {"dataset": "x", "features": [], "num_items": 3, "with_validation": False}
    save_checkpoint(path, config, {**about, "model": {"x": torch.ones(3)}})
    with full(), pytest.raises(FullDisk, match=f"{path} could not be written"):
        save_checkpoint(path, config, {**about, "model": {"x": torch.ones(ROOM)}})
    assert len(load_checkpoint(path)[1]["model"]["x"]) == 3
    assert list(path.parent.iterdir()) == [path]


def test_curves(tmp_path: Path) -> None:
    def write() -> None:
        file = EventFile(tmp_path)
        point = Summary(value=[Summary.Value(tag="loss" * 100, simple_value=1.0)])
        for step in range(100):
            file.add(point, step)
        file.close()

    with full(), pytest.raises(FullDisk, match=r"tfevents.* could not be written"):
        write()


def test_prepared_data(tiny: Callable[..., Config]) -> None:
    config = tiny()
    with full(1000), pytest.raises(FullDisk, match=r"set paths\.prepared to another disk"):
        prepare(replace(config.dataset, name="full"), config.paths)
    assert not list(Path(config.paths.prepared).iterdir())
