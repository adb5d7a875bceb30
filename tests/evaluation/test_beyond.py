"""Coverage, popularity and novelty: by hand, and from the lists of a full sort."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from p_rnn.evaluation import evaluator
from p_rnn.evaluation.beyond import TopLists, beyond_accuracy
from p_rnn.evaluation.evaluator import evaluate, summarise
from tests.evaluation.test_evaluator import (
    NUM_ITEMS,
    NUM_WARM,
    Hash,
    make_sessions,
    protocol,
    random_rows,
)
from tests.evaluation.test_protocol import Growing, Whole, matrix


def test_hand_worked() -> None:
    """Supports 8 4 3 1 0 0, of 16 events; the lists are 0 1, 0 3 and 4 (one place is empty)."""
    support = np.array([8, 4, 3, 1, 0, 0])
    lists = TopLists([1, 2], 6)
    lists.add(torch.tensor([[0, 1], [0, 3]]))
    lists.add(torch.tensor([[4, -1]]))
    assert {k: counts.tolist() for k, counts in lists.counts.items()} == {
        1: [2, 0, 0, 0, 1, 0],
        2: [2, 1, 0, 1, 1, 0],
    }
    assert beyond_accuracy(lists.counts, support, 6) == pytest.approx(
        {
            "coverage@1": 2 / 6,
            "popularity@1": (8 + 8 + 0) / 3,
            "novelty@1": (1 + 1 + 4) / 3,  # 8 of 16 events are one bit; a cold item has 1 of 16
            "coverage@2": 4 / 6,
            "popularity@2": (8 + 8 + 4 + 1 + 0) / 5,
            "novelty@2": (1 + 1 + 2 + 4 + 4) / 5,
        }
    )


@pytest.mark.parametrize("cls", [Hash, Whole, Growing])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"exclude_seen": True},
        {"cold_items": "keep"},
        {"cold_items": "keep", "exclude_seen": True},
        {"most_popular": 12, "exclude_seen": True},
    ],
)
def test_equals_the_lists_of_a_full_sort(
    monkeypatch: pytest.MonkeyPatch, cls: type[Hash], settings: dict[str, Any]
) -> None:
    monkeypatch.setattr(evaluator, "SESSIONS_TOGETHER", 13)
    rows, how = random_rows(1, count=30), protocol(cutoffs=[2, 7, 35], **settings)
    for num_scored in (NUM_WARM, NUM_ITEMS):
        ranks = evaluate(cls(num_scored), make_sessions(rows), how, lists=True)
        found = summarise(ranks, how)["beyond_accuracy"]
        _, scores, allowed = matrix(rows, num_scored, how, None)
        order = np.argsort(np.where(allowed, -scores, np.inf), axis=1, kind="stable")
        candidates = NUM_ITEMS if how.keep_cold else NUM_WARM
        candidates = min(candidates, settings.get("most_popular", candidates))
        total = how.support.sum()
        for k in (2, 7, 35):
            lists = [
                [j for j in row[:k] if mine[j]] for row, mine in zip(order, allowed, strict=True)
            ]
            items = [j for row in lists for j in row]
            bits = [-math.log2(max(1, how.support[j]) / total) for j in items]
            assert found[f"coverage@{k}"] == pytest.approx(len(set(items)) / candidates)
            assert found[f"popularity@{k}"] == pytest.approx(np.mean(how.support[items]))
            assert found[f"novelty@{k}"] == pytest.approx(np.mean(bits))


def test_only_on_request() -> None:
    ranks = evaluate(Hash(NUM_WARM), make_sessions(random_rows(2)), protocol())
    assert ranks.listed is None
    assert "beyond_accuracy" not in summarise(ranks, protocol())
