"""A small job with features, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from p_rnn.settings.config import Config

Make = Callable[..., Config]


@pytest.fixture
def job(tiny: Make, tmp_path: Path) -> Make:
    """A small job with two features, in an item table."""
    rng = np.random.default_rng(5)
    table = pd.DataFrame({"item": range(30), "size": rng.random(30)})
    table["tags"] = [f"t{k % 4} t{4 + k % 3}" for k in range(30)]
    table.to_csv(tmp_path / "raw" / "items.csv", index=False)
    features = [
        "dataset.item_table.path=items.csv",
        "dataset.features.size.kind=number",
        "dataset.features.tags.kind=tags",
    ]

    def make(*overrides: str) -> Config:
        return tiny("model=parallel", *features, "dropout_prob=0.1", *overrides)

    return make
