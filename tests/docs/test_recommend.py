"""docs/recommend.md from top to bottom: its commands and its Python, on a small shop."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.docs.pages import ROOT, commands, text_of
from tests.docs.test_python import write_shop
from tests.running import run_script

PAGE, QUICKSTART = ROOT / "docs" / "recommend.md", ROOT / "docs" / "quickstart.md"
SMALLER = ("num_epochs=2", "hidden_size=8", "batch_size=16", "tracking.progress=false")
RENAMED = {"A-1": "B-2", "A-2": "C-9"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader's folder: the files of the quickstart, with more rows."""
    place = tmp_path_factory.mktemp("reader")
    raw = place / "data" / "raw" / "shop"
    frames = write_shop(raw)
    for name, frame in frames.items():
        frame["sku"] = frame["sku"].replace(RENAMED)
        if name == "products":
            frame["price"] = [k + 0.5 for k in range(len(frame))]
        frame.to_csv(raw / f"{name}.csv", index=False)
    text = text_of(QUICKSTART)
    (block,) = re.findall(r"conf/dataset/shop\.yaml`:\n\n((?:    .*\n)+)", text)
    (place / "conf" / "dataset").mkdir(parents=True)
    (place / "conf" / "dataset" / "shop.yaml").write_text(textwrap.dedent(block))
    return place


def test_the_page_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = [c for c in commands(PAGE) if c[0] in ("train", "recommend")]
    assert first[0] == "train"
    assert len(others) == 4
    for script, words in (first, *others):
        own = SMALLER if script == "train" else ()
        done = run_script(script, folder, *words, *own, "device=cpu")
        assert done.returncode == 0, done.stdout + done.stderr
    top = pd.read_csv(folder / "top.csv")
    assert list(top) == ["session", "rank", "item", "score"]
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    blocks = re.findall(r"^```python\n(.*?)^```", text_of(PAGE), re.MULTILINE | re.DOTALL)
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), names)
    assert names["top"].skipped == ["X-1"]
    assert set(names["few"].ids) == {"B-2", "C-9"}
    assert names["session"].history == ["A-7", "C-9"]
    assert names["model"].catalogue.index(["N-1"])[0] == 30
    more = run_script("recommend", folder, "checkpoint=outputs/first/more.pt", "session=[N-1]")
    assert "N-1" in more.stdout
    assert "unknown" not in more.stdout
    assert {path.name for path in folder.iterdir()} == {"conf", "data", "outputs", "top.csv"}
    assert [path.name for path in (folder / "outputs").iterdir()] == ["first"]
