"""Values in a frame of new items mean what they mean in an item table or a file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from p_rnn.data.features import DenseFeature, prepare_features
from p_rnn.data.features.new_items import features_of_new, separators_of
from p_rnn.data.readers.options import ItemTableConfig
from tests.data.features.shop import F, Shop, refused
from tests.data.features.test_new_items import CASES, VALUES, content, feature_of, frame


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"), **VALUES)


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
    weight = np.float32([0.1, 0.2, 0.1, 0.4, 0.1, 0.1, 0.2])
    single = pd.DataFrame({"item": list("abcdexy"), "weight": weight})
    single.to_parquet(shop.raw / "single.parquet")
    features = shop.features(
        weight=F(kind="category", file="single.parquet"),
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
    new = features_of_new(features["weight"], pd.DataFrame({"weight": [0.1, 0.2]}))
    assert content(new) == content(features["weight"], slice(5, 7))  # as float32
    nothing = pd.DataFrame({"image": [np.full(2, np.nan), np.ones(2)]})
    assert content(features_of_new(image, nothing)) == [[0, 0], [1, 1]]
    refused(lambda: features_of_new(image, pd.DataFrame({"image": [[1e5, 0]]})), "infinite")
