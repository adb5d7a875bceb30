"""Who is ranked against whom: a full matrix of scores in NumPy, one row per target."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from p_rnn.evaluation import evaluator, pool, ranking
from p_rnn.evaluation.evaluator import EvaluationProtocol, evaluate
from p_rnn.evaluation.ranking import State, rank_targets
from tests.evaluation.test_evaluator import (
    CONTEXTS,
    NUM_ITEMS,
    NUM_WARM,
    Hash,
    RankedTarget,
    hash_scores,
    listed,
    make_sessions,
    protocol,
    random_rows,
    with_context,
)
from tests.evaluation.test_ranking import TIES, Fixed


class Whole(Hash):
    at_once = True


class Unsteady(Hash):
    """Scores of a list of items differ from those of a range, so that rows are ranked again."""

    def scores(self, state: State, items: slice | Tensor) -> Tensor:
        found = super().scores(state, items)
        return found + 0.25 if isinstance(items, Tensor) else found


class Growing(Hash):
    """The state has another width at every step, so that targets of two steps are not pooled."""

    def begin(self, batch: int) -> State:
        return (*super().begin(batch), torch.zeros(batch, 0))

    def step(self, items: Tensor, state: State, active: Tensor) -> State:
        new = torch.cat([state[1], torch.zeros(len(items), 1)], dim=1)
        return (*super().step(items, state[:1], active), new)


def matrix(
    rows: list[list[int]], num_scored: int, how: EvaluationProtocol, context: Any
) -> tuple[list[tuple[int, int, int]], np.ndarray, np.ndarray]:
    """(session, position, item) of the targets, scores [M, N], and who is a candidate [M, N].

    Items without a score have NaN.
    """
    keep = how.settings.cold_items == "keep"
    targets, scores, allowed = [], [], []
    for s, row in enumerate(rows):
        before: list[int] = []
        for t, item in enumerate(row):
            if not (keep or item < NUM_WARM):
                continue
            if before and (context is None or t >= context[s]):
                targets.append((s, len(before), item))
                known = hash_scores([i for i in before if i < num_scored], num_scored)
                scores.append(np.array(known + [math.nan] * (NUM_ITEMS - num_scored)))
                mine = np.arange(NUM_ITEMS) < min(num_scored, NUM_ITEMS if keep else NUM_WARM)
                if how.settings.most_popular is not None:
                    mine &= np.arange(NUM_ITEMS) < how.settings.most_popular
                if how.settings.exclude_seen:
                    mine &= ~np.isin(np.arange(NUM_ITEMS), before)
                allowed.append(mine)
            before.append(item)
    return targets, np.stack(scores), np.stack(allowed)


def brute(
    rows: list[list[int]], num_scored: int, how: EvaluationProtocol, context: Any
) -> list[RankedTarget]:
    targets, scores, allowed = matrix(rows, num_scored, how, context)
    item = np.array([item for _, _, item in targets])
    own = scores[np.arange(len(item)), item][:, None]
    others = allowed & (np.arange(NUM_ITEMS) != item[:, None])
    higher = (others & (scores > own)).sum(axis=1)
    tied = (others & (scores == own)).sum(axis=1)
    rank = 1 + higher + {"standard": 0, "median": 0.5, "conservative": 1}[how.settings.ties] * tied
    hopeless = np.isnan(own[:, 0])
    if how.settings.exclude_seen:
        for m, (s, position, target) in enumerate(targets):
            keep = how.settings.cold_items == "keep"
            history = [i for i in rows[s] if keep or i < NUM_WARM][:position]
            hopeless[m] |= target in history
    rank = np.where(hopeless, math.inf, rank)
    return [(*target, float(r)) for target, r in zip(targets, rank, strict=True)]


@pytest.mark.parametrize("cls", [Hash, Whole, Unsteady, Growing])
@pytest.mark.parametrize("num_scored", [NUM_WARM, NUM_ITEMS])
@pytest.mark.parametrize("cold_items", ["drop", "keep"])
@pytest.mark.parametrize("exclude_seen", [False, True])
@pytest.mark.parametrize("whole", [0, 2048])
def test_ranks_equal_those_of_a_full_matrix(
    monkeypatch: pytest.MonkeyPatch,
    cls: type[Hash],
    num_scored: int,
    cold_items: str,
    exclude_seen: bool,
    whole: int,
) -> None:
    monkeypatch.setattr(ranking, "WHOLE", whole)
    seeds = iter(range(1000))
    for ties in TIES:
        # Outside of the candidates, there is only the score of a list.
        for most_popular in (None,) if cls is Unsteady else (None, 12, 35):
            monkeypatch.setattr(ranking, "BLOCK", int(7 + next(seeds) % 30))
            monkeypatch.setattr(evaluator, "SESSIONS_TOGETHER", 5 + next(seeds))
            rows = random_rows(next(seeds), count=25)  # the long ones have many repeats
            context = CONTEXTS[next(seeds) % 3]
            sessions = with_context(rows, context)
            how = protocol(
                ties=ties,
                cold_items=cold_items,
                exclude_seen=exclude_seen,
                most_popular=most_popular,
            )
            found = listed(evaluate(cls(num_scored), sessions, how))
            assert found == brute(rows, num_scored, how, sessions.context)


def test_the_cases_have_what_they_test() -> None:
    """Targets in the history, and items of it ahead of the target and tied with it."""
    rows = random_rows(3, count=25)
    with_seen = brute(rows, NUM_WARM, protocol(ties="conservative"), None)
    ranks = {
        ties: brute(rows, NUM_WARM, protocol(ties=ties, exclude_seen=True), None) for ties in TIES
    }
    hidden = [rank == math.inf for *_, rank in ranks["median"]]
    assert 20 < sum(hidden) < len(hidden) - 20
    fewer = [a[3] - b[3] for a, b in zip(with_seen, ranks["conservative"], strict=True)]
    assert max(x for x in fewer if math.isfinite(x)) > 3
    assert ranks["standard"] != ranks["median"] != ranks["conservative"]


def test_hand_worked() -> None:
    """Scores 9 5 7 5 5 8, target 1: ahead of it are 0, 2 and 5; 3 and 4 are tied."""
    ranker = Fixed(torch.tensor([[9.0, 5.0, 7.0, 5.0, 5.0, 8.0]]))

    def ranks(target: int, *seen: int, limit: int | None = None) -> list[float]:
        history = torch.tensor([[-1, *seen]])
        args = (ranker, ranker.begin(1), torch.tensor([target]))
        return [rank_targets(*args, ties, limit, history).item() for ties in TIES]

    assert ranks(1) == [4.0, 6.0, 5.0]
    assert ranks(1, 0) == [3.0, 5.0, 4.0]
    assert ranks(1, 0, 0, 3, 0, 3) == [3.0, 4.0, 3.5]
    assert ranks(1, 5, 2, 0, 3, 4) == [1.0, 1.0, 1.0]
    assert ranks(1, 5, 1, 0) == [math.inf] * 3
    assert ranks(4, 0, 5, limit=3) == [2.0, 3.0, 2.5]  # against 0, 1 and 2 only
    assert ranks(9, 0) == [math.inf] * 3


def test_seen_rows_are_ranked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "WHOLE", 0)
    calls: list[int] = []
    rank_rows = ranking._rank_rows

    def spy(query: Any, asked: Any, cut: Any) -> Any:
        calls.append(cut.whole)
        return rank_rows(query, asked, cut)

    monkeypatch.setattr(ranking, "_rank_rows", spy)
    rows = random_rows(4, count=25)
    evaluate(Unsteady(NUM_WARM), make_sessions(rows), protocol(exclude_seen=True))
    assert set(calls) == {False, True}


def test_without_exclude_seen_no_history_is_carried(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(ranking, "distinct", refused)
    monkeypatch.setattr(ranking.SeenItems, "of", refused)
    evaluate(Hash(NUM_WARM), make_sessions(random_rows(5)), protocol())
    with pytest.raises(AssertionError):
        evaluate(Hash(NUM_WARM), make_sessions(random_rows(5)), protocol(exclude_seen=True))


def test_histories_held_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long histories are ranked in smaller groups, with the same result."""
    rows = random_rows(6, count=40)
    how = protocol(exclude_seen=True)
    expected = listed(evaluate(Hash(NUM_WARM), make_sessions(rows), how))
    sizes: list[tuple[int, int]] = []

    def spy(*args: Any) -> Tensor:
        sizes.append(tuple(args[5].shape))
        return rank_targets(*args)

    monkeypatch.setattr(pool, "rank_targets", spy)
    for most in (2**22, 300, 1):
        sizes.clear()
        monkeypatch.setattr(pool, "SEEN_TOGETHER", most)
        assert listed(evaluate(Hash(NUM_WARM), make_sessions(rows), how)) == expected
        # The targets of one step, at most 40 with 29 seen items, come together.
        assert (max(count * width for count, width in sizes) > 40 * 29) == (most > 300)
