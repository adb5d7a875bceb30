"""Features of items that come later equal those of items that were there but not in training."""

from __future__ import annotations

import json
import shutil
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from p_rnn.data.features import DenseFeature, Feature, Fitted
from p_rnn.data.features.new_items import extended, features_of_new
from tests.data.features.shop import TAGS, TEXTS, VECTORS, F, Shop, X, lists

VALUES: dict[str, list[Any]] = {
    "x": X,
    "y": [0, 2, 0, 2, 0, 5, -3],
    "full": [1.0, 2, None, 4, 5, 6, 7],  # a value where `v` has one
    "digits": ["1", "2", None, "4", "9", "11", "007"],
    "flag": [True, False, True, True, False, True, False],
    "v": VECTORS,
    "t": TAGS,
    "numbers": [[1, 2], [2], [2], [3], [3], [3, 1, 4], [3]],
    "c": ["red", "blue", " blue ", None, "  ", "green", "red"],
    "n": [5.0, 5.0, 6.5, None, 7, 7, 6.5],
    "s": TEXTS,
    "bars": ["a b|c", "c| ", "c", None, "a b", "c|d", " c"],
}
CASES: list[dict[str, Any]] = [
    {"kind": "number", "columns": ["x"]},
    {"kind": "number", "columns": ["x", "y"]},
    {"kind": "number", "columns": ["x"], "log": True},
    {"kind": "number", "columns": ["digits", "v"]},
    {"kind": "number", "columns": ["flag"]},
    {"kind": "vector", "columns": ["v"]},
    {"kind": "vector", "columns": ["v"], "normalize": True},
    {"kind": "vector", "columns": ["full", "v"]},
    {"kind": "category", "columns": ["c"]},
    {"kind": "category", "columns": ["c"], "min_df": 2},
    {"kind": "category", "columns": ["n"], "max_tokens": 2},
    {"kind": "category", "columns": ["flag"]},
    {"kind": "category", "columns": ["digits"]},
    {"kind": "tags", "columns": ["t"]},
    {"kind": "tags", "columns": ["t", "s"]},
    {"kind": "tags", "columns": ["numbers"]},
    {"kind": "tags", "columns": ["bars"], "separator": "|"},
    {"kind": "hashed", "columns": ["t", "c"], "num_buckets": 3},
    {"kind": "hashed", "columns": ["bars"], "num_buckets": 50, "separator": "|"},
    {"kind": "text", "columns": ["s"]},
    {"kind": "text", "columns": ["s", "t"], "ngrams": 1, "min_df": 2},
    {"kind": "text", "columns": ["s"], "max_df": 0.5, "stop_words": False, "max_tokens": 3},
]


def frame(*names: str, rows: slice = slice(None)) -> pd.DataFrame:
    """The raw values as the item table had them, with the index as ids."""
    return pd.DataFrame({name: VALUES[name][rows] for name in names})


def content(feature: Feature, rows: slice = slice(None)) -> list[Any]:
    """Item by item: the values, or the {token: weight}."""
    if isinstance(feature, DenseFeature):
        return list(feature.values[rows].tolist())
    if len(feature.offsets) == 1:
        return []
    weights = np.ones(len(feature.tokens)) if feature.weights is None else feature.weights
    pairs = zip(lists(feature, feature.tokens), lists(feature, weights), strict=True)
    return [dict(zip(*pair, strict=True)) for pair in pairs][rows]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"), **VALUES)


def feature_of(shop: Shop, **settings: Any) -> Feature:
    return shop.features(f=F(**settings))["f"]


def name_of(case: dict[str, Any]) -> str:
    return " ".join(map(str, case.values()))


@pytest.mark.parametrize("case", CASES, ids=name_of)
@pytest.mark.parametrize("rows", [slice(5, 7), slice(0, 7), slice(6, 7), slice(0, 0)], ids=str)
def test_equal_to_the_pipeline(shop: Shop, case: dict[str, Any], rows: slice) -> None:
    """The two items that are not in training, all items, one, and none."""
    feature = feature_of(shop, **case)
    new = features_of_new(feature, frame(*case["columns"], rows=rows))
    assert content(new) == content(feature, rows)
    assert (new.name, new.fingerprint) == (feature.name, feature.fingerprint)
    for one, other in zip(arrays(feature), arrays(new), strict=True):
        assert one.dtype == other.dtype
    both = extended(feature, new)
    assert content(both) == content(feature) + content(feature, rows)
    for one, other in zip(arrays(feature), arrays(both), strict=True):
        assert one.dtype == other.dtype


def arrays(feature: Feature) -> list[Any]:
    if isinstance(feature, DenseFeature):
        return [feature.values]
    weights = [] if feature.weights is None else [feature.weights]
    return [feature.offsets, feature.tokens, *weights]


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_from_plain_values_alone(tmp_path: Path, case: dict[str, Any]) -> None:
    """As from a checkpoint, on a machine without raw or prepared data."""
    shop = Shop(tmp_path, **{name: VALUES[name] for name in case["columns"]})
    feature = feature_of(shop, **case)
    expected = content(feature, slice(5, 7))
    assert feature.fitted is not None
    plain = feature.fitted.plain()
    assert json.loads(json.dumps(plain)) == plain
    torch.save(plain, tmp_path / "plain.pt")
    plain = torch.load(tmp_path / "plain.pt", weights_only=True)
    shutil.rmtree(shop.dataset.folder)
    shutil.rmtree(shop.raw)
    loaded = replace(feature, fitted=Fitted(**plain))
    new = features_of_new(loaded, frame(*case["columns"], rows=slice(5, 7)))
    assert content(new) == expected


# --- by hand ------------------------------------------------------------------------------------


def test_numbers_by_hand(shop: Shop) -> None:
    """Training: x = 1, 2, 4, 9; mean 4, variance 9.5."""
    feature = feature_of(shop, kind="number", columns=["x"])
    given = pd.DataFrame({"x": [4.0, 13.5, np.nan, -5.5]})
    expected = [[0], [9.5 / 9.5**0.5], [0], [-9.5 / 9.5**0.5]]
    assert content(features_of_new(feature, given)) == pytest.approx(np.array(expected))
    feature = feature_of(shop, kind="number", columns=["x"], log=True)
    logs = np.log([2.0, 3, 5, 10])
    found = content(features_of_new(feature, pd.DataFrame({"x": [19]})))
    assert found == pytest.approx((np.log([[20.0]]) - logs.mean()) / logs.std())


def test_text_by_hand(shop: Shop) -> None:
    """idf of three training texts: "red" is in two, "hat" and "red hat" in one."""
    feature = feature_of(shop, kind="text", columns=["s"])
    assert feature.fitted is not None
    words = feature.fitted.state["vocabulary"]
    new = features_of_new(feature, pd.DataFrame({"s": ["The red HAT, red yellow", "the", None]}))
    idf = {"red": 1 + np.log(4 / 3), "hat": 1 + np.log(4 / 2), "red hat": 1 + np.log(4 / 2)}
    weight = {"red": 2 * idf["red"], "hat": idf["hat"], "red hat": idf["red hat"]}
    length = sum(w * w for w in weight.values()) ** 0.5
    first, *rest = content(new)
    found = {words[token]: w for token, w in first.items()}
    assert found == pytest.approx({word: w / length for word, w in weight.items()}, rel=1e-6)
    assert rest == [{}, {}]


def test_other_kinds_by_hand(shop: Shop) -> None:
    unit = feature_of(shop, kind="vector", columns=["v"], normalize=True)
    given = pd.DataFrame({"v": [[5, 12], (8.0, -6.0), np.array([0, 0]), None, "[0.3, 0.4]"]})
    expected = [[5 / 13, 12 / 13], [0.8, -0.6], [0, 0], [0, 0], [0.6, 0.8]]
    assert np.array(content(features_of_new(unit, given))) == pytest.approx(np.array(expected))
    tags = feature_of(shop, kind="tags", columns=["t"])  # x, y, z
    given = pd.DataFrame({"t": [["z", "x", "z"], ("y", None), {"z", "x"}, "['x', 'y']", "y  x"]})
    expected_tokens = [{0, 2}, {1}, {0, 2}, {0, 1}, {0, 1}]
    assert [set(row) for row in content(features_of_new(tags, given))] == expected_tokens
    hashed = feature_of(shop, kind="hashed", columns=["t"], num_buckets=7)
    (row,) = content(features_of_new(hashed, pd.DataFrame({"t": [["never seen"]]})))
    assert row == {zlib.crc32(b"never seen") % 7: 1.0}


def test_bags_with_and_without_weights(shop: Shop) -> None:
    bag = shop.bag(kind="tags", columns=["t"])
    weighted = replace(bag, weights=np.full(len(bag.tokens), 2, dtype=np.float32))
    ones = [dict.fromkeys(row, 1.0) for row in content(bag)]
    twos = [dict.fromkeys(row, 2.0) for row in content(bag)]
    assert content(extended(bag, weighted)) == ones + twos
    assert content(extended(weighted, bag)) == twos + ones
    assert extended(bag, bag).weights is None  # type: ignore[union-attr]
