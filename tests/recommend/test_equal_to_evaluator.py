"""The recommender ranks as the evaluator does, for every architecture and every baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p_rnn.baselines import BASELINES
from p_rnn.data.dataset import Sessions, open_dataset
from p_rnn.evaluation.ranks_file import RANKS, read_ranks
from p_rnn.models.architectures import MODELS
from p_rnn.recommend import Recommender, Top, load
from tests.recommend.shop import COUNTING, best, run_shop, write_shop

FULL = ("gru4recf", "bpr_mf")  # trained without sampled negatives
NETWORKS = [f"model={name}{' num_negatives=null' * (name in FULL)}" for name in MODELS]
KEPT = ["evaluation.cold_items=keep"]


@pytest.fixture(scope="module", params=[False, True], ids=["warm", "cold"])
def place(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cold" if request.param else "warm")
    write_shop(folder / "raw", cold=request.param)
    return folder


def test_sessions(place: Path) -> tuple[Sessions, np.ndarray]:
    (folder,) = (place / "prepared").glob("tiny-*")
    dataset = open_dataset(folder)
    return dataset.sessions("test"), dataset.item_ids


def ranks_of(recommender: Recommender, place: Path, **options: Any) -> list[tuple[Any, ...]]:
    """(session, item, rank) of every event after the first: conservative, infinite if not there."""
    sessions, ids = test_sessions(place)
    rows = np.split(sessions.items, sessions.offsets[1:-1])
    targets = [(s, t) for s, row in enumerate(rows) for t in range(1, len(row))]
    histories = [ids[rows[s][:t]].tolist() for s, t in targets]
    tops = recommender.recommend(histories, k=10**6, **options)
    return [
        (s, rows[s][t], rank_in(top, ids[rows[s][t]]))
        for (s, t), top in zip(targets, tops, strict=True)
    ]


def rank_in(top: Top, target: Any) -> float:
    if target not in top.ids:
        return float("inf")
    score = top.scores[top.ids.index(target)]
    return float(sum(other >= score for other in top.scores))


def evaluated(place: Path, folder: str) -> list[tuple[Any, ...]]:
    ranks = read_ranks(place / folder / RANKS)
    return list(zip(ranks.session.tolist(), ranks.item.tolist(), ranks.rank.tolist(), strict=True))


CASES = [
    *NETWORKS,
    "model=parallel strategy=residual num_epochs=2",
    "model=id_only num_layers=2 cell=lstm ema=0.5",
    "model=parallel cell=attention cell.span=3",
    "model=concat model.output=features",
    "model=parallel model.output=both",
    "model=parallel_shared model.output=both model.input=embedding",
    *(" ".join([f"model={name}", *COUNTING]) for name in BASELINES),
]


@pytest.mark.parametrize("model", CASES)
def test_the_ranks_are_equal(model: str, place: Path) -> None:
    """Each in two worlds, in one of them without the items of the session."""
    seen = (CASES.index(model) + place.name.startswith("cold")) % 2 == 1
    words = [*model.split(), *KEPT, f"evaluation.exclude_seen={str(seen).lower()}"]
    run_shop(place, model, *words)
    recommender = load(best(place, model), device="cpu")
    expected = evaluated(place, model)
    found = ranks_of(recommender, place, exclude_seen=seen)
    assert len(expected) > 100
    assert found == expected


test_sessions.__test__ = False  # type: ignore[attr-defined]
