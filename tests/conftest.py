"""Shared by all tests: settings composed as the scripts do, and small event logs."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from p_rnn.settings.config import Config
from p_rnn.settings.sections import PathsConfig, TrackingConfig
from p_rnn.tracking import Tracker
from tests.composed import composed

# One thread: tests are small, and a fixed order of additions makes them repeatable anywhere.
torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests marked as slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow; --slow runs it"))


@pytest.fixture(autouse=True)
def denormals() -> None:
    """Each test begins with denormal numbers, which a run flushes to zero in its process."""
    torch.set_flush_denormal(False)


def random_log(
    seed: int, num_sessions: int = 200, num_items: int = 30, days: float = 10
) -> pd.DataFrame:
    """Columns session, item, time: sessions of 1 to 12 events that walk through the items."""
    rng = np.random.default_rng(seed)
    start = np.sort(rng.integers(0, int(days * 86_400), num_sessions))
    rows = []
    for session in range(num_sessions):
        item = int(rng.integers(num_items))
        for position in range(int(rng.integers(1, 13))):
            rows.append((session, item, int(start[session]) + 30 * position))
            item = (item + int(rng.integers(1, 4))) % num_items
    return pd.DataFrame(rows, columns=["session", "item", "time"])


class Recorder(Tracker):
    """Keeps the loss of every update."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, TrackingConfig(log_every=1, tensorboard=False, progress=False))
        self.losses: list[float] = []

    def scalar(self, name: str, value: float, step: int) -> None:
        if name == "train/loss":
            self.losses.append(value)


TINY = (
    "dataset=table",
    "dataset.name=tiny",
    "dataset.path=tiny.csv",
    "dataset.min_item_support=1",
    "dataset.test_days=2",
    "hidden_size=8",
    "batch_size=8",
    "num_negatives=16",
    "num_epochs=1",
    "tracking.progress=false",
    "tracking.log_every=5",
    "device=cpu",
)


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., Config]:
    """A function from overrides to the settings of a small job on a random log in tmp_path."""
    raw = tmp_path / "raw"
    raw.mkdir()
    random_log(seed=1).to_csv(raw / "tiny.csv", index=False)

    def make(*overrides: str) -> Config:
        paths = PathsConfig(str(raw), str(tmp_path / "prepared"))
        return replace(composed(*TINY, *overrides), paths=paths)

    return make


@pytest.fixture(scope="session")
def raw_data() -> Path:
    """The folder of real raw data, where the environment names one."""
    if "P_RNN_RAW_DATA" not in os.environ:
        pytest.skip("P_RNN_RAW_DATA is not set: tests on real data do not run")
    return Path(os.environ["P_RNN_RAW_DATA"])
