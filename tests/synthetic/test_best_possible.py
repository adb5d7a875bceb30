"""The filter is exact, and the default world is as hard as it should be."""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from p_rnn.synthetic.best_possible import BayesRanker, FirstOrderRanker
from p_rnn.synthetic.log import draw_log
from p_rnn.synthetic.world import MAX_LENGTH, SyntheticConfig, World

Ranker = BayesRanker | FirstOrderRanker
SMALL = SyntheticConfig(
    num_events=2000, num_items=100, num_intents=6, num_days=3, mean_session_length=5.0
)


def sessions_of(world: World, day: int) -> list[npt.NDArray[np.int64]]:
    """The sessions of a day, items in world order."""
    sessions = []
    for block in draw_log(world):
        cuts = np.flatnonzero(np.diff(block.session)) + 1
        items, days = np.split(block.item, cuts), np.split(world.day_of(block.time), cuts)
        sessions += [s for s, d in zip(items, days, strict=True) if d[0] == day]
    return sessions


def row(world: World, day: int, k: int, g: int) -> npt.NDArray[np.float64]:
    """[N] P(j | k, g), straight from the definition."""
    weight = (world.birth <= day) * world.likes[k] * world.move[g][world.category]
    return np.asarray(weight / weight.sum())


def scores_after(ranker: Ranker, history: list[int], items: Any = slice(None)) -> Tensor:
    state = ranker.begin(1)
    for item in history:
        state = ranker.step(torch.tensor([item]), state, torch.tensor([True]))
    return ranker.scores(state, items)[0]


@pytest.mark.parametrize("day", [0, 2])
def test_filter_equals_enumeration_of_the_intents(day: int) -> None:
    world = World(SMALL)
    order = np.random.default_rng(1).permutation(world.num_items)[:90]  # a catalogue with gaps
    at = {int(j): i for i, j in enumerate(order)}
    ranker = BayesRanker(world, world.item_ids[order], day)
    assert ranker.num_items == 90
    checked = 0
    for session in sessions_of(world, day)[:40]:
        history = list(itertools.takewhile(lambda j: int(j) in at, session))
        # P(k) prod_t P(j_t | k, g_t), multiplied out for every intent
        expected, total, before = np.zeros(world.num_items), 0.0, world.num_categories
        for k in range(world.num_intents):
            probability, before = 1 / world.num_intents, world.num_categories
            for j in history:
                probability *= row(world, day, k, before)[j]
                before = int(world.category[j])
            expected += probability * row(world, day, k, before)
            total += probability
        scores = scores_after(ranker, [at[int(j)] for j in history]).numpy()
        np.testing.assert_allclose(scores, (expected / total)[order], rtol=2e-5, atol=1e-12)
        checked += len(history) > 1
    assert checked > 10


def test_first_order_equals_the_sum_over_positions() -> None:
    """P(last = i, next = j), by walking all items of all intents through all positions."""
    world, day = World(SMALL), 1
    N, K, G = world.num_items, world.num_intents, world.num_categories
    joint = np.zeros((N, N))
    for k in range(K):
        step = np.stack([row(world, day, k, int(world.category[i])) for i in range(N)])  # [N, N]
        now, longer = row(world, day, k, G), 1.0  # the first item always has a next one
        for _ in range(MAX_LENGTH - 1):
            joint += longer / K * now[:, None] * step
            now, longer = now @ step, longer * (1 - 1 / (SMALL.mean_session_length - 1))
    seen = joint.sum(axis=1) > 0
    assert 0 < (~seen).sum() == (world.birth > day).sum()
    ranker = FirstOrderRanker(world, world.item_ids, day)
    state = ranker.begin(N)
    everyone = torch.ones(N, dtype=torch.bool)
    state = ranker.step(torch.arange(N).flip(0), state, everyone)  # must be forgotten
    state = ranker.step(torch.arange(N), state, everyone)
    expected = joint[seen] / joint[seen].sum(axis=1, keepdims=True)
    scores = ranker.scores(state, slice(None)).numpy()
    np.testing.assert_allclose(scores[seen], expected, rtol=2e-5, atol=1e-12)


@pytest.mark.parametrize("kind", [BayesRanker, FirstOrderRanker])
def test_ranker_seam(kind: type[Ranker]) -> None:
    world = World(SMALL)
    ranker = kind(world, world.item_ids, day=0)
    state = ranker.begin(3)
    assert torch.allclose(ranker.scores(state, slice(None)).sum(dim=1), torch.ones(3))
    items = torch.tensor([5, 60, 99])
    moved = ranker.step(items, state, torch.tensor([True, False, True]))
    for new, old in zip(moved, state, strict=True):
        assert torch.equal(new[1], old[1])
        assert not torch.equal(new[0], old[0])
    scores = ranker.scores(moved, slice(None))
    assert scores.dtype == torch.float32
    assert scores.shape == (3, 100)
    assert torch.isfinite(scores).all()
    unborn = torch.from_numpy(world.birth > 0)
    assert (scores[:, unborn] == 0).all()
    assert (scores[:, ~unborn] > 0).all()
    assert torch.allclose(scores.sum(dim=1), torch.ones(3))
    for block in (slice(10, 30), torch.tensor([3, 99, 3])):
        assert torch.allclose(ranker.scores(moved, block), scores[:, block], rtol=1e-6)
    # an item that cannot have been clicked is no reason for NaN
    for j in np.flatnonzero(world.birth > 0):
        assert torch.isfinite(scores_after(ranker, [5, int(j), 7])).all()


def test_long_sessions_do_not_underflow() -> None:
    world = World(SMALL)
    scores = scores_after(BayesRanker(world, world.item_ids, 2), [3, 50] * 1000)
    assert torch.isclose(scores.sum(), torch.tensor(1.0))


def recall_and_mrr(
    ranker: Ranker, sessions: list[npt.NDArray[np.int64]], cutoff: int = 20
) -> tuple[float, float]:
    """All items after the first are targets among all items; ties count against the target."""
    lengths = torch.tensor([len(s) for s in sessions])
    items = torch.zeros((len(sessions), int(lengths.max())), dtype=torch.int64)
    for i, s in enumerate(sessions):
        items[i, : len(s)] = torch.from_numpy(s)
    state, ranks = ranker.begin(len(sessions)), []
    for t in range(items.shape[1] - 1):
        active = lengths > t + 1
        state = ranker.step(items[:, t], state, active)
        scores = ranker.scores(tuple(x[active] for x in state), slice(None))
        target = scores.gather(1, items[active, t + 1, None])
        ranks.append((scores >= target).sum(dim=1))  # the target counts itself: 1 + all ahead
    rank = torch.cat(ranks)
    hit = rank <= cutoff
    return float(hit.double().mean()), float((hit / rank).double().mean())


@cache
def default_world() -> tuple[World, list[npt.NDArray[np.int64]]]:
    world = World(SyntheticConfig())
    return world, sessions_of(world, world.num_days - 1)[:1500]


def test_default_world_is_calibrated() -> None:
    """About 13,500 targets: a standard error of 0.4 points of the best recall."""
    world, sessions = default_world()
    last = world.num_days - 1
    best, best_mrr = recall_and_mrr(BayesRanker(world, world.item_ids, last), sessions)
    first, first_mrr = recall_and_mrr(FirstOrderRanker(world, world.item_ids, last), sessions)
    blocks = [b.item[world.day_of(b.time) < last] for b in draw_log(world)]
    counts = np.bincount(np.concatenate(blocks), minlength=world.num_items)
    popular = np.argsort(-counts, kind="stable")[:20]
    popularity = np.isin(np.concatenate([s[1:] for s in sessions]), popular).mean()
    assert 0.4 < best < 0.6
    assert 0.1 < best_mrr < 0.3
    assert first < 0.75 * best
    assert first_mrr < best_mrr
    assert popularity < 0.1 * best


def test_recall_of_the_filter_is_its_own_expectation() -> None:
    """The filter is calibrated: its 20 most probable items hold the target as often as it says."""
    world, sessions = default_world()
    ranker = BayesRanker(world, world.item_ids, world.num_days - 1)
    state, hits, claimed = ranker.begin(len(sessions)), [], []
    everyone = torch.ones(len(sessions), dtype=torch.bool)
    state = ranker.step(torch.tensor([s[0] for s in sessions]), state, everyone)
    for t in range(1, 6):
        index = torch.tensor([i for i, s in enumerate(sessions) if len(s) > t])
        top = ranker.scores(tuple(x[index] for x in state), slice(None)).topk(20, dim=1)
        target = torch.tensor([sessions[i][t] for i in index])
        hits.append((top.indices == target[:, None]).any(dim=1))
        claimed.append(top.values.sum(dim=1))
        padded = torch.tensor([s[min(t, len(s) - 1)] for s in sessions])
        state = ranker.step(padded, state, torch.tensor([len(s) > t for s in sessions]))
    hit, claim = torch.cat(hits).double(), torch.cat(claimed).double()
    assert len(hit) > 5000
    standard_error = float((claim * (1 - claim)).sum().sqrt() / len(claim))
    assert abs(float(hit.mean() - claim.mean())) < 3 * standard_error
