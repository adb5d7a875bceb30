"""Sessions from which nothing can be learned, and what a bar says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pandas as pd
import pytest

from p_rnn.data.dataset import Sessions
from p_rnn.runs.experiment import train
from p_rnn.settings.config import Config
from p_rnn.settings.errors import UserError
from p_rnn.tracking import Tracker
from tests.worlds import N, settings, trainer

DAY_S = 86_400


def log(*sessions: tuple[int, list[int]]) -> pd.DataFrame:
    """Of (day, items): an event a minute."""
    rows = [
        (number, item, day * DAY_S + 60 * k)
        for number, (day, items) in enumerate(sessions)
        for k, item in enumerate(items)
    ]
    return pd.DataFrame(rows, columns=["session", "item", "time"])


@pytest.mark.parametrize("batching", ["sequences", "session_parallel"])
def test_training_in_which_no_mini_batch_has_a_negative_is_refused(
    batching: str, tiny: Callable[..., Config], tmp_path: Path
) -> None:
    """Only one training session has two events."""
    some = log((0, [0, 1]), (0, [2]), (5, [0, 1, 2]), (7, [1, 0, 2, 1]))
    some.to_csv(tmp_path / "raw" / "tiny.csv", index=False)
    few = ("dataset.min_session_length=1", "num_negatives=0", f"batching={batching}")
    says = {
        "sequences": r"nothing was learned: none of the 1 mini-batches had more to score than its "
        r"own target \(batch_size=8, num_negatives=0\); give num_negatives=1 or more",
        "session_parallel": "batch_size=8 exceeds the 1 training sessions with two events or more",
    }[batching]
    with pytest.raises(UserError, match=says) as error:
        train(tiny(*few), tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()
    metrics = train(tiny(*few[:1], "batching=sequences", "num_negatives=1"), tmp_path / "run")
    assert metrics["updates"] == 1


@pytest.mark.parametrize("batching", ["sequences", "session_parallel"])
def test_sessions_of_one_event_are_refused(batching: str, tmp_path: Path) -> None:
    items = np.arange(N, dtype=np.int32)
    single = Sessions(items, np.arange(N + 1), np.zeros(N, dtype=np.int64))
    with pytest.raises(UserError, match="no training session has two events"):
        trainer(settings(f"batching={batching}"), tmp_path, data=single)


@pytest.mark.parametrize(("how", "first"), [("auto", ["compiling"]), ("never", [])])
def test_the_bar_says_compiling_until_the_first_update(
    how: str,
    first: list[str],
    tiny: Callable[..., Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []

    def bar(self: Tracker, total: int, unit: str, text: str) -> Any:
        said.append(text)
        shown = MagicMock()
        shown.__enter__.return_value = shown
        shown.set_description_str.side_effect = said.append
        return shown

    monkeypatch.setattr(Tracker, "bar", bar)
    train(tiny(f"compile={how}", "num_epochs=2"), tmp_path / "run")
    assert said == [*first, "epoch 1/2", "epoch 2/2"]
