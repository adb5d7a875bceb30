"""Items with features, added to a loaded recommender, equal those that were there all the time."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from p_rnn.recommend import Recommender, load
from p_rnn.runs.comparison import evaluate_checkpoint
from p_rnn.settings.commands import EvaluateConfig, EvaluationOverrides
from p_rnn.settings.errors import UserError
from tests.recommend.shop import COUNTING, best, run_shop, table_of, text_id, write_shop

BOTH = ["model=parallel_shared", "model.output=both"]


@pytest.fixture(scope="module", params=[False, True], ids=["integers", "text"])
def shop(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bool]:
    place = tmp_path_factory.mktemp("shop")
    write_shop(place / "raw", cold=True, text=request.param)
    run_shop(place, "run", *BOTH)
    run_shop(place, "features", "model=concat", "model.output=features")
    return place, request.param


@pytest.fixture
def recommender(shop: tuple[Path, bool]) -> Recommender:
    return load(best(shop[0], "run"), device="cpu")


def frame_of(numbers: list[int], text: bool) -> pd.DataFrame:
    frame = table_of(numbers)
    if text:
        frame["item"] = [text_id(k) for k in numbers]
    return frame


@pytest.mark.parametrize("run", ["run", "features"])
def test_they_score_as_if_they_had_been_there(shop: tuple[Path, bool], run: str) -> None:
    """Items that were in the prepared data set without a training event, under other ids."""
    place, text = shop
    recommender = load(best(place, run), device="cpu")
    before = recommender.num_items
    cold = [k for k in range(100, 110) if recommender.catalogue.index([_id(k, text)])[0] >= 0]
    assert len(cold) > 2
    live = recommender.start()
    live.click(_id(3, text))
    old = recommender.recommend([_id(3, text), _id(cold[1], text)], 10**6)
    twins = frame_of(cold, text).assign(item=[_id(k + 900, text) for k in cold])
    assert recommender.add_items(twins) == len(cold)
    assert recommender.num_items == before + len(cold) == len(recommender.ids)
    new = recommender.recommend([_id(3, text), _id(cold[1] + 900, text)], 10**6)
    assert new.skipped == []
    scores = dict(zip(new.ids, new.scores, strict=True))
    for raw, score in zip(old.ids, old.scores, strict=True):
        assert scores[raw] == pytest.approx(score, rel=1e-5, abs=1e-6)
    for k in cold:
        pair = [scores[_id(k, text)], scores[_id(k + 900, text)]]
        assert pair[0] == pytest.approx(pair[1], rel=1e-5, abs=1e-6)
    assert live.click(_id(cold[1] + 900, text))  # sessions that began before
    assert live.top(10**6).ids == new.ids
    titles = recommender.labels([_id(cold[0] + 900, text)])["title"].tolist()
    assert titles == recommender.labels([_id(cold[0], text)])["title"].tolist()


def test_they_can_be_saved(shop: tuple[Path, bool], tmp_path: Path) -> None:
    place, text = shop
    recommender = load(best(place, "run"), device="cpu")
    recommender.add_items(frame_of([2000, 2001], text))
    recommender.save(tmp_path / "more.pt")
    again = load(tmp_path / "more.pt", device="cpu")
    session = [_id(3, text), _id(2000, text)]
    assert again.recommend(session, 10**6) == recommender.recommend(session, 10**6)
    assert again.add_items(frame_of([2001, 2002], text)) == 1


def test_they_are_targets_and_candidates_of_other_events(
    shop: tuple[Path, bool], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place, text = shop
    recommender = load(best(place, "run"), device="cpu")
    recommender.add_items(frame_of([2000, 2001], text))
    recommender.save(tmp_path / "more.pt")
    sessions = [[_id(k, text), _id(2000 + k % 3, text)] for k in range(1, 7)]
    events = pd.DataFrame([(s, i) for s, own in enumerate(sessions) for i in own])
    events = events.set_axis(["session", "item"], axis=1).assign(time=range(len(events)))
    events.to_csv(place / "raw" / "next.csv", index=False)
    known, found = recommender.num_items, {}
    measured = EvaluationOverrides(cold_items="keep", cutoffs=[1, known], baselines=[])
    for path in (best(place, "run"), tmp_path / "more.pt"):
        config = EvaluateConfig(str(path), events="next.csv", evaluation=measured, device="cpu")
        results, _ = evaluate_checkpoint(config)
        found[path.name] = results["next.csv"]["parallel_shared"]
    assert {name: each["targets"] for name, each in found.items()} == {"best.pt": 6, "more.pt": 6}
    assert found["best.pt"]["metrics"][f"recall@{known}"] == 0
    assert found["more.pt"]["metrics"][f"recall@{known}"] == pytest.approx(4 / 6)  # not of 2002
    ranks = [
        recommender.recommend([first], known).ids.index(last) + 1
        for first, last in sessions
        if last != _id(2002, text)
    ]
    mrr = found["more.pt"]["metrics"][f"mrr@{known}"]
    assert mrr == pytest.approx(sum(1 / rank for rank in ranks) / 6)
    lines = [each.message for each in caplog.records if "does not know" in each.message]
    assert [re.findall(r"\d+ (?:events|items)", line) for line in lines] == [
        ["6 events", "3 items"],
        ["2 events", "1 items"],
    ]


def _id(number: int, text: bool) -> Any:
    return text_id(number) if text else number


def test_known_ones_stay(shop: tuple[Path, bool], recommender: Recommender) -> None:
    _, text = shop
    before = recommender.recommend([_id(3, text)])
    changed = frame_of([3, 4], text).assign(tags="t1")
    assert recommender.add_items(changed) == 0
    assert recommender.recommend([_id(3, text)]) == before
    assert recommender.add_items(pd.concat([changed, frame_of([2000], text)])) == 1
    assert recommender.add_items(frame_of([2000, 2001], text)) == 1


def test_missing_values_and_unknown_tokens(
    shop: tuple[Path, bool], recommender: Recommender, caplog: pytest.LogCaptureFixture
) -> None:
    _, text = shop
    some = pd.DataFrame({"sku": [_id(3001, text), _id(3002, text)], "size": [1.5, None]})
    assert recommender.add_items(some, item="sku") == 2
    assert "items: there is no column 'tags'; its values count as missing" in caplog.text
    assert "items: 1 of 2 new items have no value in size" in caplog.text
    caplog.clear()
    recommender.add_items(frame_of([3003], text))
    assert not caplog.records
    assert recommender.labels([_id(3001, text)])["size"].tolist() == [1.5]
    assert recommender.labels([_id(3001, text)])["title"].tolist() == [None]
    top = recommender.recommend([_id(3002, text)], 10**6)
    assert _id(3001, text) in top.ids


def test_a_bad_frame_changes_nothing(shop: tuple[Path, bool], recommender: Recommender) -> None:
    _, text = shop
    good = frame_of([5000, 5001], text)
    before = recommender.num_items
    bad: list[tuple[Any, str]] = [
        (good.to_dict("list"), "items must be a pandas DataFrame, not dict"),
        (good.rename(columns={"item": "sku"}), "column 'item' of the ids is missing"),
        (good[["item", "title"]], "no column for the features"),
        (good.assign(item=[_id(5000, text)] * 2), "more than one row"),
        (good.assign(item=[_id(5000, text), None]), "is no id"),
        (good.assign(size=[1.0, float("inf")]), "finite"),
    ]
    if not text:
        bad.append((good.assign(item=["5000", "x"]), "'x' is no id; those of the other items are"))
    for frame, says in bad:
        with pytest.raises(UserError) as error:
            recommender.add_items(frame)
        assert says in str(error.value)
        assert "\n" not in str(error.value)
    assert recommender.num_items == before
    assert recommender.add_items(good) == 2


@pytest.mark.parametrize(
    "words", [["model=id_only"], ["model=parallel"], ["model=feature_markov", *COUNTING]]
)
def test_models_that_score_only_what_they_know(words: list[str], tmp_path: Path) -> None:
    write_shop(tmp_path / "raw")
    run_shop(tmp_path, "run", *words)
    recommender = load(best(tmp_path, "run"), device="cpu")
    with pytest.raises(UserError, match=r"model\.output=both"):
        recommender.add_items(table_of([500]))


def test_from_the_prepared_data_set(tmp_path: Path) -> None:
    """A checkpoint without its items finds there what its features learned."""
    write_shop(tmp_path / "raw", cold=True)
    run_shop(tmp_path, "bare", *BOTH, "portable=false")
    shutil.rmtree(tmp_path / "raw")
    recommender = load(best(tmp_path, "bare"), device="cpu")
    assert recommender.add_items(table_of([500])) == 1
    assert 500 in recommender.recommend([500], 10**6).ids
