"""The frontier experiment runs on any set in the form of S3-Rec with only its name given."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.running import run_script as script

SMALL = ("batch_size=50", "num_negatives=16", "hidden_size=8", "num_epochs=2")


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("raw"), np.random.default_rng(0)
    lines = [
        " ".join(map(str, [user, *rng.choice(np.arange(1, 41), int(rng.integers(5, 9)), False)]))
        for user in range(1, 61)
    ]
    (folder / "Toys.txt").write_text("\n".join(lines) + "\n")
    attributes = {str(item): [int(item % 5), 5 + int(item % 3)] for item in range(1, 41)}
    (folder / "Toys_item2attributes.json").write_text(json.dumps(attributes))
    return folder


@pytest.mark.parametrize("cell", ["gru", "attention"])
def test_another_set_by_its_name(cell: str, raw: Path, tmp_path: Path) -> None:
    name = "frontier_amazon_beauty" + ("_attention" if cell == "attention" else "")
    words = [f"experiment={name}", "dataset=s3rec", "dataset.name=Toys"]
    paths = [f"paths.raw={raw}", f"paths.prepared={tmp_path}/prepared", "hydra.run.dir=run"]
    done = script("train", tmp_path, *words, *paths, *SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["dataset"]["name"] == "Toys"
    assert metrics["config"]["cell"]["name"] == cell
    assert metrics["config"]["selected_features"] == ["attributes"]
    assert metrics["config"]["model"]["output"] == "both"
    assert metrics["results"]["test"]["parallel_shared"]["targets"] == 60  # every user


def test_the_name_is_asked_for(raw: Path, tmp_path: Path) -> None:
    done = script("train", tmp_path, "dataset=s3rec", f"paths.raw={raw}")
    assert done.returncode == 2
    said = " ".join((done.stdout + done.stderr).split())
    assert "NAME.txt is missing" in said
    assert "dataset.name says which set" in said
