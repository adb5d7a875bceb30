"""Each kind of feature against a computation by hand."""

from __future__ import annotations

import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from p_rnn.data.features import DenseFeature
from tests.data.features.shop import TAGS, TEXTS, VECTORS, F, Shop, X, lists


def test_numbers_are_scaled_by_the_training_items(tmp_path: Path) -> None:
    shop = Shop(tmp_path, x=X, y=[0, 2, 0, 2, 0, 5, -3])
    s = 9.5**0.5
    x = [-3 / s, -2 / s, 0, 0, 5 / s, 7 / s, 0]
    assert shop.dense(kind="number", columns=["x"]) == pytest.approx(np.array(x)[:, None])
    mean, std = 0.8, 0.96**0.5
    y = [(v - mean) / std for v in [0, 2, 0, 2, 0, 5, -3]]
    both = shop.features(f=F(kind="number", columns=["x", "y"]))["f"]
    assert isinstance(both, DenseFeature)
    assert both.values == pytest.approx(np.array([x, y]).T)
    assert both.values.dtype == np.float32
    # an item counts as missing when all of its numbers are
    assert shop.manifest(both)["counts"] == {"with_value": 7, "missing": 0}
    one = shop.features(f=F(kind="number", columns=["x"]))["f"]
    assert shop.manifest(one)["counts"] == {"with_value": 5, "missing": 2}


def test_numbers_under_log(tmp_path: Path) -> None:
    shop = Shop(tmp_path, x=X, low=[0, 1, 2, 3, 4, -1, 5])
    logs = np.log1p([1.0, 2, 4, 9, 11])
    scaled = (logs - logs[:4].mean()) / logs[:4].std()
    found = np.array(shop.dense(kind="number", columns=["x"], log=True))[:, 0]
    assert found[[0, 1, 3, 4, 5]] == pytest.approx(scaled)
    assert found[[2, 6]].tolist() == [0, 0]
    shop.refused("item 'x'", "-1", "log", kind="number", columns=["low"], log=True)


def test_numbers_that_cannot_be_scaled(tmp_path: Path) -> None:
    nothing = [None, None, None, None, None, 1.0, 2.0]
    shop = Shop(
        tmp_path,
        constant=[0.1] * 5 + [7, 8],
        infinite=[1, 2, 3, 4, 5, 6, np.inf],
        far=[1, 1 + 1e-15, 1, 1, 1, 1, 1e300],
        nothing=nothing,
        words=["1", "2", "three", "4", "5", "6", "7"],
        digits=["1", "2", None, "4", "9", "11", None],
    )
    shop.refused("'constant' is constant (0.1)", kind="number", columns=["constant"])
    shop.refused("'infinite'", "item 'y'", "finite", kind="number", columns=["infinite"])
    shop.refused("too far", kind="number", columns=["far"])
    shop.refused("'nothing'", "no value for any training item", kind="number", columns=["nothing"])
    shop.refused("mixed types", "item 'c'", "'three'", kind="number", columns=["words"])
    digits = shop.dense(kind="number", columns=["digits"])
    assert digits[4] == pytest.approx([5 / 9.5**0.5])


def test_huge_numbers_do_not_overflow(tmp_path: Path) -> None:
    shop = Shop(tmp_path, x=[1e300, 3e300, 1e300, 3e300, 2e300, 2e300, 2e300])
    std = 0.8**0.5
    expected = np.array([[-1, 1, -1, 1, 0, 0, 0]]).T / std
    assert np.array(shop.dense(kind="number", columns=["x"])) == pytest.approx(expected)


def test_vectors(tmp_path: Path) -> None:
    x = [1.0, 2, None, 4, 5, 6, 7]
    shop = Shop(tmp_path, v=VECTORS, x=x, y=[1.0, None, 3, 4, 5, 6, 7])
    raw = shop.dense(columns=["v"])
    assert raw == [[3, 4], [0, 0], [0, 0], *[[-5, 12]] * 4]
    unit = [[0.6, 0.8], [0, 0], [0, 0], *[[-5 / 13, 12 / 13]] * 4]
    assert np.array(shop.dense(columns=["v"], normalize=True)) == pytest.approx(np.array(unit))
    joined = shop.dense(kind="vector", columns=["x", "v"])
    assert joined == [[1, 3, 4], [2, 0, 0], [0, 0, 0], *[[k, -5, 12] for k in (4, 5, 6, 7)]]
    feature = shop.features(f=F(kind="vector", columns=["x", "v"]))["f"]
    assert shop.manifest(feature)["counts"] == {"with_value": 6, "missing": 1}
    shop.refused("item 'b'", "'y'", kind="vector", columns=["v", "y"])


def test_vectors_that_are_not_finite(tmp_path: Path) -> None:
    bad = [*VECTORS[:4], np.float32([1, np.nan]), *VECTORS[5:]]
    huge = [1e39, 0, 0, 0, 0, 0, 0]
    shop = Shop(tmp_path, v=bad, huge=huge, none=[None] * 5 + VECTORS[3:5])
    shop.refused("'v'", "item 'e'", "NaN", kind="vector", columns=["v"])
    shop.refused("'huge'", "item 'a'", "infinite", kind="vector", columns=["huge"])
    shop.refused("no training item has a value", kind="vector", columns=["none"])


@pytest.mark.parametrize("flush", [False, True])
def test_length_one_at_the_ends_of_the_range(tmp_path: Path, flush: bool) -> None:
    """Below the smallest normal number a vector is zero, whatever the process does with it."""
    v = [np.float32([a, 0]) for a in (1.2e-38, 1e38, -1e-30, 1, 2, 3, 1e-38)]
    shop = Shop(tmp_path, v=v)
    torch.set_flush_denormal(flush)
    try:
        unit = shop.dense(columns=["v"], normalize=True)
    finally:
        torch.set_flush_denormal(False)
    assert unit == [[1, 0], [1, 0], [-1, 0], *[[1, 0]] * 3, [0, 0]]


def test_categories(tmp_path: Path) -> None:
    shop = Shop(
        tmp_path,
        c=["red", "blue", " blue ", None, "  ", "green", "red"],
        n=[5.0, 5.0, 6.5, None, 7, 7, 8],
        big=[2.0**53, None, 1, 1, 1, 1, 1],
        lists=[["a"], ["b", "c"], *[["a"]] * 5],
    )
    tokens = shop.tokens(kind="category", columns=["c"])
    assert tokens == [{"red"}, {"blue"}, {"blue"}, set(), set(), set(), {"red"}]
    feature = shop.bag(kind="category", columns=["c"])
    assert shop.vocabulary(feature) == ["blue", "red"]  # the most frequent first
    assert shop.manifest(feature)["counts"] == {
        "with_value": 5,
        "missing": 2,
        "dropped_tokens": 1,
        "num_tokens": 2,
    }
    assert feature.weights is None
    assert shop.tokens(kind="category", columns=["n"]) == [
        {"5"},
        {"5"},
        {"6.5"},
        set(),
        {"7"},
        {"7"},
        set(),
    ]
    # min_df counts training items only, and so do the most frequent tokens
    assert shop.vocabulary(shop.bag(kind="category", columns=["n"], min_df=2)) == ["5"]
    assert shop.vocabulary(shop.bag(kind="category", columns=["n"], max_tokens=2)) == ["5", "6.5"]
    shop.refused("no token is left", "min_df=3", kind="category", columns=["n"], min_df=3)
    shop.refused("one column", "kind=tags", kind="category", columns=["c", "n"])
    shop.refused("item 'a'", "list", "kind=tags", kind="category", columns=["lists"])
    shop.refused("item 'a'", "2^53", "text", kind="category", columns=["big"])


def test_tags(tmp_path: Path) -> None:
    shop = Shop(
        tmp_path,
        t=TAGS,
        s=["a  b", "b", None, " ", "c b c", "b new", "a"],
        bars=["a b|c", "c| ", "c", None, "a b", "c", "c"],
        numbers=[[1, 2], [2], [2], [3], [3], [3], [3]],
        v=VECTORS,
    )
    tokens = shop.tokens(kind="tags", columns=["t"])
    assert tokens == [{"x", "y"}, {"x"}, set(), set(), {"y", "z"}, {"x"}, set()]
    feature = shop.bag(kind="tags", columns=["t"])
    assert feature.offsets.tolist() == [0, 2, 3, 3, 3, 5, 6, 6]  # a repeated token counts once
    assert shop.vocabulary(feature) == ["x", "y", "z"]
    counts = {"with_value": 5, "missing": 2, "dropped_tokens": 1, "num_tokens": 3}
    assert shop.manifest(feature)["counts"] == counts
    assert shop.tokens(kind="tags", columns=["s"]) == [
        {"a", "b"},
        {"b"},
        set(),
        set(),
        {"b", "c"},
        {"b"},
        {"a"},
    ]
    assert shop.tokens(kind="tags", columns=["bars"], separator="|") == [
        {"a b", "c"},
        {"c"},
        {"c"},
        set(),
        {"a b"},
        {"c"},
        {"c"},
    ]
    assert shop.tokens(kind="tags", columns=["numbers"])[0] == {"1", "2"}
    both = shop.tokens(kind="tags", columns=["t", "s"])
    assert both == [
        {"x", "y", "a", "b"},
        {"x", "b"},
        set(),
        set(),
        {"y", "z", "b", "c"},
        {"x", "b"},
        {"a"},
    ]
    assert shop.vocabulary(shop.bag(kind="tags", columns=["t"], min_df=2)) == ["x", "y"]
    assert shop.vocabulary(shop.bag(kind="tags", columns=["s"], max_tokens=1)) == ["b"]
    shop.refused("separator has no effect", kind="tags", columns=["t"], separator="|")
    shop.refused("vectors", "kind=vector", kind="tags", columns=["v"])


def test_tf_idf(tmp_path: Path) -> None:
    """Against a computation in plain Python; three training items have a text."""
    shop = Shop(tmp_path, t=TEXTS)
    feature = shop.bag(kind="text", columns=["t"])
    # "the" is a stop word, so "shoes red" are neighbours
    grams = [
        ["red", "red", "shoes", "ones", "red shoes", "shoes red", "red ones"],
        ["blue", "shoes", "blue shoes"],
        ["red", "hat", "red hat"],
    ]
    vocabulary = sorted({g for row in grams for g in row})
    assert shop.vocabulary(feature) == vocabulary
    df = {g: sum(g in row for row in grams) for g in vocabulary}
    grams += [["shoes"]]  # of the test item "green shoes", all else is unknown
    expected = []
    for row in grams:
        weight = {g: row.count(g) * (1 + np.log(4 / (1 + df[g]))) for g in set(row)}
        length = np.sqrt(sum(w * w for w in weight.values()))
        expected.append({g: w / length for g, w in weight.items()})
    words = np.array(vocabulary, dtype=object)[feature.tokens]
    assert feature.weights is not None
    pairs = zip(lists(feature, words), lists(feature, feature.weights), strict=True)
    found = [dict(zip(*pair, strict=True)) for pair in pairs]
    empty: dict[str, float] = {}
    order = [expected[0], expected[1], empty, empty, expected[2], expected[3], empty]
    assert [set(row) for row in found] == [set(row) for row in order]
    for row, wanted in zip(found, order, strict=True):
        assert row == pytest.approx(wanted, rel=1e-6)
    assert (feature.weights.dtype, feature.tokens.dtype) == (np.float32, np.int32)
    assert shop.manifest(feature)["counts"] == {
        "with_value": 5,
        "missing": 2,
        "dropped_tokens": 2,
        "num_tokens": len(vocabulary),
    }  # "green" and "green shoes"


def test_settings_of_text(tmp_path: Path) -> None:
    lists = [["red", "shoes"], ["hat"], None, [], ["red"], ["x"], ["y"]]
    shop = Shop(tmp_path, t=TEXTS, u=lists, stop=["the", "of", *[None] * 5])
    base: dict[str, Any] = {"kind": "text", "columns": ["t"]}
    words = shop.vocabulary(shop.bag(**base, ngrams=1))
    assert words == ["blue", "hat", "ones", "red", "shoes"]
    words = shop.vocabulary(shop.bag(**base, ngrams=1, stop_words=False))
    assert words == ["blue", "hat", "ones", "red", "shoes", "the"]
    assert "red shoes red" in shop.vocabulary(shop.bag(**base, ngrams=3))
    assert shop.vocabulary(shop.bag(**base, min_df=2)) == ["red", "shoes"]
    assert "red" not in shop.vocabulary(shop.bag(**base, max_df=0.5))
    assert shop.vocabulary(shop.bag(**base, ngrams=1, max_tokens=2)) == ["red", "shoes"]
    # max_df=1 is all items and never one item
    assert "red" in shop.vocabulary(shop.bag(**base, max_df=1))
    joined = shop.tokens(kind="text", columns=["t", "u"], ngrams=1)
    assert joined[1] == {"blue", "shoes", "hat"}
    assert shop.tokens(kind="text", columns=["u"], ngrams=1)[0] == {"red", "shoes"}
    shop.refused("no token is left", "stop_words", kind="text", columns=["stop"])
    shop.refused("no token is left", "min_df", **base, min_df=4)


def test_text_without_scikit_learn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(tmp_path, t=TEXTS)
    monkeypatch.setitem(sys.modules, "sklearn.feature_extraction.text", None)
    shop.refused("scikit-learn", "pip install scikit-learn", kind="text", columns=["t"])
    assert shop.tokens(kind="tags", columns=["t"])[1] == {"blue", "shoes"}


def test_hashed(tmp_path: Path) -> None:
    shop = Shop(tmp_path, t=TAGS, s=["größe m", "m m", None, " ", "l", "xl", "m"])
    feature = shop.bag(kind="hashed", columns=["t"], num_buckets=2)
    expected = []
    for bag in TAGS:
        row: dict[int, float] = {}
        for token in set(bag or []):
            bucket = zlib.crc32(token.encode("utf-8")) % 2
            row[bucket] = row.get(bucket, 0) + 1
        expected.append(row)
    assert any(2.0 in row.values() for row in expected)  # two tokens meet
    assert feature.weights is not None
    pairs = zip(lists(feature, feature.tokens), lists(feature, feature.weights), strict=True)
    assert [dict(zip(*pair, strict=True)) for pair in pairs] == expected
    assert feature.num_tokens == 2
    assert shop.manifest(feature)["counts"] == {"with_value": 5, "missing": 2, "num_tokens": 2}
    assert not (shop.folder(feature) / "vocabulary.json").exists()
    words = shop.bag(kind="hashed", columns=["s"], num_buckets=1000)
    size = zlib.crc32("größe".encode()) % 1000
    assert size in lists(words, words.tokens)[0]
    shop.refused("num_buckets is null", "kind=hashed needs it", kind="hashed", columns=["s"])
