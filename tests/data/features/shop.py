"""A small prepared data set whose items have whatever properties a test wants."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from p_rnn.data.dataset import Dataset
from p_rnn.data.features import BagFeature, DenseFeature, Feature, prepare_features
from p_rnn.data.prepare import prepare
from p_rnn.data.readers.options import ColumnsConfig, ItemTableConfig
from p_rnn.settings.errors import UserError
from p_rnn.settings.sections import DatasetConfig, FeatureConfig, PathsConfig

DAY_S = 86_400
TRAIN = [(0, "abcde"), (100, "abcd"), (200, "abc"), (300, "ab")]
TEST = [(5 * DAY_S, "axy")]
ITEMS = list("abcdexy")  # by support: five training items, then the two of the test
F = FeatureConfig.of

# Values of the seven items
X = [1.0, 2.0, None, 4.0, 9.0, 11.0, None]  # 1, 2, 4, 9 in training: mean 4, variance 9.5
VECTORS = [np.float32([3, 4]), np.float32([0, 0]), None, *[np.float32([-5, 12])] * 4]
TAGS = [["x", "y"], ["x", "x"], None, [], ["y", "z"], ["w", "x"], ["w"]]
TEXTS = ["Red shoes, the red ones!", "blue shoes", None, "", "red hat", "green shoes", "green"]


class Shop:
    """A prepared data set of the seven ITEMS, whose item table holds what a test wants."""

    def __init__(self, folder: Path, integers: bool = False, **properties: list[Any]) -> None:
        self.raw = folder / "raw"
        self.raw.mkdir(parents=True)
        ids = [k + 1 if integers else item for k, item in enumerate(ITEMS)]
        rows = [
            (s, ids[ITEMS.index(item)], start + k)
            for s, (start, items) in enumerate(TRAIN + TEST)
            for k, item in enumerate(items)
        ]
        log = pd.DataFrame(rows, columns=["session", "item", "time"])
        log.to_csv(self.raw / "clicks.csv", index=False)
        table = None
        if properties:
            # another order than that of the index, and an item that nobody clicked
            frame = pd.DataFrame({"item": ids, **properties}).iloc[::-1]
            frame.to_parquet(self.raw / "items.parquet")
            table = ItemTableConfig(path="items.parquet")
        self.paths = PathsConfig(str(self.raw), str(folder / "prepared"))
        self.config = DatasetConfig.of(
            name="shop",
            path="clicks.csv",
            columns=ColumnsConfig(),
            item_table=table,
            min_item_support=None,
            validation=False,
            test_days=1.0,
        )
        self.dataset: Dataset = prepare(self.config, self.paths)
        assert self.dataset.item_ids.tolist() == ids
        assert self.dataset.num_train_items == 5

    def features(self, selected: list[str] | None = None, **features: F) -> dict[str, Feature]:
        config = replace(self.config, features=features)
        return prepare_features(config, self.paths, self.dataset, selected)

    def dense(self, **settings: Any) -> list[Any]:
        """The values of a feature with these settings."""
        feature = self.features(f=F(**settings))["f"]
        assert isinstance(feature, DenseFeature)
        values: list[Any] = feature.values.tolist()
        return values

    def bag(self, **settings: Any) -> BagFeature:
        feature = self.features(f=F(**settings))["f"]
        assert isinstance(feature, BagFeature)
        return feature

    def tokens(self, **settings: Any) -> list[set[str]]:
        """The tokens of each item as text."""
        feature = self.bag(**settings)
        words = self.vocabulary(feature)
        assert len(words) == feature.num_tokens
        return [set(row) for row in lists(feature, np.array(words, dtype=object)[feature.tokens])]

    def folder(self, feature: Feature) -> Path:
        return self.dataset.folder / "features" / f"{feature.name}-{feature.fingerprint}"

    def manifest(self, feature: Feature) -> dict[str, Any]:
        manifest: dict[str, Any] = json.loads((self.folder(feature) / "manifest.json").read_text())
        return manifest

    def vocabulary(self, feature: Feature) -> list[str]:
        words: list[str] = json.loads((self.folder(feature) / "vocabulary.json").read_text())
        return words

    def fitted(self) -> list[str]:
        """All that stands in the folder of features, temporaries included."""
        place = self.dataset.folder / "features"
        return sorted(path.name for path in place.iterdir()) if place.exists() else []

    def refused(self, *parts: str, **settings: Any) -> None:
        """The settings end in one line that holds `parts`, and leave nothing behind."""
        before = self.fitted()
        refused(lambda: self.features(f=F(**settings)), "dataset.features.f", *parts)
        assert self.fitted() == before


def lists(bag: BagFeature, values: Any) -> list[list[Any]]:
    """[nnz] values item by item."""
    return [part.tolist() for part in np.split(np.asarray(values), bag.offsets[1:-1])]


def refused(run: Callable[[], Any], *parts: str) -> None:
    with pytest.raises(UserError) as error:
        run()
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)
