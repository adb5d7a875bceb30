"""Values of features from files keyed by item id: every format, alignment, and what is refused."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from p_rnn.data.features import BagFeature, DenseFeature, prepare_features
from p_rnn.data.prepare import prepare
from p_rnn.settings.hydra_glue import load_config
from tests.data.features.shop import F, Shop, lists

# In no order; f and z are no items of the data set, and b, d, x, y have no row.
IDS = ["f", "e", "c", "a", "z"]
ROWS = np.array([[9, 9], [1, 2], [3, 4], [5, 6], [8, 8]], dtype=np.float16)
EXPECTED = [[5, 6], [0, 0], [3, 4], [0, 0], [1, 2], [0, 0], [0, 0]]
COUNTS = {"rows": 5, "rows_of_other_items": 2, "with_value": 3, "missing": 4}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """Items a to e, x, y; vectors in v.npy."""
    shop = Shop(tmp_path)
    np.save(shop.raw / "v.npy", ROWS)
    np.save(shop.raw / "ids.npy", np.array(IDS))
    return shop


def values(shop: Shop, **settings: Any) -> DenseFeature:
    feature = shop.features(f=F(**settings))["f"]
    assert isinstance(feature, DenseFeature)
    return feature


# --- arrays -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_npy(shop: Shop, dtype: type) -> None:
    np.save(shop.raw / "v.npy", ROWS.astype(dtype))
    feature = values(shop, file="v.npy", ids="ids.npy")  # an array is a vector
    assert feature.values.tolist() == EXPECTED
    assert feature.values.dtype == (np.float16 if dtype == np.float16 else np.float32)
    assert shop.manifest(feature)["counts"] == COUNTS
    unit = values(shop, file="v.npy", ids="ids.npy", normalize=True).values
    assert unit[0].tolist() == pytest.approx([5 / 61**0.5, 6 / 61**0.5], rel=1e-3)
    scaled = values(shop, kind="number", file="v.npy", ids="ids.npy").values
    std = np.std([5, 3, 1])
    assert scaled[:, 0] == pytest.approx([2 / std, 0, 0, 0, -2 / std, 0, 0])


def test_blocks_of_rows(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same values, and the right row in messages, when a block holds two rows."""
    monkeypatch.setattr("p_rnn.data.features.values.BLOCK_BYTES", 2 * 2 * 2)
    assert values(shop, file="v.npy", ids="ids.npy").values.tolist() == EXPECTED
    np.save(shop.raw / "v.npy", np.where(ROWS == 6, np.nan, ROWS))
    shop.refused("v.npy, row 4 (item 'a')", "NaN", file="v.npy", ids="ids.npy")


@pytest.mark.parametrize("name", ["ids.txt", "ids.txt.gz", "ids.csv", "ids.tsv", "ids.parquet"])
def test_files_of_ids(shop: Shop, name: str) -> None:
    path = shop.raw / name
    frame = pd.DataFrame({"item": IDS, "note": "x"})
    if name == "ids.txt":
        path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(IDS).encode() + b"\r\n")
    elif name == "ids.txt.gz":
        path.write_bytes(gzip.compress("\n".join(IDS).encode()))
    elif name == "ids.parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, sep="\t" if name == "ids.tsv" else ",", index=False)
    assert values(shop, file="v.npy", ids=name).values.tolist() == EXPECTED


def test_ids_are_compared_in_their_type(tmp_path: Path) -> None:
    shop = Shop(tmp_path, integers=True)  # items 1 to 7
    np.save(shop.raw / "v.npy", ROWS)
    wanted = [[1, 2], [3, 4], [0, 0], [5, 6], *[[0, 0]] * 3]
    (shop.raw / "ids.txt").write_text("99999999999999999999\n1\n2\n4\n007\n")
    assert values(shop, file="v.npy", ids="ids.txt").values.tolist() == wanted
    for dtype in (np.int64, np.int16, np.uint64):
        np.save(shop.raw / "ids.npy", np.array([99, 1, 2, 4, 98], dtype=dtype))
        assert values(shop, file="v.npy", ids="ids.npy").values.tolist() == wanted
    lines = [{"item": i, "f": t} for i, t in ((1, "p"), ("2", "q"), ("07", "r"), (8, "s"))]
    (shop.raw / "t.jsonl").write_text("\n".join(map(json.dumps, lines)))
    tokens = shop.tokens(kind="category", file="t.jsonl")
    assert tokens == [{"p"}, {"q"}, *[set()] * 5]


def test_changed_files_are_read_again(shop: Shop) -> None:
    one = values(shop, file="v.npy", ids="ids.npy")
    np.save(shop.raw / "v.npy", ROWS + 1)
    two = values(shop, file="v.npy", ids="ids.npy")
    np.save(shop.raw / "ids.npy", np.array(IDS[::-1]))
    three = values(shop, file="v.npy", ids="ids.npy")
    assert len({one.fingerprint, two.fingerprint, three.fingerprint}) == 3
    assert two.values[0].tolist() == [6, 7]
    assert three.values[0].tolist() == [2, 3]


def bad_array(raw: Path, array: Any) -> None:
    np.save(raw / "v.npy", array)


BAD_ARRAYS: dict[str, tuple[Any, list[str]]] = {
    "NaN": (
        lambda raw: bad_array(raw, np.where(ROWS == 4, np.nan, ROWS)),
        ["v.npy, row 3 (item 'c')", "NaN"],
    ),
    "infinite": (
        lambda raw: bad_array(raw, np.where(ROWS == 1, np.inf, ROWS)),
        ["v.npy, row 2 (item 'e')", "infinite"],
    ),
    "too large": (
        lambda raw: bad_array(raw, np.where(ROWS == 1, 1e300, ROWS.astype(float))),
        ["v.npy, row 2 (item 'e')", "infinite"],
    ),
    "too short": (lambda raw: bad_array(raw, ROWS[:3]), ["3 rows", "5 ids"]),
    "one dimension": (lambda raw: bad_array(raw, ROWS[:, 0]), ["float16 [5]", "[rows, D]"]),
    "integers": (lambda raw: bad_array(raw, ROWS.astype(int)), ["int64 [5, 2]", "float16"]),
    "objects": (lambda raw: bad_array(raw, ROWS.astype(object)), ["v.npy", "numpy.save"]),
    "no array": (lambda raw: (raw / "v.npy").write_text("hello"), ["v.npy", "numpy.save"]),
    "cut off": (
        lambda raw: (raw / "v.npy").write_bytes((raw / "v.npy").read_bytes()[:-4]),
        ["v.npy", "numpy.save"],
    ),
    "twice": (
        lambda raw: np.save(raw / "ids.npy", np.array(["f", "e", "c", "a", "e"])),
        ["item 'e' has more than one row"],
    ),
    "nobody's": (
        lambda raw: np.save(raw / "ids.npy", np.arange(5)),
        ["none of its 5 ids", "'0'", "'a'"],
    ),
    "ids in floats": (
        lambda raw: np.save(raw / "ids.npy", np.arange(5.0)),
        ["ids.npy", "float64 [5]"],
    ),
    "ids in 2-d": (
        lambda raw: np.save(raw / "ids.npy", np.zeros((5, 1), int)),
        ["ids.npy", "int64 [5, 1]"],
    ),
    "no ids": (lambda raw: (raw / "ids.npy").unlink(), ["ids.npy is missing"]),
    "no file": (lambda raw: (raw / "v.npy").unlink(), ["v.npy is missing", "paths.raw"]),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays(shop: Shop, case: str) -> None:
    harm, says = BAD_ARRAYS[case]
    harm(shop.raw)
    shop.refused(*says, kind="vector", file="v.npy", ids="ids.npy")
    assert shop.fitted() == []


def test_rows_of_other_items_may_hold_anything(shop: Shop) -> None:
    np.save(shop.raw / "v.npy", np.where(ROWS >= 8, np.nan, ROWS))
    assert values(shop, file="v.npy", ids="ids.npy").values.tolist() == EXPECTED


# --- safetensors --------------------------------------------------------------------------------


def test_safetensors(tmp_path: Path) -> None:
    shop = Shop(tmp_path, integers=True)
    ids = np.array([99, 5, 3, 1, 98])
    save_file({"only": ROWS, "sku": ids}, shop.raw / "one.safetensors")
    more = {"f": ROWS, "g": 2 * ROWS, "h": ROWS[:, 0], "sku": ids}
    save_file(more, shop.raw / "more.safetensors")
    np.save(shop.raw / "ids.npy", ids)
    one = values(shop, file="one.safetensors", ids="sku")
    assert one.values.tolist() == EXPECTED
    assert one.values.dtype == np.float16
    assert shop.manifest(one)["counts"] == COUNTS
    assert values(shop, file="more.safetensors", ids="sku").values.tolist() == EXPECTED
    assert values(shop, file="more.safetensors", ids="ids.npy").values.tolist() == EXPECTED
    double = values(shop, file="more.safetensors", ids="sku", columns=["g"])
    assert double.values[0].tolist() == [10, 12]
    file = {"file": "more.safetensors"}
    shop.refused("no tensor 'G'", "Known: f, g, h, sku", **file, ids="sku", columns=["G"])
    shop.refused("no tensor 'skus'", "'sku'?", **file, ids="skus")
    shop.refused("must name one tensor", **file, ids="sku", columns=["f", "g"])
    shop.refused("'h'", "F16 [5]", **file, ids="sku", columns=["h"])
    shop.refused("'f'", "must be integers", **file, ids="f", columns=["g"])
    save_file({"f": ROWS[:3], "sku": ids}, shop.raw / "short.safetensors")
    shop.refused("3 rows", "5 ids", file="short.safetensors", ids="sku")
    data = (shop.raw / "more.safetensors").read_bytes()
    (shop.raw / "more.safetensors").write_bytes(data[:-5])
    shop.refused("more.safetensors is damaged", **file, ids="sku")


def test_safetensors_without_the_package(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    (shop.raw / "v.safetensors").touch()
    monkeypatch.setitem(sys.modules, "safetensors", None)
    shop.refused("pip install safetensors", file="v.safetensors", ids="ids.npy")


# --- tables -------------------------------------------------------------------------------------

TABLE = pd.DataFrame(
    {
        "sku": IDS,
        "f": ["w", "red|big", "blue", None, "v"],
        "x": [8.0, 1, np.nan, 3, 8],
        "y": [8.0, 2, np.nan, 4, 8],
        "code": [9007199254740993, 9007199254740992, 9007199254740993, 5, 5],
    }
)


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.csv.gz", "t.parquet"])
def test_tables(shop: Shop, name: str) -> None:
    if name == "t.parquet":
        TABLE.to_parquet(shop.raw / name)
    else:
        TABLE.to_csv(shop.raw / name, sep="\t" if ".tsv" in name else ",", index=False)
    file: dict[str, Any] = {"file": name, "item": "sku"}
    none: set[str] = set()
    tokens = shop.tokens(kind="tags", separator="|", **file)
    assert tokens == [none, none, {"blue"}, none, {"red", "big"}, none, none]
    vector = values(shop, kind="vector", columns=["x", "y"], **file)
    assert vector.values.tolist() == [[3, 4], *[[0, 0]] * 3, [1, 2], [0, 0], [0, 0]]
    assert shop.manifest(vector)["counts"] == {**COUNTS, "with_value": 2, "missing": 5}
    number = values(shop, kind="number", columns=["y"], **file)
    assert number.values[:, 0].tolist() == [1, 0, 0, 0, -1, 0, 0]  # mean 3, deviation 1
    # beyond 2^53 these would be the same in float64
    codes = shop.tokens(kind="category", columns=["code"], **file)
    assert (codes[2], codes[4]) == ({"9007199254740993"}, {"9007199254740992"})
    shop.refused("no column 'item'", "Known: code, f, sku, x, y", kind="tags", file=name)
    shop.refused("no column 'F'", kind="tags", columns=["F"], **file)
    shop.refused("kind is null", name, "vector", **file)


def test_parquet_lists(shop: Shop) -> None:
    vectors = [None if i == 2 else row.astype(np.float64) for i, row in enumerate(ROWS)]
    frame = pd.DataFrame({"item": IDS, "f": vectors, "t": [[1], [2, 3], None, [2], [4]]})
    frame.to_parquet(shop.raw / "t.parquet")
    vector = values(shop, kind="vector", file="t.parquet")
    assert vector.values.tolist() == [[5, 6], *[[0, 0]] * 3, [1, 2], [0, 0], [0, 0]]
    tags = shop.tokens(kind="tags", file="t.parquet", columns=["t"])
    assert tags == [{"2"}, set(), set(), set(), {"2", "3"}, set(), set()]
    frame["f"] = [np.array([1, np.nan]) if i == 3 else row for i, row in enumerate(vectors)]
    frame.to_parquet(shop.raw / "t.parquet")
    shop.refused("t.parquet, column 'f', row 4 (item 'a')", kind="vector", file="t.parquet")


def test_bad_tables(shop: Shop) -> None:
    file: dict[str, Any] = {"kind": "tags", "file": "t.csv"}
    (shop.raw / "t.csv").write_text("item,f\na,x\nb,y\na,x\n")
    shop.refused("t.csv", "item 'a' has more than one row", **file)
    (shop.raw / "t.csv").write_text("item,f\na,x\n,y\n")
    shop.refused("t.csv, line 3", "'item' is missing", **file)
    (shop.raw / "t.csv").write_text("item,f\n1,x\n2,y\n")
    shop.refused("t.csv", "none of its 2 ids (such as '1')", **file)
    (shop.raw / "t.csv").write_text("item,f\n")
    shop.refused("t.csv contains no items; check dataset.features", **file)
    (shop.raw / "t.csv").write_text("item,f\na,1\nb,inf\nc,2\n")
    shop.refused("t.csv, column 'f', row 2 (item 'b')", "inf", kind="number", file="t.csv")
    shop.refused("f.ids has no effect", "column_separator, columns", **file, ids="ids.npy")
    shop.refused("f.item has no effect", "v.npy takes ids", file="v.npy", ids="ids.npy", item="x")
    shop.refused("f.columns has no effect", file="v.npy", ids="ids.npy", columns=["x"])
    shop.refused("f.ids is null", "v.npy needs it", file="v.npy")
    shop.refused("file '.xls'", "Known: .csv, .json", kind="tags", file="t.xls")


# --- jsonl --------------------------------------------------------------------------------------


def test_jsonl(shop: Shop) -> None:
    rows = [
        {"id": "z", "f": "other"},
        {"id": "c", "f": "a red hat", "tags": ["x", 1], "n": 2, "v": [1, 2.5]},
        {"id": "a", "f": "N/A", "tags": "x y", "n": 4.0, "v": [3, 4]},
        {"id": "e", "f": None, "n": "6", "more": {"deep": [1]}},
        {"id": "x", "f": "a blue hat", "v": None},
    ]
    text = "\n".join(map(json.dumps, rows)) + "\n\n"
    (shop.raw / "t.jsonl").write_text(text)
    (shop.raw / "t.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    file: dict[str, Any] = {"file": "t.jsonl", "item": "id"}
    none: set[str] = set()
    expected = [none, none, {"red", "hat"}, none, none, {"hat"}, none]  # "N/A" is missing
    for name in ("t.jsonl", "t.jsonl.gz"):
        assert shop.tokens(kind="text", ngrams=1, file=name, item="id") == expected
    feature = shop.bag(kind="text", ngrams=1, **file)
    counts = shop.manifest(feature)["counts"]
    assert counts == {
        "rows": 5,
        "rows_of_other_items": 1,
        "with_value": 2,
        "missing": 5,
        "dropped_tokens": 1,
        "num_tokens": 2,
    }
    tags = shop.tokens(kind="tags", columns=["tags"], **file)
    assert tags == [{"x", "y"}, none, {"x", "1"}, none, none, none, none]
    number = values(shop, kind="number", columns=["n"], **file).values[:, 0]
    std = (8 / 3) ** 0.5  # of 2, 4, 6
    assert number == pytest.approx([0, 0, -2 / std, 0, 2 / std, 0, 0])
    vector = values(shop, kind="vector", columns=["v"], **file)
    assert vector.values[[0, 2, 5]].tolist() == [[3, 4], [1, 2.5], [0, 0]]
    shop.refused("line 4: 'more'", "not a plain value", kind="tags", columns=["more"], **file)
    shop.refused("no column 'tag'", "'tags'?", kind="tags", columns=["tag"], **file)


def test_bad_jsonl(shop: Shop) -> None:
    path = shop.raw / "t.jsonl"
    file: dict[str, Any] = {"kind": "tags", "file": "t.jsonl"}
    for text, says in (
        ('{"item": "a", "f": 1}\n{"item": ', ["t.jsonl, line 2 is not JSON"]),
        ('{"item": "a", "f": 1}\n[1]', ["t.jsonl, line 2 must be a JSON object"]),
        ('{"item": "a", "f": 1}\n{"f": 1}', ["t.jsonl, line 2: the id 'item' is missing"]),
        ('{"item": 1.5, "f": 1}', ["line 1: the id 'item' is 1.5"]),
        ('{"item": true, "f": 1}', ["line 1: the id 'item' is True"]),
        ('{"item": 1, "f": 1}\n{"item": "1", "f": 1}', ["item '1' has more than one row"]),
        ('{"item": 1, "f": 1}', ["none of its 1 ids", "'1'"]),
        ("", ["t.jsonl contains no items"]),
    ):
        path.write_text(text)
        shop.refused(*says, **file)
    path.write_text('{"item": "a", "f": [1, 2]}\n{"item": "b", "f": [1]}')
    shop.refused("item 'b' has 1 numbers", "have 2", kind="vector", file="t.jsonl")
    path.write_text('{"item": "a", "f": 1}\n{"item": "b", "f": "many"}')
    shop.refused("mixed types", "item 'b'", "'many'", kind="number", file="t.jsonl")
    path.write_text('{"item": "a", "f": Infinity}')
    shop.refused("item 'a'", "inf", kind="number", file="t.jsonl")
    (shop.raw / "v.npy.gz").touch()
    shop.refused("v.npy.gz must be decompressed", kind="vector", file="v.npy.gz", ids="ids.npy")


# --- real data ----------------------------------------------------------------------------------


def test_plots_of_movies(raw_data: Path, tmp_path: Path) -> None:
    config = load_config("dataset=ml_100k", f"paths.raw={raw_data}", f"paths.prepared={tmp_path}")
    file = "ml-100k/omdb_metadata.jsonl"
    plot = F(kind="text", file=file, item="movie_id", columns=["omdb_Plot"])
    config.dataset.features = {"plot": plot}
    dataset = prepare(config.dataset, config.paths)
    bag = prepare_features(config.dataset, config.paths, dataset, None)["plot"]
    assert isinstance(bag, BagFeature)
    lines = (raw_data / file).read_text().splitlines()
    plots = {row["movie_id"]: row["omdb_Plot"] for row in map(json.loads, lines)}
    has = np.array([plots[i] != "N/A" for i in dataset.item_ids.tolist()])
    assert ((np.diff(bag.offsets) > 0) == has).all()
    folder = dataset.folder / "features" / f"plot-{bag.fingerprint}"
    words = json.loads((folder / "vocabulary.json").read_text())
    for item, tokens in zip(dataset.item_ids.tolist(), lists(bag, bag.tokens), strict=True):
        assert all(word in plots[item].lower() for t in tokens for word in words[t].split())
    assert bag.weights is not None
    length = np.sqrt([sum(w * w for w in row) for row in lists(bag, bag.weights)])
    assert length == pytest.approx(has.astype(float), abs=1e-5)


def test_a_row_wider_or_narrower_than_the_header_is_refused(shop: Shop) -> None:
    """An unquoted comma would shift the columns after it."""
    for row, fields in (("b,red, shoe,5", 4), ("b,red", 2)):
        (shop.raw / "t.csv").write_text(f"item,title,size\na,blue,3\n{row}\n")
        settings = {"kind": "text", "columns": ["title"], "file": "t.csv"}
        shop.refused(
            f"t.csv, line 3 has {fields} fields, but the header has 3", "quotes", **settings
        )
    (shop.raw / "t.csv").write_text('item,title,size\na,"blue, new",3,\nb,red,5\n')
    shop.features(f=F(kind="text", columns=["title"], file="t.csv"))  # an empty field more is none


def test_a_blank_line_among_the_ids_is_refused(shop: Shop) -> None:
    np.save(shop.raw / "w.npy", np.ones((3, 2), dtype=np.float32))
    (shop.raw / "w.txt").write_text("a\n\nb\n")
    shop.refused("w.txt, line 2: the id is missing", file="w.npy", ids="w.txt")
