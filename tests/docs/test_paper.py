"""The two experiments of docs/paper.md run, with a tiny budget, on the real data that they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from p_rnn.runs.experiment import train
from p_rnn.settings.hydra_glue import load_config
from tests.docs.pages import ROOT, commands

PAPER = ROOT / "docs" / "paper.md"
TINY = ("hidden_size=8", "batch_size=512", "num_epochs=1", "tracking.progress=false", "device=cpu")
STRATEGIES = ("simultaneous", "alternating", "residual", "interleaving")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prepared")


def run(raw: Path, prepared: Path, folder: Path, *overrides: str) -> dict[str, float]:
    places = (f"paths.raw={raw}", f"paths.prepared={prepared}", "evaluation.baselines=[pop]")
    metrics = train(load_config(*overrides, *TINY, *places), folder)
    assert metrics["dataset"]["name"] in ("retailrocket_week", "amazon_beauty")
    better = (
        metrics["test"]["recall@20"] > metrics["results"]["test"]["pop"]["metrics"]["recall@20"]
    )
    assert better
    return dict(metrics["updates_of_subnets"])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_prnn_paper(raw_data: Path, prepared: Path, tmp_path: Path, strategy: str) -> None:
    updates = run(raw_data, prepared, tmp_path, "experiment=prnn_paper", f"strategy={strategy}")
    assert len(set(updates.values())) == 1  # every subnet learns in as many updates
    assert set(updates) == {"id", "category"}


@pytest.mark.parametrize("model", ["id_only", "concat", "feature_only"])
def test_prnn_paper_models(raw_data: Path, prepared: Path, tmp_path: Path, model: str) -> None:
    null = ["model.input=null"] if model == "feature_only" else []
    run(raw_data, prepared, tmp_path, "experiment=prnn_paper", f"model={model}", *null)


def test_prnn_modern(raw_data: Path, prepared: Path, tmp_path: Path) -> None:
    more = ("num_negatives=64", "learning_rate=0.2")
    updates = run(raw_data, prepared, tmp_path, "experiment=prnn_modern", *more)
    assert set(updates) == {"id", "attributes"}


def test_the_page_has_these_commands() -> None:
    text = " ".join(" ".join(words) for _, words in commands(PAPER))
    for experiment in ("prnn_paper", "prnn_modern"):
        assert f"experiment={experiment}" in text
    assert all(re.search(rf"strategy=\S*{name}", text) for name in STRATEGIES)
