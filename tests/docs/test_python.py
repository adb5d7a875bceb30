"""The Python examples of README and the quickstart run, on less data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.conftest import random_log
from tests.docs.pages import ROOT, text_of

# What a page says, and what runs here instead.
SMALLER = (('"num_events": 30000', '"num_events": 3000'), ("num_epochs=5", "num_epochs=1"))


def write_shop(place: Path) -> dict[str, pd.DataFrame]:
    """A click log and an item table with the columns that the pages name."""
    log = random_log(seed=1).rename(columns={"session": "visit", "item": "sku"})
    dates = pd.to_datetime(log.pop("time") + 1_700_000_000, unit="s", utc=True)
    clicks = log.assign(sku="A-" + log["sku"].astype(str), clicked_at=dates.astype(str))
    products = pd.DataFrame({"sku": [f"A-{k}" for k in range(30)]})
    products["brand"] = np.array(["acme", "zeta"])[np.arange(30) % 2]
    products["tags"] = [f"t{k % 4}|u{k % 5}" for k in range(30)]
    place.mkdir(parents=True)
    clicks.to_csv(place / "clicks.csv", index=False)
    products.to_csv(place / "products.csv", index=False)
    return {"clicks": clicks, "products": products}


@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md"])
def test_python_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, Any] = dict(write_shop(tmp_path / "data" / "raw" / "shop"))
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", text_of(ROOT / page), re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        for said, instead in SMALLER:
            block = block.replace(said, instead)
        exec(compile(block, page, "exec"), names)
    assert 0 < names["trained"].metrics["test"]["recall@20"] <= 1
    assert len(list(tmp_path.glob("outputs/*/*/*/metrics.json"))) == len(blocks)
