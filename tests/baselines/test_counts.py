"""The baselines that count, against plain Python over sessions one by one, on small random logs."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
import torch

from p_rnn.baselines import BASELINES
from p_rnn.baselines.ranker import TIE_BREAK, TrainingData
from p_rnn.baselines.sparse import Sums, cooccurrences, distinct_items
from p_rnn.data.dataset import Sessions
from p_rnn.data.features import BagFeature, DenseFeature
from p_rnn.evaluation.evaluator import EvaluationProtocol, evaluate
from p_rnn.settings.sections import EvaluationConfig

N = 15
Rows = list[list[int]]


def log(seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, N + 1)
    weights /= weights.sum()
    return [rng.choice(N, rng.integers(1, 7), p=weights).tolist() for _ in range(60)] + [
        list(range(N))  # every item occurs
    ]


def training(rows: Rows, features: Any = None) -> TrainingData:
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    items = np.array([item for row in rows for item in row], dtype=np.int32)
    times = np.arange(len(items), dtype=np.int64) * 3600
    sessions = Sessions(items, offsets, times)
    return TrainingData(sessions, N, sessions.support(N), features=features or {})


# -1: an event that is passed over.
HISTORIES = [[3], [0], [2, 5, 2], [-1, 4, 1], [7, 7, -1], [-1, -1, -1], [9, 8, 7, 6, 5, 0]]


def scores_of(ranker: Any, history: list[int]) -> list[float]:
    state = ranker.begin(2)  # beside another session
    for item in history:
        items = torch.tensor([max(item, 0), 1])
        state = ranker.step(items, state, torch.tensor([item >= 0, True]))
    scores = ranker.scores(state, slice(0, N))
    some = torch.tensor([11, 2, 2])
    assert torch.equal(ranker.scores(state, some), scores[:, some])
    assert torch.equal(ranker.scores(state, slice(3, 9)), scores[:, 3:9])
    found: list[float] = scores[0].tolist()
    return found


def check(name: str, expected: Any, features: Any = None, **parameters: Any) -> None:
    """expected(rows, history) -> {item: evidence}."""
    for seed in range(3):
        rows = log(seed)
        ranker = BASELINES[name](training(rows, features), **parameters)
        support = Counter(item for row in rows for item in row)
        for history in HISTORIES:
            evidence = expected(rows, [item for item in history if item >= 0])
            wanted = [
                evidence.get(j, 0.0) + TIE_BREAK * support[j] / (max(support.values()) + 1)
                for j in range(N)
            ]
            np.testing.assert_allclose(scores_of(ranker, history), wanted, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(("neighbours", "shrinkage"), [(100, 20.0), (3, 0.0)])
def test_item_knn(neighbours: int, shrinkage: float) -> None:
    def expected(rows: Rows, history: list[int]) -> dict[int, float]:
        if not history:
            return {}
        sets, i = [set(row) for row in rows], history[-1]
        own = sum(i in s for s in sets)
        similar = {}
        for j in range(N):
            both = sum(i in s and j in s for s in sets)
            if j != i and both:
                of_j = sum(j in s for s in sets)
                similar[j] = both / math.sqrt((own + shrinkage) * (of_j + shrinkage))
        best = sorted(similar, key=lambda j: (-similar[j], j))[:neighbours]
        return {j: similar[j] for j in best}

    check("item_knn", expected, neighbours=neighbours, shrinkage=shrinkage)


def follows(rows: Rows, steps: int) -> dict[int, dict[int, float]]:
    counts: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for row in rows:
        for t, i in enumerate(row):
            for d, j in enumerate(row[t + 1 : t + 1 + steps], 1):
                counts[i][j] += 1 / d
    return counts


@pytest.mark.parametrize("steps", [1, 3])
def test_markov(steps: int) -> None:
    def expected(rows: Rows, history: list[int]) -> dict[int, float]:
        return follows(rows, steps)[history[-1]] if history else {}

    check("markov", expected, steps=steps)


@pytest.mark.parametrize(
    ("neighbours", "sample_size", "idf", "repeats"),
    [(100, 1000, 1.0, True), (4, 1000, 0.0, False), (5, 9, 0.5, True)],
)
def test_v_sknn(neighbours: int, sample_size: int, idf: float, repeats: bool) -> None:
    def expected(rows: Rows, history: list[int]) -> dict[int, float]:
        last = {item: t + 1 for t, item in enumerate(history)}  # place of the last occurrence
        weight = {item: t / len(history) for item, t in last.items()}
        latest = [n for n in range(len(rows)) if set(rows[n]) & set(weight)][-sample_size:]
        similarity = {n: sum(weight[i] for i in set(rows[n]) & set(weight)) for n in latest}
        # Sums of tenths differ in the last bit; of equally similar ones the later.
        best = sorted(latest, key=lambda n: (-round(similarity[n], 9), -n))[:neighbours]
        scores: dict[int, float] = defaultdict(float)
        for n in best:
            shared = set(rows[n]) & set(weight)
            decay = max(weight[i] for i in shared)
            for j in set(rows[n]):
                held = sum(j in row for row in rows)
                scores[j] += similarity[n] * decay * math.log(len(rows) / held) ** idf
        return {j: score for j, score in scores.items() if repeats or j not in history}

    check(
        "v_sknn", expected, neighbours=neighbours, sample_size=sample_size, idf=idf, repeats=repeats
    )


@pytest.mark.parametrize(("steps", "similar_items", "backoff"), [(1, 3, 2.0), (2, 50, 0.5)])
def test_feature_markov(steps: int, similar_items: int, backoff: float) -> None:
    rng = np.random.default_rng(0)
    dense = rng.standard_normal((N + 2, 4)).astype(np.float32)
    dense[6] = 0  # without a value
    bags = [rng.choice(8, size, replace=False) for size in rng.integers(0, 4, N + 2)]
    bags[6] = bags[6][:0]
    offsets = np.concatenate([[0], np.cumsum([len(bag) for bag in bags])]).astype(np.int64)
    tokens = np.concatenate(bags).astype(np.int32)
    weights = rng.uniform(0.5, 2, len(tokens)).astype(np.float32)
    features = {
        "image": DenseFeature("image", "", dense),
        "tags": BagFeature("tags", "", offsets, tokens, weights, 8),
    }

    hot = np.zeros((N + 2, 8))
    hot[np.repeat(np.arange(N + 2), np.diff(offsets)), tokens] = weights
    cosines = []
    for x in (dense.astype(float), hot):
        unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
        cosines.append((unit @ unit.T)[:N, :N])
    cosine = np.mean(cosines, axis=0)

    def expected(rows: Rows, history: list[int]) -> dict[int, float]:
        if not history:
            return {}
        support = Counter(item for row in rows for item in row)
        like = np.zeros((N, N))
        for i in range(N):
            # More popular ones come first among equals, by less than cosines are rounded.
            value = {
                j: cosine[i, j] + 1e-6 * support[j] / (max(support.values()) + 1)
                for j in range(N)
                if j != i and cosine[i, j] > 1e-6
            }
            for j in sorted(value, key=lambda j: -value[j])[:similar_items]:
                like[i, j] = value[j]
        like /= np.maximum(like.sum(axis=1, keepdims=True), 1e-12)
        counts = np.zeros((N, N))
        for i, of_i in follows(rows, steps).items():
            for j, c in of_i.items():
                counts[i, j] = c
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-12)
        onward = (np.eye(N) + like) / 2
        onward[like.sum(axis=1) == 0] = np.eye(N)[like.sum(axis=1) == 0]
        i = history[-1]
        return dict(enumerate(counts[i] + backoff * (like @ share @ onward)[i]))

    check(
        "feature_markov",
        expected,
        features,
        steps=steps,
        similar_items=similar_items,
        backoff=backoff,
    )


@pytest.mark.parametrize("kind", ["category", "tags", "vector", "none"])
def test_feature_markov_without_similar_items_is_the_plain_chain(kind: str) -> None:
    """Every item has a category, a tag or a direction of its own, or no value."""
    tokens = np.arange(8, dtype=np.int32)
    of_all: dict[str, Any] = {
        "category": BagFeature("f", "", np.arange(5), tokens[:4], None, 4),
        "tags": BagFeature("f", "", 2 * np.arange(5), tokens, None, 8),
        "vector": DenseFeature("f", "", np.eye(4, dtype=np.float32)),
        "none": BagFeature("f", "", np.zeros(5, dtype=np.int64), tokens[:0], None, 1),
    }
    offsets = np.array([0, 3, 5, 8])
    items = np.array([0, 1, 2, 0, 1, 1, 0, 3], dtype=np.int32)  # 012 01 103
    sessions = Sessions(items, offsets, np.arange(8))
    data = TrainingData(sessions, 4, sessions.support(4), features={"f": of_all[kind]})
    ranker = BASELINES["feature_markov"](data, steps=1, similar_items=20, backoff=1.0)
    state = ranker.step(torch.arange(4), ranker.begin(4), torch.ones(4, dtype=torch.bool))
    follows = np.array([[0, 2, 0, 1], [1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    popular = TIE_BREAK * np.array([3, 3, 1, 1]) / 4
    np.testing.assert_allclose(ranker.scores(state, slice(0, 4)), follows + popular, rtol=1e-12)
    # Sessions whose last items nothing has followed, alone and before any event.
    for last, active in (([2, 3], True), ([0, 0], False)):
        state = ranker.step(torch.tensor(last), ranker.begin(2), torch.full((2,), active))
        scores = ranker.scores(state, slice(0, 4))
        np.testing.assert_allclose(scores, np.tile(popular, (2, 1)), rtol=1e-12)


def test_recently_popular() -> None:
    rows = log(0)
    ranker = BASELINES["recently_popular"](training(rows), half_life_days=0.5)
    events = [item for row in rows for item in row]  # one an hour
    wanted = [0.0] * N
    for hour, item in enumerate(events):
        wanted[item] += 2 ** (-(len(events) - 1 - hour) / 12)
    np.testing.assert_allclose(scores_of(ranker, [3, 4]), wanted)


def test_sums_in_parts_are_those_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    baskets = distinct_items(training(log(1)).sessions)
    whole = cooccurrences(baskets, N)
    monkeypatch.setattr("p_rnn.baselines.sparse.PENDING", 10)
    parts = cooccurrences(baskets, N)
    for a, b in zip(vars(whole).values(), vars(parts).values(), strict=True):
        np.testing.assert_array_equal(a, b)
    empty = Sums(3, 3).matrix()
    assert empty.offsets.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("name", ["item_knn", "v_sknn"])
def test_ranks_do_not_depend_on_how_they_are_cut(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = training(log(2))
    parameters = {
        "item_knn": {"neighbours": 5, "shrinkage": 1.0},
        "v_sknn": {"neighbours": 5, "sample_size": 20, "idf": 1.0, "repeats": False},
    }[name]
    ranker = BASELINES[name](data, **parameters)
    for ties in ("conservative", "median"):
        settings = EvaluationConfig(ties=ties)
        protocol = EvaluationProtocol(N, data.support, settings)
        ranks = evaluate(ranker, data.sessions, protocol).rank
        monkeypatch.setattr("p_rnn.evaluation.ranking.AT_ONCE", 2 * N)
        np.testing.assert_array_equal(evaluate(ranker, data.sessions, protocol).rank, ranks)
        monkeypatch.undo()
