"""Targets ranked together with those of other time steps and chunks, against one at a time."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from p_rnn.baselines.ranker import TrainingData
from p_rnn.baselines.session_popularity import SessionPopularity
from p_rnn.evaluation import evaluator, ranking
from p_rnn.evaluation.evaluator import evaluate
from p_rnn.evaluation.pool import TargetPool
from p_rnn.evaluation.ranking import State, rank_targets
from p_rnn.models.architectures import build_network
from p_rnn.models.merges import Merge
from p_rnn.models.network import PRNN
from p_rnn.settings.resolve import resolve
from p_rnn.settings.sections import EvaluationConfig
from p_rnn.streams import Streams
from tests.composed import composed
from tests.conftest import TINY
from tests.evaluation.test_evaluator import (
    CONTEXTS,
    NUM_ITEMS,
    NUM_WARM,
    Hash,
    listed,
    make_sessions,
    protocol,
    random_rows,
    with_context,
)


class Spy(Hash):
    """Records how many rows it is asked for; a second part of the state is another width."""

    def __init__(self, num_items: int) -> None:
        super().__init__(num_items)
        self.rows: list[int] = []

    def begin(self, batch: int) -> State:
        return (*super().begin(batch), torch.zeros(batch, 3), torch.zeros(batch, 5))

    def step(self, items: Tensor, state: State, active: Tensor) -> State:
        return (*super().step(items, state, active), state[1] + 1, state[2] + items[:, None])

    def scores(self, state: State, items: slice | Tensor) -> Tensor:
        assert len({len(x) for x in state}) == 1
        self.rows.append(len(state[0]))
        return super().scores(state, items)


@pytest.mark.parametrize("cold_items", ["drop", "keep"])
@pytest.mark.parametrize("context", CONTEXTS)
def test_equals_one_target_at_a_time(
    monkeypatch: pytest.MonkeyPatch, cold_items: str, context: str
) -> None:
    sessions = with_context(random_rows(20, count=80), context)
    how = protocol(cold_items=cold_items)
    monkeypatch.setattr(evaluator, "SESSIONS_TOGETHER", 1)
    expected = listed(evaluate(Hash(NUM_WARM), sessions, how))
    for together, whole, block in ((1024, 2048, 512), (13, 0, 7), (64, 0, 512), (13, 2048, 7)):
        monkeypatch.setattr(evaluator, "SESSIONS_TOGETHER", together)
        monkeypatch.setattr(ranking, "WHOLE", whole)
        monkeypatch.setattr(ranking, "BLOCK", block)
        ranker = Spy(NUM_WARM)
        assert listed(evaluate(ranker, sessions, how)) == expected


def test_late_steps_and_chunks_share_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """One session of 200 events and many short ones: still all products but the last are full."""
    monkeypatch.setattr(evaluator, "SESSIONS_TOGETHER", 16)
    rows = [[1] * 200, *([[2, 3]] * 100)]
    ranker = Spy(NUM_WARM)
    ranks = evaluate(ranker, make_sessions(rows), protocol())
    assert len(ranks.rank) == 299
    assert ranker.rows == [16] * 18 + [11]


def test_states_that_grow_with_the_history_are_not_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = make_sessions(random_rows(21, 40, NUM_WARM))
    support = np.arange(NUM_WARM, 0, -1)
    ranker = SessionPopularity(TrainingData(sessions, NUM_WARM, support))
    whole = listed(evaluate(ranker, sessions, protocol()))
    monkeypatch.setattr(evaluator, "SESSIONS_TOGETHER", 1)
    assert listed(evaluate(ranker, sessions, protocol())) == whole


def test_a_pool_takes_more_than_it_holds_and_gives_ranks_to_their_places() -> None:
    ranker, settings = Spy(NUM_ITEMS), EvaluationConfig()
    generator = np.random.default_rng(0)
    ranks = np.zeros(500)
    pool = TargetPool(ranker, settings.ties, None, 8, ranks)
    places, lo = generator.permutation(500), 0
    expected = np.zeros(500)
    for count in (3, 30, 1, 8, 5, 100):
        start = torch.from_numpy(generator.integers(0, 10_000, count))
        state: State = (start, torch.zeros(count, 3), torch.zeros(count, 5))
        targets = torch.from_numpy(generator.integers(0, NUM_ITEMS + 2, count))
        place = places[lo : lo + count]
        expected[place] = rank_targets(ranker, state, targets, settings.ties).numpy()
        pool.add(state, targets, place)
        lo += count
    pool.flush()
    pool.flush()
    np.testing.assert_array_equal(ranks, expected)


def two_subnets() -> PRNN:
    parts: list[Any] = [
        build_network(
            resolve(composed(*TINY, f"hidden_size={width}")), NUM_WARM, Streams(width), {}
        )
        for width in (8, 5)
    ]
    tables = [part.merge.tables[0] for part in parts]
    subnets = {str(k): part.subnets[0] for k, part in enumerate(parts)}
    return PRNN(NUM_WARM, subnets, Merge(tables, [0, 1], [1.0, 0.7])).eval()


def test_several_subnets_of_different_widths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is pooled, the ranks of a network are those of its scores."""
    network = two_subnets()
    rows = [row for row in random_rows(22, 40, NUM_WARM) if len(row) > 1]
    monkeypatch.setattr(ranking, "WHOLE", 0)
    monkeypatch.setattr(ranking, "BLOCK", 16)
    ranks = evaluate(network, make_sessions(rows), protocol(ties="standard"))
    expected = []
    with torch.no_grad():
        for row in rows:
            state = network.begin(1)
            for item, target in pairwise(row):
                state = network.step(torch.tensor([item]), state, torch.tensor([True]))
                scores = network.scores(state, slice(0, NUM_WARM))[0].double()
                near = (scores - scores[target]).abs() < 1e-6
                assert near.sum() == 1, "choose another seed: a near tie"
                expected.append(1.0 + float((scores > scores[target]).sum()))
    assert ranks.rank.tolist() == expected
