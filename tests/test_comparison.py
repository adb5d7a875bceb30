"""Evaluating a checkpoint again: every setting of scripts/evaluate.py has its effect."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from p_rnn.cli import load_config
from p_rnn.comparison import evaluate_checkpoint
from p_rnn.config import EvaluateConfig, EvaluationOverrides
from p_rnn.errors import UserError
from p_rnn.experiment import train
from tests.conftest import TINY
from tests.test_settings_arrive import write_raw


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run on a log with cold items; (its folder, its metrics)."""
    place = tmp_path_factory.mktemp("evaluate")
    write_raw(place / "raw")
    paths = (f"paths.raw={place / 'raw'}", f"paths.prepared={place / 'prepared'}")
    config = load_config(*TINY, *paths, "dataset.path=cold.csv")
    return place, train(config, place / "run")


def again(place: Path, **settings: Any) -> dict[str, Any]:
    evaluation = EvaluationOverrides(
        **{k: settings.pop(k) for k in list(settings) if hasattr(EvaluationOverrides, k)}
    )
    config = EvaluateConfig(str(place / "run" / "checkpoints" / "best.pt"), device="cpu")
    results, _ = evaluate_checkpoint(replace(config, evaluation=evaluation, **settings))
    return results


def test_the_stored_metrics_come_out_again(trained: tuple[Path, dict[str, Any]]) -> None:
    place, metrics = trained
    for split in ("valid", "test"):
        assert again(place, split=split) == {split: metrics["results"][split]}


@pytest.mark.parametrize(
    "settings",
    [
        {"cutoffs": [2]},
        {"ties": "standard"},
        {"cold_items": "keep"},
        {"most_popular": 5},
        {"baselines": []},
        {"split": "valid"},
    ],
)
def test_a_setting_changes_the_result(
    settings: dict[str, Any], trained: tuple[Path, dict[str, Any]]
) -> None:
    place, metrics = trained
    assert again(place, **settings) != {"test": metrics["results"]["test"]}


def test_zero_most_popular_means_all_items(trained: tuple[Path, dict[str, Any]]) -> None:
    place, metrics = trained
    assert again(place, most_popular=0) == {"test": metrics["results"]["test"]}


def test_data_that_moved_are_found(trained: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    place, metrics = trained
    shutil.copytree(place / "raw", tmp_path / "elsewhere")
    moved = again(place, raw=str(tmp_path / "elsewhere"), prepared=str(tmp_path / "prepared"))
    assert moved == {"test": metrics["results"]["test"]}
    assert list((tmp_path / "prepared").iterdir())
    with pytest.raises(UserError, match="missing"):
        again(place, raw=str(tmp_path / "nowhere"))


def test_changed_data_are_refused(trained: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    place, _ = trained
    shutil.copytree(place / "raw", tmp_path / "raw")
    with (tmp_path / "raw" / "cold.csv").open("a") as file:
        file.write("0,1,99,1,0,view\n")
    with pytest.raises(UserError, match="have changed since"):
        again(place, raw=str(tmp_path / "raw"), prepared=str(tmp_path / "prepared"))


def test_device_and_threads_arrive(trained: tuple[Path, dict[str, Any]]) -> None:
    place, _ = trained
    with pytest.raises(UserError, match="device=none_such is not available"):
        again(place, device="none_such")
    threads = torch.get_num_threads()
    try:
        again(place, num_threads=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
