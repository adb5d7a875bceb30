"""Features of items that come later equal those of items that were there but not in training."""

from __future__ import annotations

import json
import logging
import shutil
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from p_rnn.data.features import DenseFeature, Feature, Fitted, prepare_features
from p_rnn.data.features.new_items import extended, features_of_new, separators_of
from p_rnn.data.readers.options import ItemTableConfig
from tests.data.features.shop import TAGS, TEXTS, VECTORS, F, Shop, X, lists, refused

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


# --- values -------------------------------------------------------------------------------------

DTYPES: list[tuple[str, list[Any], str]] = [
    ("n", [7, 5], "int32"),
    ("n", [7, 5], "Int64"),
    ("n", [7, None], "Int64"),
    ("n", [7.0, None], "Float64"),
    ("n", ["7", "5.0"], "string"),
    ("n", ["6.5", None], "object"),
    ("n", [7, "6.5"], "object"),
    ("n", [np.float32(6.5), np.int8(7)], "object"),
    ("n", [7, 5], "category"),
    ("n", [7, None], "category"),
    ("c", ["red", "blue"], "category"),
    ("c", ["red", None], "string"),
    ("c", [np.str_("red"), pd.NA], "object"),
    ("flag", [True, False], "bool"),
    ("flag", [True, None], "boolean"),
    ("flag", ["True", "false"], "object"),
    ("flag", [1, 0], "int64"),
]


@pytest.mark.parametrize(("name", "values", "dtype"), DTYPES, ids=str)
def test_types_of_columns(shop: Shop, name: str, values: list[Any], dtype: str) -> None:
    feature = feature_of(shop, kind="category", columns=[name])
    assert feature.fitted is not None
    words = feature.fitted.state["vocabulary"]
    new = features_of_new(feature, pd.DataFrame({name: pd.Series(values, dtype=dtype)}))
    found = [{words[token] for token in row} for row in content(new)]
    texts = [str(v) for v in values]
    plain = {"5.0": "5", "7.0": "7", "True": "1", "true": "1", "False": "0", "false": "0"}
    missing = ("None", "<NA>")
    assert found == [set() if t in missing else {plain.get(t, t)} for t in texts]


def test_codes_stay_codes(tmp_path: Path) -> None:
    """Where the fitted values were text, "5" and "05" are two tokens, and 5 is the first."""
    shop = Shop(tmp_path, code=["5", "05", "5.0", "05", "5", "5", "5"])
    feature = feature_of(shop, kind="category", columns=["code"])
    assert feature.fitted is not None
    words = feature.fitted.state["vocabulary"]
    for values, expected in ((["5"], "5"), (["05"], "05"), (["5.0"], "5.0"), ([5], "5")):
        (row,) = content(features_of_new(feature, pd.DataFrame({"code": values})))
        assert [words[token] for token in row] == [expected]


def test_dates_are_seconds(tmp_path: Path) -> None:
    dates = pd.to_datetime([f"2024-03-0{k}" for k in range(1, 8)])
    shop = Shop(tmp_path, date=list(dates))
    feature = feature_of(shop, kind="number", columns=["date"])
    new = features_of_new(feature, pd.DataFrame({"date": dates[5:]}))
    assert content(new) == content(feature, slice(5, 7))


def test_missing_columns_and_values(shop: Shop) -> None:
    nothing = pd.DataFrame({"other": [1, 2]})
    for case in CASES:
        feature = feature_of(shop, **case)
        for given in (nothing, nothing.assign(**dict.fromkeys(case["columns"]))):
            new = features_of_new(feature, given)
            if isinstance(feature, DenseFeature):
                assert content(new) == [[0] * feature.values.shape[1]] * 2
            else:
                assert content(new) == [{}, {}]
    two = feature_of(shop, kind="tags", columns=["t", "s"])
    assert feature_of(shop, kind="tags", columns=["t", "s"]).fitted is not None
    assert [len(row) for row in content(features_of_new(two, pd.DataFrame({"t": [["x"]]})))] == [1]


def test_unknown_tokens_are_counted(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    feature = feature_of(shop, kind="tags", columns=["t"])
    given = pd.DataFrame({"t": [["x", "new"], ["new", "newer"], ["y"]]})
    caplog.clear()
    assert [len(row) for row in content(features_of_new(feature, given))] == [1, 0, 1]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "feature f: 2 tokens of the new items are not in its vocabulary" in record.message
    caplog.clear()
    features_of_new(feature, given[2:])
    features_of_new(feature_of(shop, kind="hashed", columns=["t"], num_buckets=2), given)
    assert caplog.records == []


WRONG: list[tuple[dict[str, Any], list[Any], tuple[str, ...]]] = [
    ({"kind": "number", "columns": ["x"]}, [1, "three"], ("'x'", "item 'B'", "'three'")),
    ({"kind": "number", "columns": ["x"]}, [1, np.inf], ("'x'", "item 'B'", "finite")),
    ({"kind": "number", "columns": ["x"]}, [1, 1e300], ("'x'", "too far")),
    ({"kind": "number", "columns": ["x"], "log": True}, [1, -1], ("item 'B'", "log=true")),
    ({"kind": "number", "columns": ["x"]}, [[1.0, 2.0], None], ("'x'", "2 numbers", "to 1")),
    ({"kind": "vector", "columns": ["v"]}, [[1.0, 2], [1.0]], ("'v'", "item 'B'", "1 numbers")),
    ({"kind": "vector", "columns": ["v"]}, [[1.0], [2.0]], ("'v'", "1 numbers", "fitted to 2")),
    ({"kind": "vector", "columns": ["v"]}, [[1, 2], [1, np.nan]], ("'v'", "item 'B'", "NaN")),
    ({"kind": "vector", "columns": ["v"]}, [[1, 2], ["a", "b"]], ("'v'", "item 'B'", "number")),
    ({"kind": "vector", "columns": ["v"]}, [np.eye(2), None], ("'v'", "item 'A'", "number")),
    ({"kind": "category", "columns": ["c"]}, ["red", ["a"]], ("'c'", "item 'B'", "is a list")),
    ({"kind": "tags", "columns": ["t"]}, [{"a": 1}, None], ("'t'", "item 'A'", "neither")),
    ({"kind": "text", "columns": ["s"]}, [b"bytes", None], ("'s'", "item 'A'", "neither")),
]


@pytest.mark.parametrize(("case", "values", "parts"), WRONG, ids=str)
def test_values_that_are_refused(
    shop: Shop, case: dict[str, Any], values: list[Any], parts: tuple[str, ...]
) -> None:
    feature = feature_of(shop, **case)
    given = pd.DataFrame({case["columns"][0]: values})
    refused(lambda: features_of_new(feature, given, ids=["A", "B"]), "feature f", *parts)


def test_a_column_that_occurs_twice(shop: Shop) -> None:
    given = pd.DataFrame([[1.0, 2.0]], columns=["x", "x"])
    feature = feature_of(shop, kind="number", columns=["x"])
    refused(lambda: features_of_new(feature, given), "feature f", "'x' occurs twice")


def test_no_temporary_folder(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    feature = feature_of(shop, kind="number", columns=["x"])
    monkeypatch.setattr("tempfile.tempdir", "/nowhere/at/all")
    refused(lambda: features_of_new(feature, frame("x")), "temporary folder", "TMPDIR")


# --- where values came from ---------------------------------------------------------------------


def test_lists_of_a_table_of_text(tmp_path: Path) -> None:
    """Text in a frame is split as it was in the item table, and lists are taken as they are."""
    shop = Shop(tmp_path)
    table = pd.DataFrame(
        {
            "item": list("abcdexy"),
            "t": ["u v|w", "w", None, "u v", "w", "w|u v|q", "u v"],
            "price": ["1.50", "2", "3", "", "5", "6.25", "7"],
        }
    )
    table.to_csv(shop.raw / "items.csv", index=False)
    item_table = ItemTableConfig(path="items.csv", list_columns=["t"], list_separator="|")
    config = shop.config.but(
        item_table=item_table, features={"t": F(kind="tags"), "price": F(kind="number")}
    )
    features = prepare_features(config, shop.paths, shop.dataset, None)
    separators = separators_of(config)
    assert separators == {"t": "|"}
    assert separators_of(shop.config) == {}
    raw = pd.read_csv(shop.raw / "items.csv")[5:]
    typed = pd.DataFrame({"t": [["w", "u v", "q"], ["u v"]], "price": [6.25, 7]})
    text = pd.DataFrame({"t": ["w|u v", "['u v']"], "price": ["6.25", "7"]})
    for given in (raw, typed, text):
        for feature in features.values():
            new = features_of_new(feature, given, separators)
            assert content(new) == content(feature, slice(5, 7))


def test_values_from_files(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    half = np.float16([[1, 0.1], [2, 0.2], [3, 0.3], [4, 0.4], [5, 0.5], [6, 0.6], [7, 0.7]])
    np.save(shop.raw / "half.npy", half)
    (shop.raw / "half.txt").write_text("\n".join("abcdexy"))
    size = [1, 2, 4, 8, 16, 32, 2**53 + 1]
    pd.DataFrame({"item": list("abcdexy"), "size": size}).to_csv(shop.raw / "s.csv", index=False)
    features = shop.features(
        image=F(file="half.npy", ids="half.txt"),
        scaled=F(kind="number", file="half.npy", ids="half.txt"),
        size=F(kind="number", file="s.csv"),
        code=F(kind="tags", file="s.csv", columns=["size"], max_tokens=2),
    )
    image, scaled = features["image"], features["scaled"]
    assert image.fitted is not None
    assert image.fitted.columns == ["image"]
    given = pd.DataFrame({name: [[6, 0.6], [7, 0.7]] for name in ("image", "scaled")})
    for feature in (image, scaled):
        new = features_of_new(feature, given)
        assert content(new) == content(feature, slice(5, 7))
    assert features_of_new(image, given).values.dtype == np.float16  # type: ignore[union-attr]
    for name in ("size", "code"):
        new = features_of_new(features[name], pd.DataFrame({"size": size}))
        assert content(new) == content(features[name])
    refused(lambda: features_of_new(image, pd.DataFrame({"image": [[1e5, 0]]})), "infinite")
