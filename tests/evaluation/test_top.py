"""The best k items against a full sort in NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from p_rnn.evaluation import top
from p_rnn.evaluation.ranking import State
from p_rnn.evaluation.top import top_k
from tests.evaluation.test_ranking import Fixed


class Whole(Fixed):
    """Scores of all items at once."""

    at_once = True


class View(Fixed):
    """The same scores for all sessions, without a copy for each."""

    def scores(self, state: State, items: slice | Tensor) -> Tensor:
        return self.matrix[0, items].expand(len(state[0]), -1)


def sorted_by_numpy(
    scores: NDArray[Any], k: int, allowed: list[set[int]]
) -> tuple[list[list[float]], list[list[int]]]:
    values, items = [], []
    for row, mine in zip(scores, allowed, strict=True):
        order = np.lexsort((np.arange(len(row)), -row))
        best = [int(j) for j in order if int(j) in mine][:k]
        items.append(best + [-1] * (k - len(best)))
        values.append([float(row[j]) for j in best] + [-math.inf] * (k - len(best)))
    return values, items


def padded(rows: list[list[int]]) -> Tensor:
    width = max((len(row) for row in rows), default=0)
    return torch.tensor([row + [-1] * (width - len(row)) for row in rows], dtype=torch.int64)


@pytest.mark.parametrize("cls", [Fixed, Whole, View])
@pytest.mark.parametrize(("scores_of_block", "rows"), [(2**20, 64), (64, 1), (700, 3), (1, 1)])
def test_equals_a_full_sort(
    monkeypatch: pytest.MonkeyPatch, cls: type[Fixed], scores_of_block: int, rows: int
) -> None:
    monkeypatch.setattr(top, "BLOCK_SCORES", scores_of_block)
    monkeypatch.setattr(top, "ROWS", rows)
    monkeypatch.setattr(top, "AT_ONCE", scores_of_block)
    for seed in range(25):
        rng = np.random.default_rng(seed)
        batch, num_items = int(rng.integers(1, 12)), int(rng.choice([3, 64, 65, 400, 1500]))
        levels = int(rng.choice([1, 2, 50, 10**6]))
        scores = rng.integers(-levels, levels, (batch, num_items)).astype(np.float32)
        if cls is View:
            scores[:] = scores[0]
        k = int(rng.choice([1, 2, 20, 70]))
        limit = int(rng.integers(1, num_items + 5)) if seed % 3 else None
        some = rng.integers(0, num_items, int(rng.integers(0, 100)))
        candidates = some if seed % 2 else None
        seen = [rng.integers(0, num_items, rng.integers(0, 9)).tolist() for _ in range(batch)]
        mine = set(range(num_items if limit is None else min(limit, num_items)))
        if candidates is not None:
            mine &= set(candidates.tolist())
        allowed = [mine - set(row) if seed % 5 else mine for row in seen]
        ranker = cls(torch.from_numpy(scores))
        found_scores, found = top_k(
            ranker,
            (torch.arange(batch),),
            k,
            limit,
            padded(seen) if seed % 5 else None,
            None if candidates is None else torch.from_numpy(candidates),
        )
        if cls is Whole:
            assert {columns for _, columns in ranker.asked} <= {len(mine)}
        values, items = sorted_by_numpy(scores, k, allowed)
        assert found.dtype == torch.int64
        assert found.tolist() == items
        assert found_scores.tolist() == values


def test_hand_worked() -> None:
    """Scores 1 5 3 5 3: the first 5, the other 5, the first 3, ..."""
    ranker = Fixed(torch.tensor([[1.0, 5.0, 3.0, 5.0, 3.0]]))
    state = ranker.begin(1)
    assert top_k(ranker, state, 3)[1].tolist() == [[1, 3, 2]]
    assert top_k(ranker, state, 3, limit=3)[1].tolist() == [[1, 2, 0]]
    assert top_k(ranker, state, 3, seen=torch.tensor([[3, -1, 2]]))[1].tolist() == [[1, 4, 0]]
    scores, items = top_k(ranker, state, 3, candidates=torch.tensor([4, 0, 4]))
    assert items.tolist() == [[4, 0, -1]]
    assert scores.tolist() == [[3.0, 1.0, -math.inf]]


def test_nothing_is_left() -> None:
    ranker = Fixed(torch.zeros(2, 3))
    seen = torch.tensor([[0, 1, 2], [2, 0, 1]])
    assert top_k(ranker, ranker.begin(2), 2, seen=seen)[1].tolist() == [[-1, -1]] * 2
    none = torch.tensor([], dtype=torch.int64)
    scores, items = top_k(ranker, ranker.begin(2), 2, candidates=none)
    assert items.tolist() == [[-1, -1]] * 2
    assert scores.tolist() == [[-math.inf] * 2] * 2
    assert top_k(ranker, ranker.begin(0), 2)[1].shape == (0, 2)


@pytest.mark.parametrize("candidates", [[-1, 2], [0, 3]])
def test_candidates_that_have_no_score_are_refused(candidates: list[int]) -> None:
    ranker = Fixed(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="from 0 to 2"):
        top_k(ranker, ranker.begin(1), 1, candidates=torch.tensor(candidates))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("scores_of_block", [2**20, 64])
def test_bad_scores_fail(monkeypatch: pytest.MonkeyPatch, bad: float, scores_of_block: int) -> None:
    monkeypatch.setattr(top, "BLOCK_SCORES", scores_of_block)
    scores = torch.zeros(3, 300)
    scores[1, 250] = bad
    with pytest.raises(FloatingPointError, match="NaN or infinite"):
        top_k(Fixed(scores), (torch.arange(3),), 2)
    top_k(Fixed(scores), (torch.arange(3),), 2, limit=250)


def test_scores_are_not_modified() -> None:
    scores = torch.rand(2, 200)
    before = scores.clone()
    ranker = View(scores)
    top_k(ranker, ranker.begin(2), 3, seen=torch.tensor([[1, 2], [3, -1]]))
    assert torch.equal(scores, before)
