"""Two worlds: one where only features can tell what comes next, and one where only ids can."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from p_rnn.runs.experiment import train
from p_rnn.settings.hydra_glue import load_config

GROUPS, GOODS, SIGNS = 10, 20, 1200  # goods per group; signs in all, half of them seen as inputs
DAY = 86_400
SETTINGS = (
    "dataset=table",
    "dataset.path=log.csv",
    "dataset.item_table.path=items.csv",
    "dataset.features.group.kind=category",
    "dataset.min_item_support=1",
    "dataset.test_days=1",
    "dataset.validation=false",
    "loss=cross_entropy",
    "loss.logq=1",
    "num_negatives=64",
    "batch_size=16",
    "hidden_size=32",
    "learning_rate=0.1",
    "num_epochs=4",
    "tracking.progress=false",
    "tracking.tensorboard=false",
    "device=cpu",
)


def feature_world(raw: Path) -> None:
    """Sessions of a sign and then a good of the sign's group, uniformly: the best recall@20 is 1.

    The signs of the test are seen in training too, but only as targets that come after any other
    sign: their ids tell nothing, and those of their group have never been read.
    """
    rng = np.random.default_rng(0)
    sign_group = rng.integers(GROUPS, size=SIGNS)
    old, new = np.arange(0, SIGNS, 2), np.arange(1, SIGNS, 2)  # read in training, and in the test
    rows, session = [], 0
    for day, signs, count in ((0, old, 3000), (2, new, 600)):
        for k in range(count):
            sign = rng.choice(signs)
            good = SIGNS + GOODS * sign_group[sign] + rng.integers(GOODS)
            time = day * DAY + 20 * k
            rows += [(session, sign, time), (session, good, time + 5)]
            session += 1
    for k in range(1200):
        sign, other = rng.choice(old), rng.choice(new)
        rows += [(session, sign, 20 * k), (session, other, 20 * k + 5)]
        session += 1
    goods = np.repeat(np.arange(GROUPS), GOODS)
    write(raw, rows, np.concatenate([sign_group, goods]))


def id_world(raw: Path) -> None:
    """Item i leads to i + 1, around the circle, and all items look the same: the best is 1."""
    rng, items = np.random.default_rng(1), 400
    rows = []
    for session in range(2500):
        start, time = int(rng.integers(items)), session * 100
        rows += [(session, (start + t) % items, time + t) for t in range(4)]
    write(raw, rows, np.zeros(items, dtype=np.int64))


def write(raw: Path, rows: list[tuple[int, int, int]], groups: np.ndarray) -> None:
    raw.mkdir()
    pd.DataFrame(rows, columns=["session", "item", "time"]).to_csv(raw / "log.csv", index=False)
    items = pd.DataFrame({"item": range(len(groups)), "group": [f"g{g}" for g in groups]})
    items.to_csv(raw / "items.csv", index=False)


@pytest.fixture(scope="module")
def recall(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, float]]:
    """Test recall@20 of a model and of popularity in one of the worlds."""
    place = tmp_path_factory.mktemp("worlds")
    for name, make in (("features", feature_world), ("ids", id_world)):
        make(place / name)

    @cache
    def run(world: str, model: str) -> dict[str, float]:
        paths = (f"paths.raw={place / world}", f"paths.prepared={place / 'prepared'}")
        days = ("dataset.test_days=0.5",) if world == "ids" else ()
        config = load_config(*SETTINGS, *days, *paths, f"model={model}")
        table = train(config, place / f"{world}-{model}")["results"]["test"]
        return {ranker: result["metrics"]["recall@20"] for ranker, result in table.items()}

    return run


def test_where_only_features_tell(recall: Callable[..., dict[str, float]]) -> None:
    popular = recall("features", "id_only")["pop"]
    assert 0.05 < popular < 0.2
    assert recall("features", "id_only")["id_only"] <= 1.5 * popular
    for model in ("parallel", "feature_only"):
        assert recall("features", model)[model] >= 0.8


def test_where_only_ids_tell(recall: Callable[..., dict[str, float]]) -> None:
    chance = 20 / 400  # all items are equally popular
    popular = max(chance, recall("ids", "feature_only")["pop"])
    assert recall("ids", "feature_only")["feature_only"] <= 1.5 * popular
    for model in ("parallel", "id_only"):
        assert recall("ids", model)[model] >= 0.8
