"""What a kind has learned: its folder, folders that lack it, and kinds of plugins."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from p_rnn.data.features import folders as folders_module
from p_rnn.data.features import kinds
from p_rnn.data.features.new_items import features_of_new
from tests.data.features.shop import TAGS, Shop, refused
from tests.data.features.test_new_items import CASES, VALUES, content, feature_of, frame, name_of
from tests.data.older import without_checksums


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_a_folder_of_an_older_version(
    tmp_path: Path, case: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    shop = Shop(tmp_path, **{name: VALUES[name] for name in case["columns"]})
    folder = shop.folder(feature_of(shop, **case))
    without_checksums(folder)
    fitted = (folder / "fitted.json").read_bytes()
    times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    (folder / "fitted.json").unlink()
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="p_rnn.data.features"):
        feature = feature_of(shop, **case)
    (line,) = [r.message for r in caplog.records if r.name.startswith("p_rnn.data.features")]
    assert line.startswith(f"{folder} was fitted by an older version")
    assert (folder / "fitted.json").read_bytes() == fitted
    del times[folder / "fitted.json"]
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert shop.fitted() == [folder.name]
    new = features_of_new(feature, frame(*case["columns"]))
    assert content(new) == content(feature)


def test_an_older_folder_that_cannot_be_completed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It serves as before, with a warning."""
    shop = Shop(tmp_path, t=TAGS)
    case: dict[str, Any] = {"kind": "tags", "columns": ["t"]}
    folder = shop.folder(feature_of(shop, **case))
    without_checksums(folder)
    (folder / "fitted.json").unlink()

    def warned(part: str) -> None:
        caplog.clear()
        feature = feature_of(shop, **case)
        assert feature.fitted is None
        (line,) = [r.message for r in caplog.records if r.levelno == logging.WARNING]
        assert line.startswith(f"{folder} cannot serve items that come later")
        assert part in line
        assert shop.fitted() == [folder.name]
        refused(lambda: features_of_new(feature, frame("t")), "feature f", "was fitted")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(folders_module.tempfile, "TemporaryDirectory", full)
        warned("No space left")
    words = json.loads((folder / "vocabulary.json").read_text())
    (folder / "vocabulary.json").write_text(json.dumps(words[::-1]))
    warned(f"delete {folder}")


def test_the_state_is_read_when_it_is_looked_at(tmp_path: Path) -> None:
    shop = Shop(tmp_path, t=TAGS)
    feature = shop.bag(kind="tags", columns=["t"])
    assert feature.fitted is not None
    assert (feature.fitted.kind, feature.fitted.columns) == ("tags", ["t"])
    assert feature.fitted.settings == {"separator": None, "min_df": 1, "max_tokens": None}
    folder = shop.folder(feature)
    (folder / "fitted.json").write_text("{")  # not read so far
    refused(lambda: dict(feature.fitted.state), f"{folder}", "damaged", "delete")  # type: ignore[union-attr]
    refused(lambda: features_of_new(feature, frame("t")), f"delete {folder}")


# --- kinds of others ----------------------------------------------------------------------------


def longest(columns: Any, items: Any, folder: Path, fitted: dict[str, Any]) -> dict[str, int]:
    texts = kinds.as_texts(columns[0], items)
    if not fitted:
        fitted["longest"] = max(map(len, texts[: items.num_train]))
    values = np.float32([[len(text) / fitted["longest"]] for text in texts])
    np.save(folder / "values.npy", values)
    return {"with_value": len(texts), "missing": 0}


def without(columns: Any, items: Any, folder: Path) -> dict[str, int]:
    return longest(columns, items, folder, {})


def strange(columns: Any, items: Any, folder: Path, fitted: dict[str, Any]) -> dict[str, int]:
    fitted["array"] = np.zeros(3)
    return longest(columns, items, folder, {})


def test_a_kind_of_a_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(tmp_path, s=VALUES["s"])
    for kind in (longest, without, strange):
        monkeypatch.setitem(kinds.KINDS, kind.__name__, kind)
    feature = feature_of(shop, kind="longest", columns=["s"])
    new = features_of_new(feature, pd.DataFrame({"s": ["x" * 48]}))
    assert content(new) == [[2.0]]  # the longest has 24
    other = feature_of(shop, kind="without", columns=["s"])
    assert content(other) == content(feature)
    assert other.fitted is None
    assert not (shop.folder(other) / "fitted.json").exists()
    refused(lambda: features_of_new(other, frame("s")), "feature f", "new items", "extending.md")
    shop.refused("kind=strange", "plain", kind="strange", columns=["s"])
