"""Why a loss is no number: where the first infinite or NaN value is, and what most likely made it.

Asked only after it has happened, so that it may read everything.
"""

from __future__ import annotations

import torch
from torch import Tensor

from p_rnn.models.cells import State
from p_rnn.models.features import Bags, DenseRows
from p_rnn.models.network import PRNN
from p_rnn.settings.config import Settings
from p_rnn.settings.errors import UserError

LARGE_WEIGHT = 1e3  # of a subnet or a regulariser
ROWS = 2**16  # of features that are checked at a time


class Diverged(UserError):
    """The loss became NaN or infinite."""


def diverged(
    loss: float, update: int, epoch: int, config: Settings, network: PRNN, state: State
) -> Diverged:
    """The error to raise: what became of the loss, in which update, where, and what to do.

    Args:
        update, epoch: counted from 1.
        state: of the slots after the update, or after a later one.
    """
    when = f"the loss became {loss} at update {update} (epoch {epoch})"
    if (feature := _bad_feature(network)) is not None:
        return Diverged(f"{when}: {feature}; correct its values")
    where = _bad_part(network, state)
    where = f" in {where}" if where else ""
    if (large := _large_weight(config)) is not None:
        return Diverged(f"{when}{where}: most likely because of {large}; lower it")
    mend = [f"lower learning_rate (now {config.learning_rate:g})"]
    if config.optimizer.parameters.get("momentum"):
        mend.append(f"lower optimizer.momentum (now {config.optimizer.parameters['momentum']:g})")
    if config.clip_norm is None:
        mend.append("set clip_norm=1 (clips the gradient)")
    return Diverged(f"{when}{where}; {', '.join(mend)}, or take another loss")


def _bad_feature(network: PRNN) -> str | None:
    """The first value of a feature that is no number."""
    for module in network.modules():
        if not isinstance(module, DenseRows | Bags):
            continue
        values: Tensor = module.values if isinstance(module, DenseRows) else module.weights
        for low in range(0, len(values), ROWS):
            bad = (~torch.isfinite(values[low : low + ROWS])).nonzero()
            if len(bad):
                row = low + int(bad[0, 0])
                if isinstance(module, Bags):  # which item has this token
                    row = int(torch.searchsorted(module.offsets, row, right=True)) - 1
                value = values[low : low + ROWS][tuple(bad[0])].item()
                return (
                    f"the feature {module.name} of the item with index {row} has the value {value}"
                )
    return None


def _bad_part(network: PRNN, state: State) -> str:
    """The subnets whose states are no numbers, or else whose weights; empty if all or none are."""
    by_state = {
        name
        for name, (_, at) in zip(network.names, network.active(), strict=False)
        if not all(bool(torch.isfinite(h).all()) for h in state[at])
    }
    owners = network.owners()
    by_weight = {
        "" if (owner := owners[name]) is None else network.names[owner]
        for name, p in network.named_parameters()
        if not bool(torch.isfinite(p).all())
    }
    for found in (by_state, by_weight - {""}):
        if 0 < len(found) < len(network.active()):
            return " and ".join(f"the subnet {name}" for name in sorted(found))
    return ""


def _large_weight(config: Settings) -> str | None:
    weights = {f"subnets.{name}.weight": own.weight for name, own in config.subnets.items()}
    parameters = {**config.loss.parameters, "weight_decay": 0.0}
    weights |= {f"loss.{k}": v for k, v in parameters.items() if isinstance(v, float)}
    key = max(weights, key=lambda name: abs(weights[name]))
    return f"{key}={weights[key]:g}" if abs(weights[key]) > LARGE_WEIGHT else None
