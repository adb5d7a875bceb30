"""Small runs whose checkpoints the tests of recommendations load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from p_rnn.runs.experiment import train
from p_rnn.settings.hydra_glue import load_config
from tests.conftest import TINY, random_log

NUM_ITEMS = 30
COUNTING = [f"{key}=null" for key in ("hidden_size", "batch_size", "num_negatives", "num_epochs")]
FEATURES = [
    "dataset.item_table.path=items.csv",
    "dataset.item_table.list_columns=[tags]",
    "dataset.item_table.list_separator='|'",
    "dataset.features.tags.kind=tags",
    "dataset.features.size.kind=number",
]


def text_id(item: int) -> str:
    """Ids that are no integers: leading zeros, and characters of several bytes."""
    return f"{item:03d}" if item % 3 else f"ß→{item}"


def write_shop(raw: Path, cold: bool = False, text: bool = False) -> None:
    """clicks.csv and items.csv; with `cold`, a third of the clicks of the last day are of items
    from 100 on, which nobody clicked before."""
    raw.mkdir(parents=True)
    log = random_log(seed=1, num_items=NUM_ITEMS)
    if cold:
        late = log["time"] > log["time"].max() - 86_400
        log["item"] = log["item"].where(~late | (log["item"] > 9), 100 + log["item"])
    ids = sorted(log["item"].unique())
    items = table_of(ids)
    if text:
        log["item"], items["item"] = log["item"].map(text_id), [text_id(k) for k in ids]
    log.to_csv(raw / "tiny.csv", index=False)
    items.to_csv(raw / "items.csv", index=False)


def table_of(ids: list[int]) -> pd.DataFrame:
    """The item table of some items, by their numbers."""
    at = np.array(ids)
    return pd.DataFrame(
        {
            "item": at,
            "tags": [f"t{k % 7}|t{k % 4}" for k in ids],
            "size": at % 5 + 0.5,
            "title": [f"Größe {k}, " + "x" * (3 * k) for k in ids],
        }
    )


def run_shop(place: Path, folder: str, *overrides: str) -> dict[str, Any]:
    """Train on the shop in `place` / raw; the run is in `place` / `folder`."""
    paths = (f"paths.raw={place / 'raw'}", f"paths.prepared={place / 'prepared'}")
    given = {word.partition("=")[0] for word in overrides}
    words = [w for w in (*TINY, *FEATURES) if w.partition("=")[0] not in given]
    metrics: dict[str, Any] = train(load_config(*words, *paths, *overrides), place / folder)
    return metrics


def best(place: Path, folder: str) -> Path:
    return place / folder / "checkpoints" / "best.pt"
