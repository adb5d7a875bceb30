"""A world in which the best recall of items without a click is known, and who reaches it.

An item has a style and a brand. All clicks of a session are of one style and brand, but for a share
of strays; which item of them is chance. On the last day a new item of each style and brand appears.
So a ranker that knows the features of all items can do no better than put the items of that style
and brand first, and for new items too the target is among them unless it is a stray.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from p_rnn.runs.experiment import train
from p_rnn.settings.hydra_glue import load_config

KINDS, WARM, COLD, STRAY, DAYS = 12, 5, 3, 0.1, 8  # styles and brands; items of a pair
EVERY_DAY = 500  # sessions
K = 10
PER_PAIR = WARM + COLD


def world(raw: Path) -> pd.DataFrame:
    """Write events.csv and items.csv; returns the items."""
    rng = np.random.default_rng(0)
    pairs = pd.DataFrame(
        [(style, brand) for style in range(KINDS) for brand in range(KINDS)],
        columns=["style", "brand"],
    )
    items = pairs.loc[np.repeat(pairs.index, PER_PAIR)].reset_index(drop=True)
    items["late"] = np.tile(np.arange(PER_PAIR) >= WARM, len(pairs))
    items["sku"] = rng.permutation(len(items)) + 1
    rows = []
    for session in range(DAYS * EVERY_DAY):
        day = session // EVERY_DAY
        there = items if day == DAYS - 1 else items[~items["late"]]
        style, brand = rng.integers(KINDS, size=2)
        mine = there[(there["style"] == style) & (there["brand"] == brand)]["sku"].to_numpy()
        for click in range(5):
            pool = there["sku"].to_numpy() if click and rng.random() < STRAY else mine
            rows.append((session, rng.choice(pool), day * 86_400 + session + click))
    events = pd.DataFrame(rows, columns=["visit", "sku", "at"])
    raw.mkdir()
    events.to_csv(raw / "events.csv", index=False)
    items["style"], items["brand"] = (
        "s" + items["style"].astype(str),
        "b" + items["brand"].astype(str),
    )
    items[["sku", "style", "brand"]].to_csv(raw / "items.csv", index=False)
    return items


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("cold")
    world(folder / "raw")
    return folder


def cold_recall(place: Path, output: str) -> tuple[float, dict[str, Any]]:
    config = load_config(
        "dataset=table",
        "dataset.name=cold",
        "dataset.path=events.csv",
        "dataset.columns.session=visit",
        "dataset.columns.item=sku",
        "dataset.columns.time=at",
        "dataset.item_table.path=items.csv",
        "dataset.item_table.item=sku",
        "dataset.min_item_support=null",
        "dataset.validation=false",
        "dataset.test_days=1",
        f"paths.raw={place / 'raw'}",
        f"paths.prepared={place / 'prepared'}",
        "model=concat",
        f"model.output={output}",
        "loss=cross_entropy",
        "loss.logq=1",
        "num_negatives=128",
        "num_epochs=8",
        "batch_size=32",
        "hidden_size=32",
        "learning_rate=0.05",
        f"evaluation.cutoffs=[{K}]",
        "evaluation.cold_items=keep",
        "tracking.progress=false",
        "tracking.tensorboard=false",
        "device=cpu",
    )
    result = train(config, place / output)["results"]["test"]["concat"]
    (cold,) = (row for row in result["by_support"] if row["to"] == 0)
    assert cold["targets"] > 300
    return cold[f"recall@{K}"], result


def test_features_reach_the_best_possible_recall_of_new_items(place: Path) -> None:
    # A target that is no stray is one of the items of its pair, all of them among the first K.
    best = (1 - STRAY) * min(1, K / PER_PAIR)
    both, _ = cold_recall(place, "both")
    features, _ = cold_recall(place, "features")
    free, _ = cold_recall(place, "free")
    assert both > 0.8 * best
    assert features > 0.8 * best
    assert free == 0
