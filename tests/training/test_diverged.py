"""A loss that is no number: found in its own update, with the place and the likely cause."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from p_rnn.data.features import DenseFeature, Feature
from p_rnn.models.network import Subnet
from p_rnn.training.diverged import Diverged
from p_rnn.training.trainer import Trainer
from tests.worlds import FEATURES, settings, trainer

QUIET = ("tracking.log_every=1000000", "compile=never", "num_epochs=1")


def job(folder: Path, *overrides: str, features: dict[str, Feature] | None = None) -> Trainer:
    made, _ = trainer(settings(*QUIET, *overrides), folder, features=features or FEATURES)
    return made


def test_an_update_that_breaks_the_weights_ends_the_run_at_once(tmp_path: Path) -> None:
    made = job(
        tmp_path, "model=id_only", "learning_rate=1e30", "loss=bpr_max", "optimizer.momentum=0.5"
    )
    with pytest.raises(Diverged) as stopped:
        made.run_pass(0)
    assert made.updates < 5
    line = str(stopped.value)
    assert f"at update {made.updates} (epoch 1)" in line
    for word in ("learning_rate (now 1e+30)", "optimizer.momentum (now 0.5)", "set clip_norm=1"):
        assert word in line


def test_clipping_is_not_offered_twice(tmp_path: Path) -> None:
    made = job(tmp_path, "model=id_only", "learning_rate=1e30", "loss=bpr_max", "clip_norm=5")
    with pytest.raises(Diverged) as stopped:
        made.run_pass(0)
    assert "clip_norm" not in str(stopped.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_feature_with_a_value_that_is_no_number_is_named(bad: float, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    values[7, 1] = bad
    features: dict[str, Feature] = {**FEATURES, "image": DenseFeature("image", "fp", values)}
    made = job(tmp_path, "model=parallel", features=features)
    with pytest.raises(Diverged, match=f"feature image of the item with index 7 has the .* {bad}"):
        made.run_pass(0)


def test_the_subnet_whose_weights_broke_is_named(tmp_path: Path) -> None:
    made = job(tmp_path, "model=parallel", "strategy=alternating")
    subnet = made.network.subnets[2]
    assert isinstance(subnet, Subnet)
    with torch.no_grad():
        next(subnet.layers.parameters()).fill_(float("nan"))
    with pytest.raises(Diverged, match=r"at update 1 .* in the subnet tags;"):
        made.run_pass(0)


def test_a_large_weight_is_to_blame(tmp_path: Path) -> None:
    made = job(tmp_path, "model=parallel", "subnets.tags.weight=1e36", "loss=bpr_max")
    with pytest.raises(Diverged, match=r"because of subnets.tags.weight=1e\+36; lower it"):
        made.run_pass(0)
