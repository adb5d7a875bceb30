"""A checkpoint of format 2 is evaluated as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from p_rnn.runs.experiment import train
from p_rnn.runs.resuming import check_resume
from p_rnn.settings.config import Config
from p_rnn.settings.errors import UserError
from p_rnn.training.checkpoint import load_checkpoint


def backwards(content: dict[str, Any]) -> dict[str, Any]:
    """What the older version would have written."""
    model = {}
    for name, x in content["model"].items():
        old = name.replace(".layers.cells.", ".gru.layers.").replace(
            ".layers.inputs.", ".gru.inputs."
        )
        if name == "merge.bias.weight":
            x = x[:, 0]
        elif "view.table" in name and not name.startswith("subnets.0.inputs.0."):
            x = x[:-1]
        model[old] = x
    config = {k: v for k, v in content["config"].items() if k not in ("cell", "ema", "clip_norm")}
    config["gru"] = {"reset": content["config"]["cell"]["reset"] or "after"}
    for key in ("schedule", "plugins"):
        del config[key]
    old = {**content, "model": model, "config": config, "format_version": 2}
    del old["checksums"]
    return old


@pytest.mark.parametrize("reset", ["after", "before"])
def test_weights_and_settings_come_through(
    reset: str, tiny: Callable[..., Config], tmp_path: Path
) -> None:
    train(tiny("num_layers=2", f"cell.reset={reset}"), tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "best.pt"
    config, content = load_checkpoint(path)
    raw = torch.load(path, weights_only=True)
    torch.save(backwards(raw), tmp_path / "old.pt")
    upgraded, again = load_checkpoint(tmp_path / "old.pt")
    assert upgraded == config
    assert again["model"].keys() == content["model"].keys()
    for name, x in content["model"].items():
        assert torch.equal(x, again["model"][name]), name
    with pytest.raises(UserError, match="cannot be resumed"):
        check_resume(tmp_path / "old.pt", config)
