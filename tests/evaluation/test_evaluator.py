"""The evaluator against a loop over sessions and events, one at a time."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from p_rnn.data.dataset import Sessions
from p_rnn.evaluation import evaluator, ranking
from p_rnn.evaluation.evaluator import (
    EvaluationProtocol,
    Ranks,
    check_targets,
    count_targets,
    evaluate,
    summarise,
)
from p_rnn.evaluation.metrics import breakdown, metrics
from p_rnn.evaluation.ranking import State
from p_rnn.models.architectures import build_network
from p_rnn.settings.errors import UserError
from p_rnn.settings.resolve import resolve
from p_rnn.settings.sections import EvaluationConfig
from p_rnn.streams import Streams
from tests.composed import composed
from tests.conftest import TINY

PRIME = 10_007
NUM_ITEMS, NUM_WARM = 40, 30


class Hash:
    """Scores depend on the whole history in its order, through a rolling hash; many ties."""

    def __init__(self, num_items: int) -> None:
        self.num_items = num_items
        self.largest = 0

    def begin(self, batch: int) -> State:
        return (torch.ones(batch, dtype=torch.int64),)

    def step(self, items: Tensor, state: State, active: Tensor) -> State:
        return (torch.where(active, (state[0] * 31 + items + 7) % PRIME, state[0]),)

    def scores(self, state: State, items: slice | Tensor) -> Tensor:
        columns = torch.arange(self.num_items)[items]
        self.largest = max(self.largest, len(state[0]) * len(columns))
        return ((state[0][:, None] * (columns + 3)) % PRIME % 17).float()


def hash_scores(history: list[int], num_items: int) -> list[int]:
    state = 1
    for item in history:
        state = (state * 31 + item + 7) % PRIME
    return [state * (j + 3) % PRIME % 17 for j in range(num_items)]


def make_sessions(rows: list[list[int]]) -> Sessions:
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    items = np.array([item for row in rows for item in row], dtype=np.int32)
    return Sessions(items, offsets, np.arange(len(items)))


def random_rows(seed: int, count: int = 60, num_items: int = NUM_ITEMS) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    lengths = rng.choice([1, 2, 3, 5, 30], count)
    return [rng.integers(0, num_items, length).tolist() for length in lengths]


CONTEXTS = ["none", "last", "some"]


def with_context(rows: list[list[int]], context: str) -> Sessions:
    """Sessions in which each event but the first is a target, or the last, or some last ones."""
    if context == "none":
        return make_sessions(rows)
    lengths = np.array([len(row) for row in rows])
    rng = np.random.default_rng(len(rows))
    start = lengths - 1 if context == "last" else rng.integers(1, np.maximum(lengths, 2))
    return replace(make_sessions(rows), context=start)


def protocol(**settings: Any) -> EvaluationProtocol:
    support = np.arange(NUM_ITEMS, 0, -1) * 3
    support[NUM_WARM:] = 0
    return EvaluationProtocol(NUM_WARM, support, EvaluationConfig(**settings))


RankedTarget = tuple[int, int, int, float]


def naive(
    rows: list[list[int]], num_scored: int, how: EvaluationProtocol, context: Any = None
) -> list[RankedTarget]:
    """(session, position, item, rank) of every target.

    Cold items are left out, unless they are kept; `context` counts the events of the session as it
    stands in the split, cold ones too.
    """
    result = []
    keep = how.settings.cold_items == "keep"
    for s, row in enumerate(rows):
        before: list[int] = []
        for t, item in enumerate(row):
            if not keep and item >= how.num_warm:
                continue
            if before and (context is None or t >= context[s]):
                rank = math.inf
                if item < num_scored:
                    scores = hash_scores([i for i in before if i < num_scored], num_scored)
                    rivals = scores[:item] + scores[item + 1 : num_scored if keep else NUM_WARM]
                    rank = 1.0 + sum(x >= scores[item] for x in rivals)  # conservative
                result.append((s, len(before), item, rank))
            before.append(item)
    return result


def listed(ranks: Ranks) -> list[RankedTarget]:
    columns = (ranks.session, ranks.position, ranks.item, ranks.rank)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@pytest.mark.parametrize("cold_items", ["drop", "keep"])
@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("together", [1, 7, 1024])
def test_equals_a_loop_over_events(
    monkeypatch: pytest.MonkeyPatch, cold_items: str, context: str, together: int
) -> None:
    monkeypatch.setattr(evaluator, "SESSIONS_TOGETHER", together)
    monkeypatch.setattr(ranking, "BLOCK", 8)
    for seed in range(4):
        rows = random_rows(seed)
        how, sessions = protocol(cold_items=cold_items), with_context(rows, context)
        # In order of session and position, which the loop yields by itself.
        found = listed(evaluate(Hash(NUM_WARM), sessions, how))
        assert found == naive(rows, NUM_WARM, how, sessions.context)


def test_dropping_equals_deleting_the_cold_items_beforehand() -> None:
    rows = random_rows(5)
    deleted = [[item for item in row if item < NUM_WARM] for row in rows]
    number = [s for s, row in enumerate(deleted) if len(row) >= 2]
    ranks = evaluate(Hash(NUM_WARM), make_sessions(rows), protocol())
    without = evaluate(Hash(NUM_WARM), make_sessions([deleted[s] for s in number]), protocol())
    assert listed(ranks) == [(number[s], *rest) for s, *rest in listed(without)]
    assert any(item >= NUM_WARM for row in rows for item in row)


def test_a_ranker_that_scores_cold_items_ranks_them_when_they_are_kept() -> None:
    rows = random_rows(6)
    how = protocol(cold_items="keep")
    found = listed(evaluate(Hash(NUM_ITEMS), make_sessions(rows), how))
    assert found == naive(rows, NUM_ITEMS, how)
    assert all(math.isfinite(rank) for *_, rank in found)


def test_cold_items_are_no_predecessors_for_a_ranker_that_could_read_them() -> None:
    rows = random_rows(7)
    found = listed(evaluate(Hash(NUM_ITEMS), make_sessions(rows), protocol()))
    assert found == naive(rows, NUM_ITEMS, protocol())


def test_small_chunks_give_identical_results(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = make_sessions(random_rows(8, count=100))
    whole = listed(evaluate(Hash(NUM_WARM), sessions, protocol()))
    for together, events in ((1, 2**22), (3, 2**22), (1024, 1), (1024, 31), (1024, 64)):
        monkeypatch.setattr(evaluator, "SESSIONS_TOGETHER", together)
        monkeypatch.setattr(evaluator, "EVENTS_TOGETHER", events)
        assert listed(evaluate(Hash(NUM_WARM), sessions, protocol())) == whole


def test_memory_does_not_grow_with_the_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluator, "SESSIONS_TOGETHER", 16)
    largest = []
    for count in (100, 400, 1600):
        ranker = Hash(NUM_WARM)
        evaluate(ranker, make_sessions(random_rows(9, count, NUM_WARM)), protocol())
        largest.append(ranker.largest)
    assert largest == [16 * NUM_WARM] * 3


def test_nothing_to_evaluate_is_refused() -> None:
    for rows in ([[0], [1]], [[0, 35], [36, 1]]):
        with pytest.raises(UserError, match="no target"):
            evaluate(Hash(NUM_WARM), make_sessions(rows), protocol())


@pytest.mark.parametrize("cold_items", ["drop", "keep"])
@pytest.mark.parametrize("context", CONTEXTS)
def test_targets_are_counted_without_ranking_them(cold_items: str, context: str) -> None:
    """On random worlds of few and short sessions, some without any target."""
    counts = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        few = rng.integers(0, 5, rng.integers(1, 6))  # lengths; 0: a session without events
        rows = [rng.integers(NUM_WARM - 4, NUM_WARM + 6, length).tolist() for length in few]
        how, sessions = protocol(cold_items=cold_items), with_context(rows, context)
        counts.append(count_targets(sessions, how))
        assert counts[-1] == len(naive(rows, NUM_WARM, how, sessions.context))
        if counts[-1]:
            assert counts[-1] == len(evaluate(Hash(NUM_WARM), sessions, how).rank)
        else:
            with pytest.raises(UserError, match="no target"):
                evaluate(Hash(NUM_WARM), sessions, how)
    assert 0 in counts
    assert max(counts) > 1


def test_splits_without_a_target_are_named() -> None:
    cold, single = make_sessions([[0, 35], [36, 1]]), make_sessions([[0], [1]])
    check_targets(cold, protocol(cold_items="keep"), "test")
    with pytest.raises(UserError, match=r"the test split: .* cold item.*cold_items=keep, or use a"):
        check_targets(cold, protocol(), "test")
    with pytest.raises(UserError, match="the valid split: no session has two events"):
        check_targets(single, protocol(cold_items="keep"), "valid")


def test_metrics_by_hand() -> None:
    found = metrics(np.array([1.0, 3.0, 20.5, np.inf]), [1, 5, 20, 30])
    expected = {
        "recall@1": 1 / 4,
        "mrr@1": 1 / 4,
        "ndcg@1": 1 / 4,
        "recall@5": 2 / 4,
        "mrr@5": (1 + 1 / 3) / 4,
        "ndcg@5": (1 + 1 / 2) / 4,
        "recall@20": 2 / 4,
        "mrr@20": (1 + 1 / 3) / 4,
        "ndcg@20": (1 + 1 / 2) / 4,
        "recall@30": 3 / 4,
        "mrr@30": (1 + 1 / 3 + 1 / 20.5) / 4,
        "ndcg@30": (1 + 1 / 2 + 1 / math.log2(21.5)) / 4,
    }
    assert found == pytest.approx(expected, rel=1e-12)


def test_breakdown_by_hand() -> None:
    rows = breakdown(np.array([1.0, 9.0, 2.0]), np.array([4, 1, 9]), (1, 2, 5), [2])
    assert [(r["from"], r["to"], r["targets"], r["recall@2"]) for r in rows] == [
        (1, 1, 1, 0.0),
        (2, 4, 1, 1.0),
        (5, None, 1, 1.0),
    ]
    assert [r["from"] for r in breakdown(np.ones(1), np.array([7]), (1, 2, 5), [2])] == [5]


@pytest.mark.parametrize("cold_items", ["drop", "keep"])
def test_breakdowns_partition_the_targets(cold_items: str) -> None:
    how = protocol(cold_items=cold_items)
    ranks = evaluate(Hash(NUM_WARM), make_sessions(random_rows(10)), how)
    result = summarise(ranks, how)
    assert result["targets"] == len(ranks.rank)
    for group in ("by_position", "by_support"):
        assert sum(row["targets"] for row in result[group]) == result["targets"]
        for name, value in result["metrics"].items():
            mean = sum(row["targets"] * row[name] for row in result[group]) / result["targets"]
            assert mean == pytest.approx(value, abs=1e-12)
    cold = [row["targets"] for row in result["by_support"] if row["from"] == 0]
    assert cold == ([] if cold_items == "drop" else [int((ranks.item >= NUM_WARM).sum())])


@pytest.mark.parametrize(
    "model", [(), ("model.input=one_hot", "num_layers=2"), ("model.input=embedding",)]
)
def test_a_network_equals_one_session_at_a_time(model: tuple[str, ...]) -> None:
    """Batches, padding and chunks change nothing; dropout is off outside of training."""
    config = resolve(composed(*TINY, *model, "dropout_hidden=0.3"))
    network = build_network(config, NUM_WARM, Streams(3), {}).eval()
    with torch.no_grad():
        network.merge.bias.weight.copy_(torch.linspace(-0.2, 0.2, NUM_WARM)[:, None])
    rows = random_rows(11)
    ranks = evaluate(network, make_sessions(rows), protocol(ties="standard"))
    expected = []
    with torch.no_grad():
        for row in rows:
            kept = [item for item in row if item < NUM_WARM]
            state = tuple(torch.zeros(1, 8) for _ in range(config.num_layers or 0))
            for item, target in pairwise(kept):
                state = network.subnets[0](torch.tensor([item]), state)
                weight, bias = network.merge.tables[0].weight, network.merge.bias
                scores = (weight @ state[-1][0] + bias.weight[:, 0]).double()
                margin = (scores - scores[target]).abs() < 1e-6
                assert margin.sum() == 1, "choose another seed: a near tie"
                expected.append(1.0 + float((scores > scores[target]).sum()))
    assert ranks.rank.tolist() == expected
