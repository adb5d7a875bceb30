"""The paired bootstrap and Holm's correction against hand-worked cases and known distributions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p_rnn.evaluation.evaluator import Ranks
from p_rnn.evaluation.metrics import metrics
from p_rnn.evaluation.ranks_file import write_ranks
from p_rnn.runs.report.rows import ReportRow
from p_rnn.runs.report.runs import Run
from p_rnn.runs.report.significance import bootstrap, differences, gains, holm
from p_rnn.settings.errors import UserError


def test_holm_by_hand() -> None:
    # Sorted .01 .02 .03 .04 times 4 3 2 1: .04 .06 .06 (not less than before) .06
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_gains_are_those_of_the_metrics() -> None:
    rank = np.array([1, 2, 3.5, 10, 11, np.inf])
    wanted = metrics(rank, [3, 10])
    for name, value in wanted.items():
        assert gains(name)(rank).mean() == pytest.approx(value)
    with pytest.raises(UserError, match="take recall@K"):
        gains("hits@3")


def test_bootstrap_of_sessions() -> None:
    """The spread of a mean over n sessions is that of the theory."""
    rng = np.random.default_rng(1)
    gained = rng.normal(0.2, 1.0, 500)
    drawn = bootstrap(gained[:, None], np.ones(500), 4000, 0)
    assert drawn.shape == (4000, 1)
    assert drawn.mean() == pytest.approx(gained.mean(), abs=0.01)
    assert drawn.std() == pytest.approx(gained.std() / np.sqrt(500), rel=0.05)
    # A ratio: sessions with more targets weigh more.
    targets = rng.integers(1, 9, 500).astype(float)
    ratio = bootstrap(np.outer(targets, [3, 4]), targets, 50, 0)
    np.testing.assert_allclose(ratio, np.tile([3.0, 4.0], (50, 1)))


def row(folder: Path, names: list[str], ranks: list[Any]) -> ReportRow:
    runs = []
    for name, rank in zip(names, ranks, strict=True):
        (folder / name).mkdir()
        count = len(rank)
        session = np.arange(count) // 2  # two targets each
        found = Ranks(session, np.arange(count) % 2 + 1, np.arange(count), np.asarray(rank, float))
        write_ranks(folder / name / "test_ranks.npz", found)
        runs.append(Run(folder / name, {}))
    return ReportRow(tuple(runs), {})


def test_a_difference(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    b = rng.integers(1, 40, 1000)
    a = [np.where(rng.random(1000) < share, 1, b) for share in (0.1, 0.2)]  # two seeds
    better, worse = row(tmp_path, ["a1", "a2"], a), row(tmp_path, ["b"], [b])
    found = differences([better], worse, ["recall@20"])[0, "recall@20"]
    wanted = np.mean([(x <= 20).mean() for x in a]) - (b <= 20).mean()
    assert found.mean == pytest.approx(wanted)
    assert 0 < found.low < found.mean < found.high
    assert found.p < 0.01
    same = differences([worse], worse, ["mrr@20"])[0, "mrr@20"]
    assert (same.mean, same.low, same.high, same.p) == (0, 0, 0, 1)
    other = row(tmp_path, ["c"], [b[:-2]])
    with pytest.raises(UserError, match="different targets"):
        differences([better], other, ["recall@20"])
    # However many there are, a clear one is left after Holm's correction.
    many = differences([worse] * 199 + [better], worse, ["recall@20"])
    assert holm([test.p for test in many.values()])[-1] < 0.05
