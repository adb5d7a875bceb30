"""The printed tables name their protocol."""

from __future__ import annotations

from typing import Any

import numpy as np

from p_rnn.evaluation.evaluator import Ranks, summarise
from p_rnn.evaluation.report import describe
from tests.evaluation.test_evaluator import NUM_WARM, protocol


def described(item: list[int], rank: list[float], **settings: Any) -> str:
    how = protocol(cutoffs=[1, 5], **settings)
    counts = {k: np.arange(len(how.support)) for k in (1, 5)}
    listed = counts if how.settings.beyond_accuracy else None
    some = np.ones(len(item), dtype=np.int64)
    ranks = Ranks(some, some, np.array(item), np.array(rank), listed)
    return describe({"test": {"model": summarise(ranks, how)}}, how.settings)


def test_the_title_names_the_protocol() -> None:
    title = described([1, 2], [1, 9]).splitlines()[1]
    assert title == "test: 2 targets, conservative ties, cold items left out"
    changed: dict[str, Any] = {"ties": "median", "cold_items": "keep", "exclude_seen": True}
    text = " ".join(described([1], [1], **changed, most_popular=50_000).split())
    assert text.startswith(
        "test: 1 targets, median ties, cold items ranked, seen items left out, ranked against the "
        "50,000 most popular items"
    )


def test_the_recall_of_cold_targets() -> None:
    cold = NUM_WARM + 1
    header, line = described([1, cold, cold, cold], [9, 2, 6, 5], cold_items="keep").split("\n")[
        -2:
    ]
    assert header.endswith("ndcg@5  cold recall@5")
    assert line.split()[-1] == "0.6667"
    header, line = described([1, 2], [1, 1], cold_items="keep").split("\n")[-2:]
    assert header.endswith("ndcg@5  cold recall@5")
    assert line.split() == ["model", *["1.0000"] * 4]
    assert "cold recall" not in described([1, 2], [1, 1])


def test_a_second_table_beyond_accuracy() -> None:
    header, line = described([1], [1], beyond_accuracy=True).split("\n")[-2:]
    assert header.split() == ["coverage@5", "popularity@5", "novelty@5"]
    assert len(line.split()) == 4
    assert "coverage" not in described([1], [1])
