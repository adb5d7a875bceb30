"""A network as a table: inputs, cells and size of each subnet, and the parameters it owns."""

from __future__ import annotations

from p_rnn.models.network import PRNN, Subnet
from p_rnn.printing import as_text, table

HEADER = ("part", "inputs", "cells", "hidden", "parameters", "shapes")


def summary(network: PRNN) -> str:
    """A row per subnet, one for the shared parameters (learned in every update), and the total."""
    owners, rows = network.owners(), []
    parameters = dict(network.named_parameters())
    for k, name in enumerate([*network.names, "shared"]):
        owner = k if k < len(network.names) else None
        own = [parameters[p] for p, its_owner in owners.items() if its_owner == owner]
        if owner is None and not own:
            continue
        shapes = ["x".join(map(str, p.shape)) for p in sorted(own, key=lambda p: -p.numel())]
        more = f" +{len(shapes) - 2}" if len(shapes) > 2 else ""
        cells = inputs = hidden = ""
        if owner is not None:
            subnet = network.subnets[k]
            assert isinstance(subnet, Subnet)
            layers = subnet.layers
            kinds = [type(cell).__name__ for cell in layers.cells]
            cells = kinds[0] if len(kinds) == 1 else f"{len(kinds)} x {kinds[0]}"
            inputs, hidden = str(len(subnet.inputs)), str(layers.hidden_size)
        count = f"{sum(p.numel() for p in own):,}"
        rows.append([name, inputs, cells, hidden, count, f"{', '.join(shapes[:2])}{more}"])
    total = f"{sum(p.numel() for p in parameters.values()):,}"
    return as_text(table(HEADER, [*rows, ["all", "", "", "", total, ""]]))
