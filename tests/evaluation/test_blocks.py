"""Scores made, counted and forgotten block after block, against NumPy on the whole matrix."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from p_rnn.evaluation import ranking
from p_rnn.evaluation.ranking import State, rank_targets
from tests.evaluation.test_ranking import TIES, Fixed, brute, ranked


class Unsteady(Fixed):
    """Scores of a list of items differ from those of a range in the last bit."""

    def __init__(self, scores: Tensor, rows: list[int]) -> None:
        super().__init__(scores)
        self.lists = scores.clone()
        self.lists[rows] = torch.nextafter(scores[rows], torch.tensor(math.inf))

    def scores(self, state: State, items: slice | Tensor) -> Tensor:
        block = super().scores(state, items)
        return self.lists[state[0]][:, items] if isinstance(items, Tensor) else block


class Product(Fixed):
    """Scores that are a matrix product, made anew for every block."""

    def __init__(self, queries: Tensor, table: Tensor, bias: Tensor) -> None:
        super().__init__(torch.empty(len(queries), len(table)))
        self.queries, self.table, self.bias = queries, table, bias

    def scores(self, state: State, items: slice | Tensor) -> Tensor:
        return torch.addmm(self.bias[items], self.queries[state[0]], self.table[items].t())


@pytest.fixture
def blocks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No catalogue is small enough to be kept."""
    monkeypatch.setattr(ranking, "WHOLE", 0)


@pytest.mark.usefixtures("blocks_at_once")
@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize(("block", "memory"), [(512, 2**18), (7, 2**18), (7, 20), (1, 1), (50, 3)])
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
            assert max(r * c for r, c in ranker.asked) <= max(memory, block)


@pytest.mark.usefixtures("blocks_at_once")
@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("kept", [1, 25, 2**24])
def test_own_scores_that_differ_in_the_last_bit_do_not_count(
    monkeypatch: pytest.MonkeyPatch, ties: str, kept: int
) -> None:
    """A target is compared with the score that stands in the range of items, and ties with it."""
    monkeypatch.setattr(ranking, "BLOCK", 7)
    monkeypatch.setattr(ranking, "KEPT_AGAIN", kept)
    generator = torch.Generator().manual_seed(1)
    scores = torch.randint(1, 4, (30, 25), generator=generator).float()
    targets = torch.randint(0, 28, (30,), generator=generator).tolist()
    expected = brute(scores, targets, ties, None)
    for rows in ([], [3], list(range(0, 30, 2)), list(range(30))):
        assert ranked(Unsteady(scores, rows), targets, ties, None) == expected


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize(("rows", "width"), [(1, 100), (3, 100), (17, 33), (700, 100), (40, 600)])
def test_a_product_equals_numpy(ties: str, rows: int, width: int) -> None:
    """Whole numbers, so that the product is exact and many scores tie, also across blocks."""
    rng = np.random.default_rng(rows)
    num_items = 4 * ranking.BLOCK + 13
    assert num_items > ranking.WHOLE, "these are the blocks that are not kept"
    queries, table = rng.integers(-1, 2, (rows, width)), rng.integers(-1, 2, (num_items, width))
    bias, targets = rng.integers(-2, 3, num_items), rng.integers(0, num_items, rows)
    scores = queries @ table.T + bias
    own = scores[np.arange(rows), targets][:, None]
    higher, tied = (scores > own).sum(axis=1), (scores == own).sum(axis=1) - 1
    share = {"standard": 0.0, "median": 0.5, "conservative": 1.0}[ties]
    assert tied.max() > 0
    ranker = Product(*(torch.from_numpy(x).float() for x in (queries, table, bias)))
    assert ranked(ranker, targets.tolist(), ties, None) == (1 + higher + share * tied).tolist()


def test_a_product_is_compared_with_itself() -> None:
    """The only item that ties with a target is itself, to the last bit of a rounded product."""
    generator = torch.Generator().manual_seed(2)
    num_items = ranking.WHOLE + 301
    for rows in (1, 2, 3, 5, 16, ranking.BLOCK, ranking.BLOCK + 3):
        queries = torch.randn(rows, 100, generator=generator)
        table = torch.randn(num_items, 100, generator=generator)
        ranker = Product(queries, table, torch.randn(num_items, generator=generator))
        targets = torch.randint(0, num_items, (rows,), generator=generator).tolist()
        found = {ties: ranked(ranker, targets, ties, None) for ties in TIES}
        assert found["standard"] == found["conservative"] == found["median"]


@pytest.mark.usefixtures("blocks_at_once")
@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("row", "item", "most_popular"),
    [
        (1, 29, None),
        (0, 3, None),
        (2, 0, None),
        (2, 25, 10),
        (1, 9, 10),
    ],
)
def test_one_bad_score_in_one_block_fails(
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


def test_a_bad_score_beyond_the_ranked_items_is_not_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scores = torch.zeros(2, 30)
    scores[:, 20] = math.nan
    for whole in (0, 2048):
        monkeypatch.setattr(ranking, "WHOLE", whole)
        assert ranked(Fixed(scores), [3, 25], "conservative", 10) == [10.0, 11.0]


@pytest.mark.parametrize("num_items", [3_000, 30_000, 300_000])
def test_memory_does_not_grow_with_the_catalogue(num_items: int) -> None:
    class Spy(Fixed):
        def scores(self, state: State, items: slice | Tensor) -> Tensor:
            count = len(items) if isinstance(items, Tensor) else items.stop - items.start
            self.asked.append((len(state[0]), count))
            return torch.zeros(1, 1).expand(len(state[0]), count)

    ranker = Spy(torch.empty(1, 1).expand(1, num_items))
    rows = ranking.BLOCK + 5
    targets = torch.arange(rows)
    found = rank_targets(ranker, ranker.begin(rows), targets, "conservative")
    assert found.tolist() == [num_items] * rows
    assert max(r * c for r, c in ranker.asked) == ranking.SCORES_IN_MEMORY
