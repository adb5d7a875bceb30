"""Ranks against a ranking by plain float64 comparisons, with many exact ties."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from p_rnn.evaluation import ranking
from p_rnn.evaluation.ranking import State, rank_targets

TIES = ["standard", "conservative", "median"]


class Fixed:
    """A ranker whose state is its row of a given score matrix; records what it is asked for."""

    def __init__(self, scores: Tensor) -> None:
        self.matrix = scores
        self.num_items = scores.shape[1]
        self.asked: list[tuple[int, int]] = []

    def begin(self, batch: int) -> State:
        return (torch.arange(batch),)

    def step(self, items: Tensor, state: State, active: Tensor) -> State:
        return state

    def scores(self, state: State, items: slice | Tensor) -> Tensor:
        block = self.matrix[state[0]][:, items]
        self.asked.append((block.shape[0], block.shape[1]))
        return block


def brute(scores: Tensor, targets: list[int], ties: str, most_popular: int | None) -> list[float]:
    ranks = []
    for row, target in zip(scores.double().tolist(), targets, strict=True):
        if target >= len(row):
            ranks.append(math.inf)
            continue
        rivals = [j for j in range(len(row)) if j != target and j < (most_popular or len(row))]
        higher = sum(row[j] > row[target] for j in rivals)
        equal = sum(row[j] == row[target] for j in rivals)
        share = {"standard": 0.0, "median": 0.5, "conservative": 1.0}[ties]
        ranks.append(1 + higher + share * equal)
    return ranks


def ranked(ranker: Fixed, targets: list[int], ties: str, most_popular: int | None) -> list[float]:
    found = rank_targets(
        ranker,
        ranker.begin(len(targets)),
        torch.tensor(targets, dtype=torch.int64),
        ties,
        most_popular,
    )
    assert found.dtype == torch.float64
    return found.tolist()


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize(("block", "memory"), [(8192, 2**24), (7, 2**24), (7, 40), (1, 1), (50, 3)])
def test_random_scores_with_ties(
    monkeypatch: pytest.MonkeyPatch, ties: str, block: int, memory: int
) -> None:
    monkeypatch.setattr(ranking, "BLOCK", block)
    monkeypatch.setattr(ranking, "SCORES_IN_MEMORY", memory)
    for seed in range(15):
        rng = np.random.default_rng(seed)
        num_items, rows = int(rng.integers(2, 60)), int(rng.integers(1, 20))
        levels = int(rng.choice([1, 2, 5, 1000]))
        scores = torch.from_numpy(rng.integers(-levels, levels, (rows, num_items))).float()
        targets = rng.integers(0, num_items + 3, rows).tolist()  # some cannot be scored
        for most_popular in (None, 1, num_items // 2 or 1, num_items, num_items + 5):
            ranker = Fixed(scores)
            found = ranked(ranker, targets, ties, most_popular)
            assert found == brute(scores, targets, ties, most_popular)
            slices = [r * c for r, c in ranker.asked]
            assert max(slices) <= max(memory, num_items, rows * len(set(targets)))


def test_memory_does_not_grow_with_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "BLOCK", 10)
    monkeypatch.setattr(ranking, "SCORES_IN_MEMORY", 400)
    for rows in (4, 16, 64):
        ranker = Fixed(torch.zeros(rows, 100))
        ranked(ranker, [0] * rows, "standard", None)
        assert set(ranker.asked) == {(4, 10)}  # 4 rows x 100 items are the 400 scores


@pytest.mark.parametrize("ties", TIES)
def test_a_catalogue_larger_than_a_block(ties: str) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 500, (6, 2 * ranking.BLOCK + 11), generator=generator).float()
    last = scores.shape[1] - 1
    targets = [0, ranking.BLOCK - 1, ranking.BLOCK, 2 * ranking.BLOCK, last, last + 1]
    for most_popular in (None, ranking.BLOCK, ranking.BLOCK + 1, 100):
        found = ranked(Fixed(scores), targets, ties, most_popular)
        assert found == brute(scores, targets, ties, most_popular)


def test_hand_worked_ties() -> None:
    """Scores 5 3 3 3 1, target the second: one is higher, two are equal."""
    scores = torch.tensor([[5.0, 3.0, 3.0, 3.0, 1.0]])
    expected = {"standard": 2.0, "conservative": 4.0, "median": 3.0}
    assert {ties: ranked(Fixed(scores), [1], ties, None)[0] for ties in TIES} == expected
    # Against the two most popular only: one higher; the target ties with itself alone.
    assert [ranked(Fixed(scores), [1], ties, 2)[0] for ties in TIES] == [2.0] * 3
    # A target outside of the three most popular meets 5, 3 and 3.
    assert [ranked(Fixed(scores), [3], ties, 3)[0] for ties in TIES] == [2.0, 4.0, 3.0]


def test_constant_scores_cannot_win_under_conservative_ties() -> None:
    scores = torch.zeros(3, 10)
    assert ranked(Fixed(scores), [0, 4, 9], "conservative", None) == [10.0] * 3
    assert ranked(Fixed(scores), [0, 4, 9], "median", None) == [5.5] * 3
    assert ranked(Fixed(scores), [0, 4, 9], "standard", None) == [1.0] * 3


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("row", "item", "most_popular"),
    [
        (1, 29, None),  # far from the target's block
        (0, 3, None),  # the target's own score
        (2, 25, 10),  # the own score of a target outside the most popular
        (1, 9, 10),
    ],
)
def test_bad_scores_fail(
    monkeypatch: pytest.MonkeyPatch,
    ties: str,
    bad: float,
    row: int,
    item: int,
    most_popular: int | None,
) -> None:
    monkeypatch.setattr(ranking, "BLOCK", 7)
    scores = torch.zeros(3, 30)
    targets = [3, 4, 25]
    ranked(Fixed(scores), targets, ties, most_popular)
    scores[row, item] = bad
    with pytest.raises(FloatingPointError, match="NaN or infinite"):
        ranked(Fixed(scores), targets, ties, most_popular)


def test_opposite_infinities_do_not_hide_each_other() -> None:
    scores = torch.zeros(1, 30)
    scores[0, 5], scores[0, 6] = math.inf, -math.inf
    with pytest.raises(FloatingPointError):
        ranked(Fixed(scores), [0], "standard", None)


def test_no_targets_and_only_unknown_targets() -> None:
    assert ranked(Fixed(torch.zeros(0, 5)), [], "standard", None) == []
    assert ranked(Fixed(torch.zeros(2, 5)), [5, 17], "median", None) == [math.inf] * 2
