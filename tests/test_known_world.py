"""On the embedded world the right answer is known: how near does GRU4Rec come, and to what."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p_rnn.batches.session_parallel import StepBlock, blocks_of
from p_rnn.runs.experiment import train
from p_rnn.settings.hydra_glue import load_config

# Half of the default world's items and epochs, and fewer negatives: seconds instead of a minute.
SMALL = (
    "dataset.synthetic.num_items=5000",
    "dataset.synthetic.num_events=100000",
    "loss=cross_entropy",
    "loss.logq=1",
    "num_negatives=256",
    "learning_rate=0.1",
    "num_epochs=5",
    "tracking.progress=false",
    "tracking.tensorboard=false",
    "device=cpu",
)


@pytest.fixture(scope="module")
def recall(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, float]]:
    """Test recall@20 of every ranker of a job; the same job runs once."""
    place = tmp_path_factory.mktemp("world")

    @cache
    def run(name: str) -> dict[str, float]:
        config = load_config(*SMALL, f"paths.prepared={place / 'prepared'}")
        table: dict[str, Any] = train(config, place / name)["results"]["test"]
        return {ranker: result["metrics"]["recall@20"] for ranker, result in table.items()}

    return run


def test_gru4rec_comes_near_the_best_possible(recall: Callable[..., dict[str, float]]) -> None:
    found = recall("normal")
    assert found["id_only"] > 0.7 * found["best possible"]
    assert found["id_only"] > 1.05 * found["first order"]
    assert found["first order"] < 0.75 * found["best possible"]
    # The Bayesian filter is the best in expectation: above it there is only luck.
    assert found["id_only"] < found["best possible"]


@pytest.mark.slow
def test_a_state_that_is_never_reset_loses(
    recall: Callable[..., dict[str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    normal = recall("normal")["id_only"]

    def without_reset(*arguments: Any) -> Iterator[StepBlock]:
        for block in blocks_of(*arguments):
            yield replace(block, first=np.zeros_like(block.first))

    monkeypatch.setattr("p_rnn.batches.session_parallel.blocks_of", without_reset)
    assert recall("without reset")["id_only"] < 0.95 * normal


def test_oracles_stand_aside_where_they_would_not_be_exact(tmp_path: Path) -> None:
    few = ("dataset.synthetic.num_items=500", "dataset.synthetic.num_events=10000", "num_epochs=1")
    filtered = ("dataset.min_item_support=5", f"paths.prepared={tmp_path}")
    table = train(load_config(*SMALL, *few, *filtered), tmp_path / "run")["results"]["test"]
    assert "pop" in table
    assert "best possible" not in table
