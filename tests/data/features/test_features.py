"""Which features a data set has, and the folders in which they are kept."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from p_rnn.data import prepare as prepare_module
from p_rnn.data.features import BagFeature, DenseFeature, prepare_features
from p_rnn.data.prepare import prepare
from p_rnn.settings.errors import UserError
from p_rnn.settings.hydra_glue import load_config
from tests.data.features.shop import TAGS, TEXTS, VECTORS, F, Shop, X, lists, refused
from tests.data.older import without_checksums

# --- selection and declaration ------------------------------------------------------------------


def test_the_selected_features_come_in_their_order(tmp_path: Path) -> None:
    shop = Shop(tmp_path, x=X, t=TAGS)
    declared = {"tags": F(columns=["t"]), "x": F()}
    assert list(shop.features(None, **declared)) == ["tags", "x"]
    assert list(shop.features(["x", "tags"], **declared)) == ["x", "tags"]
    shutil.rmtree(shop.dataset.folder / "features")
    assert list(shop.features(["x"], **declared)) == ["x"]
    assert len(shop.fitted()) == 1  # nothing is fitted that nobody asked for
    refused(lambda: shop.features(["tag"], **declared), "'tag'", "'tags'?", "Known: tags, x")
    refused(lambda: shop.features(["x", "x"], **declared), "selected_features", "twice")
    refused(lambda: shop.features(**{"id": F(columns=["x"])}), "'id'", "reserved for networks")
    refused(lambda: shop.features(**{"shared": F(columns=["x"])}), "'shared'", "another name")
    refused(lambda: shop.features(**{"a.b": F(columns=["x"])}), "'a.b'", "letters")
    refused(lambda: shop.features(**{"a b": F(columns=["x"])}), "'a b'", "letters")
    refused(
        lambda: shop.features(x=F(columns=["z"])), "features.x", "no property 'z'", "Known: t, x"
    )
    refused(lambda: shop.features(x=F(columns=[])), "features.x.columns", "empty")
    refused(lambda: shop.features(t=F(min_df=0)), "dataset.features.t.min_df=0", "at least 1")
    refused(lambda: shop.features(x=F(kind="tag")), "dataset.features.x.kind", "tags")


def test_properties_are_features_when_none_is_declared(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ["a b", "b", "c", "d", None, "f", "c"]  # four of six items have one of their own
    colours = ["r", "r", "r", "g", "b", "w", None]  # three of six: not more than half
    shop = Shop(tmp_path, x=X, v=VECTORS, t=TAGS, name=names, colour=colours)
    with caplog.at_level(logging.INFO, logger="p_rnn"):
        found = shop.features()
    kinds = {name: shop.manifest(feature)["kind"] for name, feature in found.items()}
    assert kinds == {
        "x": "number",
        "v": "vector",
        "t": "tags",
        "name": "category",
        "colour": "category",
    }
    warned = [
        record.message
        for record in caplog.records
        if record.levelno == logging.WARNING and record.name.startswith("p_rnn.data.feature")
    ]
    assert len(warned) == 1
    assert "'name'" in warned[0]
    assert "dataset.features.name.kind=text" in warned[0]
    fitted = [record.message for record in caplog.records if record.message.startswith("feature")]
    assert len(fitted) == 5
    assert "feature t (tags): 5 items have a value, 2 do not; 3 tokens; 1 dropped" in fitted[2]
    # the inferred kind, given: the same folder
    assert shop.features(x=F(kind="number"))["x"].fingerprint == found["x"].fingerprint
    caplog.clear()
    shop.features(name=F(kind="category"))  # said so: no warning
    shop.features()  # nothing is fitted again
    assert [r for r in caplog.records if r.name.startswith("p_rnn.data.feature")] == []


def test_properties_that_tell_nothing_are_skipped_where_none_is_declared(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nothing: list[Any] = [None] * 7
    shop = Shop(
        tmp_path, x=X, same=[3.0] * 7, empty=nothing, late=[*nothing[:5], 1.0, 2.0], one=["z"] * 7
    )
    with caplog.at_level(logging.INFO, logger="p_rnn"):
        assert list(shop.features()) == ["x"]
    skipped = [r.message for r in caplog.records if "is skipped" in r.message]
    assert [message.split()[1] for message in skipped] == ["same", "empty", "late", "one"]
    assert "constant (3)" in skipped[0]
    assert "no training item has a value" in skipped[1]
    assert "all items have the same value" in skipped[3]
    rest = "selected_features=[x,empty,late,one]"
    for selected in (["same"], ["x", "same"]):
        with pytest.raises(UserError, match="constant") as caught:
            shop.features(selected)
        assert f"({rest}, or dataset.item_table.columns=[x,empty,late,one])" in str(caught.value)
    shop.refused("no training item has a value", "(model=id_only)", kind="tags", columns=["empty"])
    with pytest.raises(UserError, match="no informative item features"):
        Shop(tmp_path / "other", empty=nothing).features()


def test_a_data_set_without_features(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    for selected in (None, ["x"]):
        refused(lambda s=selected: shop.features(s), "shop has no item features", "model=id_only")
    shop.refused("no item table", "file", kind="number")


def test_properties_whose_names_cannot_be_features(tmp_path: Path) -> None:
    shop = Shop(tmp_path, **{"id": X, "a b": X})
    refused(lambda: shop.features(["id"]), "'id'", "columns: ['id']")
    refused(lambda: shop.features(["a b"]), "columns: ['a b']")
    assert list(shop.features(number=F(columns=["a b", "id"]))) == ["number"]


INERT: list[tuple[dict[str, Any], str, str]] = [
    ({"kind": "vector", "ngrams": 2}, "f.ngrams", "kind=vector takes normalize"),
    ({"kind": "number", "normalize": True}, "f.normalize", "kind=number takes log"),
    ({"kind": "category", "separator": "|"}, "f.separator", "kind=category takes"),
    ({"kind": "tags", "max_df": 0.5}, "f.max_df", "kind=tags takes"),
    ({"kind": "text", "separator": "|"}, "f.separator", "kind=text takes"),
    ({"kind": "hashed", "num_buckets": 3, "min_df": 2}, "f.min_df", "kind=hashed takes"),
    ({"kind": "number", "ids": "ids.npy"}, "f.ids", "the item table takes columns"),
    ({"kind": "number", "item": "sku"}, "f.item", "the item table takes columns"),
]


@pytest.mark.parametrize(("settings", "key", "why"), INERT)
def test_an_inert_setting_is_refused(
    tmp_path: Path, settings: dict[str, Any], key: str, why: str
) -> None:
    shop = Shop(tmp_path, x=X)
    shop.refused(key, "has no effect", why, columns=["x"], **settings)


# --- folders ------------------------------------------------------------------------------------


def test_arrays_are_memory_mapped_and_fit_for_torch(tmp_path: Path) -> None:
    shop = Shop(tmp_path, v=VECTORS, t=TEXTS)
    v, t = shop.features(v=F(), t=F(kind="text")).values()
    assert isinstance(v, DenseFeature)
    assert isinstance(t, BagFeature)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for array in (v.values, t.offsets, t.tokens, t.weights):
            assert isinstance(array, np.memmap)
            assert array.mode == "c"
            assert torch.from_numpy(array).shape == array.shape
    v.values[:] = 7  # a copy in memory; the file stays
    assert shop.dense(columns=["v"])[0] == [3, 4]
    assert (t.offsets.dtype, t.tokens.dtype) == (np.int64, np.int32)


CHANGES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"kind": "vector", "columns": ["v"]}, {"normalize": True}),
    ({"kind": "number", "columns": ["x"]}, {"log": True}),
    ({"kind": "number", "columns": ["x"]}, {"columns": ["y"]}),
    ({"kind": "number", "columns": ["x"]}, {"kind": "category"}),
    ({"kind": "tags", "columns": ["s"]}, {"separator": "e"}),
    ({"kind": "tags", "columns": ["t"]}, {"min_df": 2}),
    ({"kind": "tags", "columns": ["t"]}, {"max_tokens": 1}),
    ({"kind": "text", "columns": ["s"]}, {"ngrams": 1}),
    ({"kind": "text", "columns": ["s"]}, {"stop_words": False}),
    ({"kind": "text", "columns": ["s"]}, {"max_df": 0.5}),
    ({"kind": "hashed", "columns": ["t"], "num_buckets": 2}, {"num_buckets": 5}),
]


@pytest.mark.parametrize(("settings", "change"), CHANGES)
def test_only_the_changed_feature_is_fitted_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    change: dict[str, Any],
) -> None:
    shop = Shop(tmp_path, v=VECTORS, x=X, y=[float(k) for k in range(7)], t=TAGS, s=TEXTS)
    monkeypatch.setattr(prepare_module, "collect", None)  # the events are not read again
    other = F(kind="tags", columns=["t"])
    one = shop.features(f=F(**settings), other=other)
    before = {p: p.stat().st_mtime_ns for p in shop.dataset.folder.rglob("*") if p.is_file()}
    config = replace(shop.config, features={"f": F(**{**settings, **change}), "other": other})
    dataset = prepare(config, shop.paths)
    assert dataset.folder == shop.dataset.folder
    two = prepare_features(config, shop.paths, dataset, None)
    assert two["f"].fingerprint != one["f"].fingerprint
    assert two["other"].fingerprint == one["other"].fingerprint
    assert len(shop.fitted()) == 3
    assert {p: p.stat().st_mtime_ns for p in before} == before
    # and the change does something: the content differs, not just the name of the folder
    folders = [shop.folder(features["f"]) for features in (one, two)]
    contents = [
        {p.name: p.read_bytes() for p in folder.iterdir() if p.stem not in ("manifest", "fitted")}
        for folder in folders
    ]
    assert contents[0] != contents[1]


def test_a_default_that_is_given_changes_nothing(tmp_path: Path) -> None:
    shop = Shop(tmp_path, t=TEXTS)
    plain = shop.bag(kind="text", columns=["t"])
    given = shop.bag(kind="text", columns=["t"], ngrams=2, stop_words=True, min_df=1, max_df=1.0)
    assert plain.fingerprint == given.fingerprint
    assert len(shop.fitted()) == 1
    assert shop.features(t=F(kind="text"))["t"].fingerprint != plain.fingerprint  # another name


def test_the_fingerprint_and_the_content_are_the_same_in_another_process(tmp_path: Path) -> None:
    shop = Shop(tmp_path, t=TAGS)
    declared = {
        "a": F(kind="tags", columns=["t"]),
        "b": F(kind="hashed", columns=["t"], num_buckets=7),
    }
    place = shop.dataset.folder / "features"
    shop.features(**declared)
    here = {p.relative_to(place): p.read_bytes() for p in place.rglob("*.*")}
    shutil.rmtree(place)
    code = (
        "from p_rnn.settings.config import *\n"
        "from p_rnn.settings.sections import *; from p_rnn.data.prepare import prepare\n"
        "from p_rnn.data.readers.options import *\n"
        "from p_rnn.data.features import prepare_features\n"
        f"config = {shop.config!r}; paths = {shop.paths!r}\n"
        f"config.features = {declared!r}\n"
        "prepare_features(config, paths, prepare(config, paths), None)"
    )
    env = {**os.environ, "PYTHONHASHSEED": "12"}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)
    assert {p.relative_to(place): p.read_bytes() for p in place.rglob("*.*")} == here
    assert len(here) == 5 + 5


def test_only_changed_properties_are_fitted_again(tmp_path: Path) -> None:
    shop = Shop(tmp_path, x=X, y=X)
    one = shop.features(x=F(), y=F())
    frame = pd.read_parquet(shop.raw / "items.parquet")
    frame.assign(x=frame["x"] + 1).to_parquet(shop.raw / "items.parquet")
    two = shop.features(x=F(), y=F())
    assert one["x"].fingerprint != two["x"].fingerprint
    assert one["y"].fingerprint == two["y"].fingerprint
    assert len(shop.fitted()) == 3


@pytest.mark.parametrize(
    ("settings", "left", "dropped"),
    [  # in training: red, shoes, ones, blue, hat; among the others also green
        ({"min_df": 1}, 5, 1),
        ({"min_df": 2}, 2, 4),
        ({"max_tokens": 1}, 1, 5),
    ],
)
def test_text_counts_all_the_tokens_that_it_drops(
    tmp_path: Path, settings: dict[str, Any], left: int, dropped: int
) -> None:
    shop = Shop(tmp_path, text=TEXTS)
    shop.features(text=F(kind="text", ngrams=1, **settings))
    (name,) = shop.fitted()
    manifest = json.loads((shop.dataset.folder / "features" / name / "manifest.json").read_text())
    counts = manifest["counts"]
    assert (counts["num_tokens"], counts["dropped_tokens"]) == (left, dropped)


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "no manifest": lambda f: (f / "manifest.json").unlink(),
    "no JSON": lambda f: (f / "manifest.json").write_text("{"),
    "JSON list": lambda f: (f / "manifest.json").write_text("[]"),
    "other format": lambda f: edit(f, format="cats"),
    "other settings": lambda f: edit(f, fingerprint="000000000000"),
    "other data set": lambda f: edit(f, dataset="000000000000"),
    "no array": lambda f: (f / "tokens.npy").unlink(),
    "an array too many": lambda f: np.save(f / "values.npy", np.zeros(3)),
    "empty array": lambda f: (f / "weights.npy").write_bytes(b""),
    "half an array": lambda f: halve(f / "weights.npy"),
    "short array": lambda f: np.save(f / "tokens.npy", np.zeros(2, dtype=np.int32)),
    "other type": lambda f: np.save(f / "weights.npy", np.load(f / "weights.npy").astype(int)),
    "offsets": lambda f: np.save(f / "offsets.npy", np.load(f / "offsets.npy") + 1),
    "no vocabulary": lambda f: (f / "vocabulary.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    shop = Shop(tmp_path, t=TEXTS)
    folder = shop.folder(shop.bag(kind="text", columns=["t"]))
    DAMAGES[damage](folder)
    refused(lambda: shop.bag(kind="text", columns=["t"]), str(folder), f"delete {folder}")
    shutil.rmtree(folder)
    shop.bag(kind="text", columns=["t"])


def test_a_damaged_dense_folder_and_item_table(tmp_path: Path) -> None:
    shop = Shop(tmp_path, v=VECTORS, t=TAGS)
    folder = shop.folder(shop.features(v=F())["v"])
    without_checksums(folder)
    short = {"values": {"shape": [3, 2], "dtype": "float32"}}
    np.save(folder / "values.npy", np.zeros((3, 2), dtype=np.float32))
    edit(folder, arrays=short)
    refused(lambda: shop.features(v=F()), str(folder), "wrong length", f"delete {folder}")
    (table,) = shop.dataset.folder.glob("items-*")
    (table / "t.jsonl").write_text("[1]\n")
    refused(lambda: shop.features(t=F(kind="tags")), f"{table} is damaged", "delete it")
    (table / "manifest.json").write_text("{}")
    refused(lambda: shop.features(t=F(kind="tags")), f"{table} is damaged", "delete it")


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(tmp_path, v=VECTORS, x=X, t=TAGS)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", full)
        for settings in ({"columns": ["t"]}, {"columns": ["x"]}):
            refused(lambda s=settings: shop.features(f=F(**s)), "disk is full", "paths.prepared")
    with monkeypatch.context() as patch:  # found out before a page of the map is touched
        patch.setattr(os, "posix_fallocate", full, raising=False)
        refused(lambda: shop.features(f=F(columns=["v"])), "disk is full", "paths.prepared")
    assert shop.fitted() == []
    assert len(shop.features(v=F(), x=F(), t=F())) == 3


# --- real data ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("synthetic", {"image": (64,), "text": 500, "category": 12}),
        ("ml_100k", {"class": 19, "release_year": 73}),
        ("amazon_beauty", {"attributes": 637}),
    ],
)
def test_shipped_data_sets(
    raw_data: Path, tmp_path: Path, name: str, expected: dict[str, Any]
) -> None:
    config = load_config(f"dataset={name}", f"paths.raw={raw_data}", f"paths.prepared={tmp_path}")
    dataset = prepare(config.dataset, config.paths)
    features = prepare_features(config.dataset, config.paths, dataset, None)
    assert list(features) == list(expected)
    for feature, size in zip(features.values(), expected.values(), strict=True):
        if isinstance(feature, DenseFeature):
            assert feature.values.shape == (dataset.num_items, *size)
        else:
            assert feature.num_tokens == size
            assert (np.diff(feature.offsets) > 0).all()


def test_attributes_equal_those_of_the_file(raw_data: Path, tmp_path: Path) -> None:
    config = load_config(
        "dataset=amazon_beauty", f"paths.raw={raw_data}", f"paths.prepared={tmp_path}"
    )
    dataset = prepare(config.dataset, config.paths)
    bag = prepare_features(config.dataset, config.paths, dataset, None)["attributes"]
    assert isinstance(bag, BagFeature)
    folder = dataset.folder / "features" / f"attributes-{bag.fingerprint}"
    words = json.loads((folder / "vocabulary.json").read_text())
    path = raw_data / "amazon-beauty" / "Beauty_item2attributes.json"
    source = json.loads(path.read_text())
    for item_id, tokens in zip(dataset.item_ids, lists(bag, bag.tokens), strict=True):
        assert {int(words[t]) for t in tokens} == set(source[str(item_id)])
