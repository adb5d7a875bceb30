"""What older versions stored, in the words of this one."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor
from torch.nn import functional as F


def upgraded_config(plain: dict[str, Any]) -> dict[str, Any]:
    """Settings as plain dicts: until format 2 the only cell was a GRU."""
    if "gru" not in plain:
        return plain
    kept = {key: value for key, value in plain.items() if key != "gru"}
    return {**kept, "cell": {"name": "gru", "reset": plain["gru"]["reset"]}}


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
