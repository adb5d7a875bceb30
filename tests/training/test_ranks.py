"""K ranks of B / K slots learn what one rank of B slots learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p_rnn import distributed
from p_rnn.data.dataset import Sessions
from p_rnn.evaluation.evaluator import EvaluationProtocol, evaluate
from tests.training.two_ranks import in_ranks
from tests.worlds import N, sessions, settings, trainer, weights

ALIKE = {"rtol": 2e-4, "atol": 2e-6}


def train(words: tuple[str, ...], folder: str, passes: int, data: Sessions) -> dict[str, Any]:
    config = settings(*words)
    distributed.join(config)
    made, recorder = trainer(config, Path(folder), data=data)
    done = [made.run_pass(k) for k in range(passes)]
    distributed.check_equal(made.network.parameters())
    protocol = EvaluationProtocol(N, data.support(N), config.evaluation)
    ranks = evaluate(made.kept.ranker(), data, protocol, lists=True)
    assert ranks.listed is not None
    return {
        "losses": recorder.losses,
        "events": [each.events for each in done],
        "loss": [each.loss for each in done],
        "weights": weights(made.network),
        "route": made.fast.route,
        "ranks": ranks.rank,
        "listed": list(ranks.listed.values()),
    }


CASES = {
    "ids": ("model=id_only", "loss=cross_entropy", "compile=never"),
    "features": (
        "model=parallel",
        "strategy=alternating",
        "loss=bpr_max",
        "dropout_hidden=0.2",
        "dropout_embedding=0.2",
        "clip_norm=0.5",
        "compile=never",
    ),
    "compiled": ("model=concat", "loss=cross_entropy", "dropout_hidden=0.2", "compile=auto"),
}


def check(words: tuple[str, ...], tmp_path: Path, passes: int, data: Sessions) -> int:
    """Compare two ranks with one; returns the number of updates."""
    words = ("batch_size=4", "learning_rate=0.05", "num_epochs=50", *words)
    alone = train(words, str(tmp_path), passes, data)
    both = in_ranks(2, train, words, str(tmp_path), passes, data)
    for found in both:
        assert found["events"] == alone["events"]
        assert found["route"] == alone["route"]
        np.testing.assert_allclose(found["losses"], alone["losses"], **ALIKE)
        np.testing.assert_allclose(found["loss"], alone["loss"], **ALIKE)
        for name, value in alone["weights"].items():
            np.testing.assert_allclose(found["weights"][name], value, **ALIKE, err_msg=name)
    for name, value in both[0]["weights"].items():
        np.testing.assert_array_equal(value, both[1]["weights"][name])
    np.testing.assert_array_equal(both[0]["ranks"], both[1]["ranks"])
    assert len(both[0]["ranks"]) == len(alone["ranks"])
    for mine, other in zip(both[0]["listed"], both[1]["listed"], strict=True):
        np.testing.assert_array_equal(mine, other)
    return len(alone["losses"])


def test_two_ranks_learn_what_one_learns(tmp_path: Path) -> None:
    check(CASES["features"], tmp_path, 1, sessions())


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["simultaneous", "alternating", "residual"])
@pytest.mark.parametrize("case", CASES)
def test_two_ranks_learn_what_one_learns_in_200_steps(
    case: str, strategy: str, tmp_path: Path
) -> None:
    data = sessions(count=180)
    given = [word for word in CASES[case] if not word.startswith("strategy=")]
    assert check((*given, f"strategy={strategy}"), tmp_path, 2, data) >= 200
