"""REES46, OTTO and Amazon Reviews 2023 in the layouts in which they are published."""

from __future__ import annotations

import datetime
import gzip
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p_rnn.data.dataset import Dataset
from p_rnn.data.features import BagFeature, DenseFeature, prepare_features
from p_rnn.data.prepare import prepare
from p_rnn.settings.hydra_glue import load_config

OCTOBER = 1_569_888_000  # 2019-10-01 UTC
DAY_S = 86_400
REES46 = (
    "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session"
)


def sessions(num_sessions: int) -> list[list[int]]:
    """Items 0 to 7, none twice in a row."""
    rng = random.Random(1)
    found = []
    for _ in range(num_sessions):
        items = [rng.randrange(8)]
        while len(items) < 6:
            items.append(rng.choice([i for i in range(8) if i != items[-1]]))
        found.append(items)
    return found


def run(raw: Path, *overrides: str) -> tuple[Dataset, dict[str, Any]]:
    config = load_config(*overrides, f"paths.raw={raw}", f"paths.prepared={raw / 'prepared'}")
    dataset = prepare(config.dataset, config.paths)
    if "item_table" not in config.dataset.parameters:
        return dataset, {}
    return dataset, prepare_features(config.dataset, config.paths, dataset, None)


def words(feature: BagFeature, dataset: Dataset, item: Any) -> set[str]:
    """The tokens of a raw item."""
    folder = dataset.folder / "features" / f"{feature.name}-{feature.fingerprint}"
    vocabulary = json.loads((folder / "vocabulary.json").read_text())
    index = dataset.item_ids.tolist().index(item)
    own = feature.tokens[feature.offsets[index] : feature.offsets[index + 1]]
    return {vocabulary[token] for token in own}


def dropped(dataset: Dataset) -> dict[str, int]:
    return {row["rule"]: row["events"] for row in dataset.manifest["rules"] if row["events"]}


def test_rees46(tmp_path: Path) -> None:
    """Two months, one compressed; 19 digits, gaps, carts, a row without session, other prices."""
    lines = []
    for s, items in enumerate(sessions(60)):
        for k, item in enumerate(items):
            time = datetime.datetime.fromtimestamp(OCTOBER + s * DAY_S // 2 + k * 30, datetime.UTC)
            code = f"{2053013555631882655 + item % 2}"
            place = "" if item == 3 else f"electronics.part{item % 2}"
            brand = "" if item == 4 else f"b{item % 3}"
            row = [
                f"{time:%Y-%m-%d %H:%M:%S} UTC",
                "view",
                f"{1000 + item}",
                code,
                place,
                brand,
                f"{10 * item + s / 100:.2f}",
                f"{500 + s}",
                f"{s:08x}-aaaa-bbbb",
            ]
            lines.append(",".join(row))
            if k == 2:
                lines.append(",".join([*row[:1], "cart", *row[2:]]))
    lines.insert(7, f"2019-10-01 00:00:09 UTC,view,1001,{2053013555631882655 + 1},,,1.00,7,")
    lines.insert(9, lines[8])  # an event twice
    folder = tmp_path / "rees46"
    folder.mkdir()
    (folder / "2019-Oct.csv").write_text("\n".join([REES46, *lines[:200]]) + "\n")
    november = "\n".join([REES46, *lines[200:]]) + "\n"
    (folder / "2019-Nov.csv.gz").write_bytes(gzip.compress(november.encode()))
    dataset, features = run(tmp_path, "dataset=rees46")
    # Nov is read before Oct, as 2019-Nov sorts first: times decide all the same.
    assert dropped(dataset) == {
        "read": 60 * 7 + 2,
        "missing_ids": 1,
        "duplicates": 1,
        "event_types": 60,
        "left": 60 * 6,
    }
    assert sorted(dataset.item_ids.tolist()) == [1000 + i for i in range(8)]
    assert words(features["category"], dataset, 1002) == {"2053013555631882655"}
    assert words(features["category"], dataset, 1005) == {"2053013555631882656"}
    assert words(features["categories"], dataset, 1005) == {"electronics", "part1"}
    assert words(features["categories"], dataset, 1003) == set()
    assert words(features["brand"], dataset, 1004) == set()
    price = features["price"]
    assert isinstance(price, DenseFeature)
    assert len(np.unique(price.values)) == 8


def test_otto(tmp_path: Path) -> None:
    lines = []
    for s, items in enumerate(sessions(60)):
        start = (OCTOBER + s * DAY_S // 2) * 1000
        events = [
            {"aid": item, "ts": start + 30_000 * k, "type": "clicks"}
            for k, item in enumerate(items)
        ]
        events.append({**events[-1], "type": "carts"})
        lines.append(json.dumps({"session": s, "events": events}))
    (tmp_path / "otto").mkdir()
    (tmp_path / "otto" / "otto-recsys-train.jsonl").write_text("\n".join(lines) + "\n")
    dataset, _ = run(tmp_path, "dataset=otto")
    assert dropped(dataset) == {"read": 420, "event_types": 60, "left": 360}
    train = dataset.sessions("train")
    assert dataset.item_ids[train.items[:6]].tolist() == sessions(60)[0]
    assert train.times[:2].tolist() == [OCTOBER, OCTOBER + 30]


@pytest.mark.parametrize("liked", [False, True])
def test_amazon_reviews(tmp_path: Path, liked: bool) -> None:
    lines = []
    for u, items in enumerate(sessions(60)):
        for k, item in enumerate(items):
            review = {
                "rating": 5.0 if k % 3 else 2.0,
                "title": "Good",
                "text": 'It "works"\n, it does',
                "images": [{"small_image_url": "x"}],
                "asin": f"B{item:09}",
                "parent_asin": f"B{item:09}",
                "user_id": f"AE{u}",
                "timestamp": (OCTOBER + u * 3600 + k * 60) * 1000 + 588,
                "helpful_vote": 0,
                "verified_purchase": True,
            }
            lines.append(json.dumps(review))
    lines.append(lines[-1])  # the same review twice
    meta = [
        {
            "main_category": "All Beauty",
            "title": f"Soap number {'abcdefgh'[i]}x",
            "average_rating": 4.8,
            "features": [],
            "description": [],
            "price": None if i else "from 14.99",
            "images": [{}],
            "store": None if i == 3 else f"Store {i % 2}",
            "categories": [],
            "details": {"Brand": "x"},
            "parent_asin": f"B{i:09}",
            "bought_together": None,
        }
        for i in range(8)
    ]
    folder = tmp_path / "amazon-reviews"
    folder.mkdir()
    (folder / "All_Beauty.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    text = "\n".join(map(json.dumps, meta))
    (folder / "meta_All_Beauty.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    more = ['dataset.where="rating >= 4"', "dataset.min_session_length=null"] if liked else []
    dataset, features = run(tmp_path, "dataset=amazon_reviews", *more)
    if liked:
        # the rating of each user's first and fourth review is 2; the one twice is liked
        assert dropped(dataset) == {"read": 361, "where": 120, "duplicates": 1, "left": 240}
    else:
        assert dropped(dataset) == {"read": 361, "duplicates": 1, "left": 360}
    assert {"soap", "number", "ax"} <= words(features["title"], dataset, "B000000000")
    assert words(features["store"], dataset, "B000000005") == {"Store 1"}
    assert words(features["store"], dataset, "B000000003") == set()
