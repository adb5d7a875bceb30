"""What older versions stored, in the words of this one."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from p_rnn.settings.sections import (
    Component,
    DatasetConfig,
    FeatureConfig,
    Hyperparameters,
    ScheduleConfig,
)


def upgraded_config(plain: dict[str, Any]) -> dict[str, Any]:
    """Settings as plain dicts of today.

    Until format 2 the only cell was a GRU. Older versions stored nulls where a setting had no use,
    parameters of all losses, readers and so on, and the defaults of the model.
    """
    plain = dict(plain)
    if "gru" in plain:
        plain["cell"] = {"name": "gru", "reset": plain.pop("gru")["reset"]}
    defaults: dict[str, Any] = {f.name: f.default for f in fields(Hyperparameters)}
    plain |= {key: type(x)() for key, x in defaults.items() if plain.get(key) is None}
    plain["early_stopping"] = {
        k: v or "" if k == "metric" else v for k, v in plain["early_stopping"].items()
    }
    model = {key: plain["model"].get(key) for key in ("name", "input", "feature_input")}
    plain["model"] = {**model, "output": plain["model"].get("output", "free")}
    plain["baseline"] = _there(plain["baseline"])
    for name in ("loss", "optimizer", "cell", "strategy", "schedule", "dataset"):
        known = {f.name for f in fields(_SECTIONS.get(name, Component))}
        plain[name] = _there(plain.get(name, {"name": "constant"}), known)
    known = {f.name for f in fields(FeatureConfig)}
    features = plain["dataset"].get("features", {})
    plain["dataset"]["features"] = {name: _there(own, known) for name, own in features.items()}
    return plain


_SECTIONS = {"dataset": DatasetConfig, "schedule": ScheduleConfig}


def _there(section: dict[str, Any], known: set[str] | None = None) -> dict[str, Any]:
    """Without parameters that are null."""
    return {k: v for k, v in section.items() if v is not None or k in (known or ())}


def upgraded_content(content: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint of format 2: names of parameters, biases as columns, padding rows of bags.

    Its optimizer is left out, so that it can be evaluated and not trained on.
    """
    config = upgraded_config(content["config"])
    reads_ids = config["model"]["input"] is not None
    model = {
        _renamed(name): _reshaped(name, x, reads_ids)
        for name, x in content.get("model", {}).items()
    }
    kept = {key: value for key, value in content.items() if key != "optimizer"}
    return {**kept, "config": config, **({"model": model} if model else {})}


def _renamed(name: str) -> str:
    name = re.sub(r"\.gru\.layers\.", ".layers.cells.", name)
    return re.sub(r"\.gru\.inputs\.", ".layers.inputs.", name)


def _reshaped(name: str, x: Tensor, reads_ids: bool) -> Tensor:
    if name == "merge.bias.weight":
        return x[:, None]
    table = re.fullmatch(r"subnets\.(\d+)\.inputs\.(\d+)\.view\.table\.weight", name)
    if table and not (reads_ids and table.groups() == ("0", "0")):
        return F.pad(x, (0, 0, 0, 1))
    return x
