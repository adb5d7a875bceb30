"""Raw ids and item indices, and what is stored of the items."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from p_rnn.data.catalogue import LONGEST, Catalogue
from p_rnn.data.texts import Texts


def catalogue(ids: list[Any]) -> Catalogue:
    known = Texts.of(ids) if isinstance(ids[0], str) else np.array(ids, dtype=np.int64)
    return Catalogue(known, np.ones(len(ids), dtype=np.int64), {}, {})


INTEGERS = catalogue([10, 7, -3, 2**62, 0])
TEXTS = catalogue(["10", "007", "ß→日本", "a b", "", "7.5"])


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ([10, 7, -3, 2**62, 0, 8], [0, 1, 2, 3, 4, -1]),
        (["10", "7", "-3", str(2**62), "0"], [0, 1, 2, 3, 4]),
        (["010", "7.0", "+7", " 7", "-0", "٧", "x", "", "9" * 5000], [-1] * 9),
        ([7.0, 7.5, float("nan"), None, True, False, 2**63, -(2**70)], [1] + [-1] * 7),
        (np.array([7, 10], dtype=np.int32), [1, 0]),
        (np.array([7, 2**64 - 1], dtype=np.uint64), [1, -1]),
        (np.array([7.0, np.nan]), [1, -1]),
        (np.array(["7", "x"]), [1, -1]),
        (pd.Series([7, None]), [1, -1]),
        ((7, np.int64(10)), [1, 0]),
        ([], []),
    ],
)
def test_integer_ids(raw: Any, expected: list[int]) -> None:
    assert INTEGERS.index(raw).tolist() == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (["10", "007", "ß→日本", "a b", "", "7.5"], [0, 1, 2, 3, 4, 5]),
        ([10, 7, 10.0, np.int64(10), 7.5, None, float("nan")], [0, -1, 0, 0, 5, -1, -1]),
        (["7", "10 ", "ß→日"], [-1, -1, -1]),
        (np.array(["10", "007"]), [0, 1]),
        (pd.Series(["10", None]), [0, -1]),
        ([], []),
    ],
)
def test_text_ids(raw: Any, expected: list[int]) -> None:
    assert TEXTS.index(raw).tolist() == expected


@pytest.mark.parametrize("each", [INTEGERS, TEXTS], ids=["integers", "text"])
def test_there_and_back(each: Catalogue) -> None:
    assert each.index(each.raw_ids()).tolist() == list(range(len(each)))
    assert each.ids_of([3, 0]) == each.raw_ids()[[3, 0]].tolist()
    assert all(type(raw) in (int, str) for raw in each.ids_of(range(len(each))))


def test_texts() -> None:
    texts = ["", "a", "日本語", "\udcff", "x" * 1000, ""]
    packed = Texts.of(texts)
    assert packed.all() == texts
    assert packed.take([2, 0, 2]) == ["日本語", "", "日本語"]
    assert packed.then(Texts.of(["z", "é"])).all() == [*texts, "z", "é"]
    assert Texts.of([]).all() == []


def test_a_million_ids_are_no_million_objects(tmp_path: Any) -> None:
    many = catalogue([f"item-{k:07d}" for k in range(100_000)])
    torch.save(many.pack(), tmp_path / "items.pt")
    packed = torch.load(tmp_path / "items.pt", weights_only=True, mmap=True)
    assert packed["ids"]["data"].dtype == torch.uint8
    assert (tmp_path / "items.pt").stat().st_size < 100_000 * (12 + 8 + 8) + 10_000
    again = Catalogue.unpack(packed)
    assert again.index(["item-0099999", "item-100000"]).tolist() == [99_999, -1]


def test_properties() -> None:
    known = Catalogue(
        np.arange(3),
        np.ones(3, dtype=np.int64),
        {},
        {"title": Texts.of(["", "Größe", "x" * LONGEST]), "year": np.array([np.nan, 1999, 0.5])},
    )
    again = Catalogue.unpack(known.pack())
    assert again.label(0) == {"title": None, "year": None}
    assert again.label(1) == {"title": "Größe", "year": 1999}
    assert again.labels([2, 1])["year"] == [0.5, 1999]
