"""The two experiments of docs/paper.md run, with a tiny budget, on the real data that they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from p_rnn.runs.experiment import train
from p_rnn.settings.hydra_glue import load_config
from tests.docs.pages import ROOT, commands

PAPER = ROOT / "docs" / "paper.md"
TINY = ("hidden_size=8", "num_epochs=1", "tracking.progress=false", "device=cpu")
PAPER_TINY = (*TINY, "experiment=prnn_paper", "batch_size=128", "learning_rate=0.2")
MODERN_TINY = (
    *TINY,
    "experiment=prnn_modern",
    "batch_size=512",
    "learning_rate=0.2",
    "num_negatives=64",
)
STRATEGIES = ("simultaneous", "alternating", "residual", "interleaving")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prepared")


def run(raw: Path, prepared: Path, folder: Path, *overrides: str) -> dict[str, float]:
    places = (f"paths.raw={raw}", f"paths.prepared={prepared}", "evaluation.baselines=[pop]")
    metrics = train(load_config(*overrides, *places), folder)
    assert metrics["dataset"]["name"] in ("retailrocket_week", "amazon_beauty")
    popular = metrics["results"]["test"]["pop"]["metrics"]
    assert metrics["test"]["recall@20"] > popular["recall@20"]
    return dict(metrics["updates_of_subnets"])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_prnn_paper(raw_data: Path, prepared: Path, tmp_path: Path, strategy: str) -> None:
    updates = run(raw_data, prepared, tmp_path, *PAPER_TINY, f"strategy={strategy}")
    assert len(set(updates.values())) == 1  # every subnet learns in as many updates
    assert set(updates) == {"id", "category"}


@pytest.mark.parametrize("model", ["id_only", "concat", "feature_only"])
def test_prnn_paper_models(raw_data: Path, prepared: Path, tmp_path: Path, model: str) -> None:
    null = ["model.input=null"] if model == "feature_only" else []
    run(raw_data, prepared, tmp_path, *PAPER_TINY, f"model={model}", *null)


@pytest.mark.slow
def test_prnn_modern(raw_data: Path, prepared: Path, tmp_path: Path) -> None:
    updates = run(raw_data, prepared, tmp_path, *MODERN_TINY)
    assert set(updates) == {"id", "attributes"}


def test_the_page_has_these_commands() -> None:
    text = " ".join(" ".join(words) for _, words in commands(PAPER))
    for experiment in ("prnn_paper", "prnn_modern"):
        assert f"experiment={experiment}" in text
    assert all(re.search(rf"strategy=\S*{name}", text) for name in STRATEGIES)
