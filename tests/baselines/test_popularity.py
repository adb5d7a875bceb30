"""The popularity baselines against counters in plain Python, through the evaluator."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from p_rnn.baselines import BASELINES
from p_rnn.baselines.popularity import Popularity
from p_rnn.baselines.ranker import TrainingData
from p_rnn.baselines.session_popularity import SessionPopularity
from p_rnn.data.dataset import Sessions
from p_rnn.evaluation import evaluator, ranking
from p_rnn.evaluation.evaluator import EvaluationProtocol, evaluate
from p_rnn.settings.sections import EvaluationConfig

NUM_ITEMS, NUM_WARM = 25, 20
# Decreasing, as item indices are ordered, and with ties.
SUPPORT = np.sort(np.random.default_rng(0).integers(1, 12, NUM_WARM))[::-1].copy()


def make_sessions(rows: list[list[int]]) -> Sessions:
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    items = np.array([item for row in rows for item in row], dtype=np.int32)
    return Sessions(items, offsets, np.arange(len(items)))


def counted(support: Any) -> TrainingData:
    return TrainingData(make_sessions([[0]]), len(support), support)


def random_rows(seed: int) -> list[list[int]]:
    """Sessions that come back to few items, so that counts in the session matter."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(40):
        favourites = rng.integers(0, NUM_ITEMS, 3)
        rows.append(rng.choice(favourites, int(rng.integers(1, 12))).tolist())
    return rows


def score(name: str, history: list[int], item: int) -> Fraction:
    """Exact: the support, or the count in the session with the support to break ties."""
    if name == "pop":
        return Fraction(int(SUPPORT[item]))
    return Counter(history)[item] + Fraction(int(SUPPORT[item]), int(SUPPORT.max()) + 1)


def brute(name: str, rows: list[list[int]], ties: str, cold: str, most: int | None) -> list[float]:
    ranks = []
    for row in rows:
        kept = [item for item in row if cold == "keep" or item < NUM_WARM]
        for t in range(1, len(kept)):
            target = kept[t]
            if target >= NUM_WARM:
                ranks.append(math.inf)
                continue
            own = score(name, kept[:t], target)
            rivals = [j for j in range(most or NUM_WARM) if j != target]
            others = [score(name, kept[:t], j) for j in rivals]
            equal = sum(x == own for x in others)
            share = {"standard": 0.0, "median": 0.5, "conservative": 1.0}[ties]
            ranks.append(1 + sum(x > own for x in others) + share * equal)
    return ranks


@pytest.mark.parametrize("name", ["pop", "session_pop"])
@pytest.mark.parametrize("ties", ["standard", "conservative", "median"])
@pytest.mark.parametrize("cold", ["drop", "keep"])
def test_ranks_equal_counters(
    monkeypatch: pytest.MonkeyPatch, name: str, ties: str, cold: str
) -> None:
    monkeypatch.setattr(ranking, "BLOCK", 6)
    monkeypatch.setattr(evaluator, "SESSIONS_TOGETHER", 9)
    protocol = EvaluationProtocol(
        num_warm=NUM_WARM,
        support=np.append(SUPPORT, np.zeros(NUM_ITEMS - NUM_WARM, dtype=int)),
        settings=EvaluationConfig(ties=ties, cold_items=cold),
    )
    for seed in range(3):
        rows = random_rows(seed)
        for most_popular in (None, 7):
            protocol.settings.most_popular = most_popular
            ranker = BASELINES[name](counted(SUPPORT))
            found = evaluate(ranker, make_sessions(rows), protocol)
            assert found.rank.tolist() == brute(name, rows, ties, cold, most_popular)


def after(ranker: Any, rows: list[list[int]]) -> Any:
    """The state after histories of one length; -1 marks an event that is passed over."""
    state = ranker.begin(len(rows))
    for column in torch.tensor(rows).T:
        state = ranker.step(column.clamp(min=0), state, column >= 0)
    return state


ROWS = [[3, 3, 19, 3], [0, 1, 2, 3], [-1, 5, -1, 5], [-1, -1, -1, -1]]


@pytest.mark.parametrize("name", ["pop", "session_pop"])
def test_scores_by_slice_and_by_list_are_those_of_the_counters(name: str) -> None:
    ranker = BASELINES[name](counted(SUPPORT))
    assert ranker.num_items == NUM_WARM
    state = after(ranker, ROWS)
    assert all(len(x) == len(ROWS) for x in state)
    exact = [[score(name, row, j) for j in range(NUM_WARM)] for row in ROWS]
    expected = torch.tensor([[float(x) for x in row] for row in exact], dtype=torch.float64)
    for lo, hi in ((0, NUM_WARM), (0, 4), (3, 11), (19, 20)):
        part = expected[:, lo:hi]
        torch.testing.assert_close(ranker.scores(state, slice(lo, hi)), part)
        torch.testing.assert_close(ranker.scores(state, torch.arange(lo, hi)), part)
    mixed = torch.tensor([19, 3, 3, 0])
    torch.testing.assert_close(ranker.scores(state, mixed), expected[:, mixed])
    # Sessions can be selected from a state.
    some = tuple(x[torch.tensor([2, 0])] for x in state)
    torch.testing.assert_close(ranker.scores(some, slice(0, 9)), expected[[2, 0], :9])


def test_scores_by_slice_and_by_list_are_equal_to_the_last_bit() -> None:
    """A tie between an item inside and a target outside `most_popular` hangs on it."""
    support = np.array([198, *range(197, 0, -1)])
    ranker = SessionPopularity(counted(support))
    history = torch.arange(len(support)).repeat(3)[None].expand(1, -1)
    state = (history,)
    by_slice = ranker.scores(state, slice(0, len(support)))
    assert torch.equal(by_slice, ranker.scores(state, torch.arange(len(support))))


def test_popularity_ignores_the_session_and_hand_worked_counts() -> None:
    support = np.array([9, 4, 4, 1])
    popularity = Popularity(counted(support))
    state = after(popularity, [[3, 3], [0, 1]])
    assert popularity.scores(state, slice(0, 4)).tolist() == [[9, 4, 4, 1]] * 2
    session = SessionPopularity(counted(support))
    state = after(session, [[3, 3], [0, 1]])
    found = session.scores(state, slice(0, 4))
    assert found.tolist() == pytest.approx(np.array([[0.9, 0.4, 0.4, 2.1], [1.9, 1.4, 0.4, 0.1]]))
    # Any count in the session outweighs any popularity.
    assert found[0].argmax() == 3
