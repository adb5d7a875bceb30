"""Sessions, live sessions, candidates, what was seen, and what is unknown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from p_rnn.recommend import Recommender, load, sessions
from p_rnn.recommend import recommender as module
from p_rnn.settings.errors import UserError
from tests.recommend.shop import COUNTING, best, run_shop, write_shop

MODELS = {
    "id_only": ["model=id_only", "num_layers=2"],
    "parallel": ["model=parallel", "model.output=both"],
    "session_pop": ["model=session_pop", *COUNTING],
    "v_sknn": ["model=v_sknn", *COUNTING],
    "markov": ["model=markov", *COUNTING],
}
SESSIONS = [[3, 1, 4, 1, 5], [9], [], [2, 6, 5, 3, 5, 8, 9, 7], [1, 1], [999, 4], [8, "8"]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder / "raw", cold=True)
    for name, words in MODELS.items():
        run_shop(folder, name, *words)
    return folder


@pytest.fixture(scope="module", params=MODELS)
def recommender(request: Any, place: Path) -> Recommender:
    return load(best(place, request.param), device="cpu")


@pytest.fixture(scope="module")
def parallel(place: Path) -> Recommender:
    return load(best(place, "parallel"), device="cpu")


def same(one: Any, other: Any) -> None:
    """Equal but for the last bits of the scores, which depend on how many are computed at once."""
    assert one.skipped == other.skipped
    assert one.scores == pytest.approx(other.scores, rel=1e-5, abs=1e-6)
    assert one.ids == other.ids


@pytest.mark.parametrize("seen", [False, True])
def test_many_sessions_equal_one_by_one(
    recommender: Recommender, seen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [recommender.recommend(each, 10, seen) for each in SESSIONS]
    for sizes in ((256, 2**22), (2, 2**22), (3, 8)):
        monkeypatch.setattr(module, "TOGETHER", sizes[0])
        monkeypatch.setattr(module, "SORTED", 2 * sizes[0])
        monkeypatch.setattr(module, "EVENTS", sizes[1])
        together = recommender.recommend(SESSIONS, 10, seen)
        generated = list(recommender.recommend_many(iter(SESSIONS), 10, seen))
        for one, other, third in zip(alone, together, generated, strict=True):
            same(one, other)
            same(one, third)


@pytest.mark.parametrize("seen", [False, True])
def test_a_live_session_equals_recommend(recommender: Recommender, seen: bool) -> None:
    for session in SESSIONS:
        live = recommender.start()
        for length in range(len(session) + 1):
            top = recommender.recommend(session[:length], 10, seen)
            same(live.top(10, exclude_seen=seen), top)
            if length < len(session):
                assert live.click(session[length]) == (session[length] != 999)
        assert live.history == [each for each in session if each != 999]
        assert live.skipped == [each for each in session if each == 999]


def test_clicks_in_many_live_sessions(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sessions of different lengths, one click each in every round."""
    for size in (256, 2):
        monkeypatch.setattr(sessions, "TOGETHER", size)
        live = [recommender.start() for _ in SESSIONS]
        for turn in range(max(map(len, SESSIONS))):
            going = [n for n, session in enumerate(SESSIONS) if turn < len(session)]
            clicks = [SESSIONS[n][turn] for n in going]
            read = recommender.step_many([live[n] for n in going], clicks)
            assert read == [each != 999 for each in clicks]
        for own, session, top in zip(live, SESSIONS, recommender.top_many(live, 7), strict=True):
            same(top, recommender.recommend(session, 7))
            same(own.top(7, True), recommender.recommend(session, 7, True))


def test_states_do_not_keep_those_of_others(parallel: Recommender) -> None:
    live = [parallel.start() for _ in range(5)]
    parallel.step_many(live, [1, 2, 3, 4, 5])
    for own in live:
        assert all(x.untyped_storage().nbytes() == x.nbytes for x in own.state)
    with pytest.raises(UserError, match="twice"):
        parallel.step_many([live[0], live[1], live[0]], [1, 2, 3])


def test_no_session_at_all(recommender: Recommender) -> None:
    assert recommender.step_many([], []) == []
    assert recommender.top_many([]) == []
    assert list(recommender.recommend_many([])) == []
    assert recommender.recommend([[], []], 3)[1].ids == recommender.recommend([], 3).ids


def test_exclude_seen(recommender: Recommender) -> None:
    whole = recommender.recommend([3, 1, 4], 1000)
    assert len(whole) == recommender.num_items
    left = recommender.recommend([3, 1, 4], 1000, exclude_seen=True)
    kept = [(raw, score) for raw, score in zip(whole.ids, whole.scores, strict=True)]
    kept = [each for each in kept if each[0] not in (3, 1, 4)]
    assert left.ids == [raw for raw, _ in kept]
    assert left.scores == [score for _, score in kept]


def test_candidates(recommender: Recommender) -> None:
    whole = recommender.recommend([3, 1], 1000)
    some = [7, "2", 1, 9, 7]
    top = recommender.recommend([3, 1], 1000, candidates=some)
    assert top.ids == [raw for raw in whole.ids if raw in (7, 2, 1, 9)]
    assert top.scores == pytest.approx(
        [whole.scores[whole.ids.index(raw)] for raw in top.ids], rel=1e-5, abs=1e-6
    )
    assert recommender.recommend([3, 1], 2, candidates=some).ids == top.ids[:2]
    seen = recommender.recommend([3, 1], 9, exclude_seen=True, candidates=np.array([7, 1]))
    assert seen.ids == [7]
    assert recommender.recommend([3], 5, candidates=[]).ids == []


@pytest.mark.parametrize(
    ("ids", "says"),
    [
        (["nothing"], "no such candidates: 'nothing'"),
        ([1, 555, 666], "no such candidates: '555', '666'"),
        (list(range(500, 520)), "'504' and 15 more"),
        ("12", "candidates must be a list"),
    ],
)
def test_unknown_candidates(recommender: Recommender, ids: Any, says: str) -> None:
    refused(lambda: recommender.recommend([1], candidates=ids), says)
    refused(lambda: recommender.start().top(candidates=ids), says)


def test_a_candidate_without_a_score(place: Path) -> None:
    """An item that occurs in no training event, for a network that scores only the others."""
    known = load(best(place, "id_only"), device="cpu")
    cold = known.catalogue.raw_ids()[known.num_items :].tolist()
    assert cold
    refused(lambda: known.recommend([1], candidates=cold[:1]), "scores no such candidates")
    assert known.recommend(cold[:1]).skipped == cold[:1]


def test_cold_items_are_read_and_recommended_by_their_features(parallel: Recommender) -> None:
    cold = int(max(parallel.ids))
    assert cold >= 100
    assert parallel.catalogue.support[parallel.catalogue.index([cold])] == 0
    top = parallel.recommend([3, cold], 1000)
    assert cold in top.ids
    assert top.skipped == []
    assert top.scores != parallel.recommend([3], 1000).scores


@pytest.mark.parametrize(
    "given",
    [
        [[1, 2], [3]],
        ((1, 2), (3,)),
        [np.array([1, 2]), np.array([3])],
        [pd.Series([1, 2]), [3]],
        pd.Series([[1, 2], [3]]),
        iter([[1, 2], [3]]),
        [["1", "2"], ["3"]],
    ],
    ids=lambda each: type(each).__name__,
)
def test_forms_of_many_sessions(given: Any, parallel: Recommender) -> None:
    tops = parallel.recommend(given, 3)
    assert isinstance(tops, list)
    same(tops[1], parallel.recommend([3], 3))


@pytest.mark.parametrize(
    "given", [[1, 2], (1, 2), np.array([1, 2]), pd.Series(["1", "2"]), torch.tensor([1, 2])]
)
def test_forms_of_one_session(given: Any, parallel: Recommender) -> None:
    same(parallel.recommend(given, 3), parallel.recommend([1, 2], 3))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("12", "must be a list of item ids"),
        (12, "must be a list of item ids"),
        ({1, 2}, "must be a list of item ids"),
        (pd.DataFrame({"item": [1]}), "must be a list of item ids"),
        ([[1], 2], "some sessions are lists"),
        ([["12"], "12"], "some sessions are lists"),
    ],
)
def test_what_is_no_session(given: Any, says: str, parallel: Recommender) -> None:
    refused(lambda: parallel.recommend(given), says)


@pytest.mark.parametrize("k", [0, -1, 2.5, "3", True, None])
def test_what_is_no_k(k: Any, parallel: Recommender) -> None:
    refused(lambda: parallel.recommend([1], k), "must be a whole number")
    refused(lambda: parallel.start().top(k), "must be a whole number")


def refused(run: Any, says: str) -> None:
    with pytest.raises(UserError) as error:
        run()
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_frames_show_the_item_table(recommender: Recommender) -> None:
    top = recommender.recommend([3, 1], 4)
    frame = top.to_frame()
    assert list(frame) == ["item", "score", "tags", "size", "title"]
    assert frame["item"].tolist() == top.ids
    for row in frame.itertuples():
        assert row.tags == f"t{row.item % 7}, t{row.item % 4}"
        assert row.size == row.item % 5 + 0.5
        title = f"Größe {row.item}, " + "x" * (3 * row.item)
        assert row.title == (title if len(title) <= 100 else title[:99] + "…")
    assert recommender.labels(["3", 1])["size"].tolist() == [3.5, 1.5]
    refused(lambda: recommender.labels([3, "x"]), "'x'")
    assert recommender.recommend([3], 2, candidates=[]).to_frame().empty


def test_what_it_says_of_itself(recommender: Recommender) -> None:
    assert recommender.config.model.name in repr(recommender)
    assert len(recommender.ids) == recommender.num_items
    live = recommender.start()
    live.click(3)
    live.click("none")
    assert repr(live) == "LiveSession: 1 read, 1 skipped"
