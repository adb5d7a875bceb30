"""A shop with two trained models, and the command in this process."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from p_rnn.commands import recommend
from p_rnn.runs.experiment import train
from p_rnn.settings.hydra_glue import load_config
from tests.conftest import TINY, random_log

COUNTING = [f"{key}=null" for key in ("hidden_size", "batch_size", "num_negatives", "num_epochs")]
COLD = "late, item"  # without a click in training, and with a comma


def text_id(item: int) -> str:
    return COLD if item == 100 else f"{item:03d}"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with raw files and two runs: best.pt of a network and of item_knn."""
    place = tmp_path_factory.mktemp("recommend")
    (place / "raw").mkdir()
    log = random_log(seed=1).rename(columns={"session": "visit", "item": "sku", "time": "at"})
    late = (log["at"] > log["at"].max() - 43_200) & (log["sku"] == 3)
    log["sku"] = log["sku"].where(~late, 100).map(text_id)
    assert late.any()
    log["at"] *= 1000
    log.to_csv(place / "raw" / "tiny.csv", index=False, sep=";")
    items = pd.DataFrame({"sku": [text_id(k) for k in (*range(30), 100)]})
    items["title"] = [f"a chair of wood, {k} " + "and so on " * 20 for k in range(len(items))]
    items["price"] = np.arange(len(items)) / 2
    items.to_csv(place / "raw" / "items.csv", index=False)
    data = [
        *("dataset.columns.session=visit", "dataset.columns.item=sku", "dataset.columns.time=at"),
        *("dataset.time_unit=ms", "dataset.separator=';'", "dataset.item_table.path=items.csv"),
        *("dataset.item_table.item=sku", "dataset.item_table.separator=','"),
        *(f"paths.raw={place / 'raw'}", f"paths.prepared={place / 'prepared'}"),
    ]
    for name, own in (("network", []), ("counts", ["model=item_knn", *COUNTING])):
        words = [w for w in TINY if not own or w.split("=")[0] + "=null" not in own]
        own = [w for w in own if w not in COUNTING]
        train(load_config(*words, *data, *own), place / name)
        (place / name / "checkpoints" / "best.pt").rename(place / f"{name}.pt")
    return place


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command, in this process and an empty folder: exit status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def command(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["p-rnn recommend", *_on_cpu(words)])
        status = 0
        try:
            recommend.main()
        except SystemExit as end:
            status = int(str(end.code))
        said = capsys.readouterr()
        return status, said.out, said.err

    return command


def _on_cpu(words: tuple[str, ...]) -> list[str]:
    given = any(word.startswith("device=") for word in words)
    return [*words] if given else [*words, "device=cpu"]


def rows_of(text: str) -> list[list[str]]:
    """The cells of the table of recommendations."""
    lines = text[text.index("rank  item") :].splitlines()[1:]
    return [re.split(r"  +", line.strip()) for line in lines]


@pytest.fixture
def clicks(tmp_path: Path) -> pd.DataFrame:
    """Sessions c, a, b in order of first appearance, shuffled in time, with an unknown item."""
    frame = pd.DataFrame(
        [
            *(("c", "002", 30_000), ("a", "005", 20_000), ("c", "001", 10_000)),
            *(("b", "nope", 5_000), ("a", "006", 40_000), ("c", "009", 30_000)),
        ],
        columns=["visit", "sku", "at"],
    )
    frame.to_csv(tmp_path / "clicks.csv", index=False, sep=";")
    return frame
