"""How much memory a training takes at least, found before anything large is allocated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from p_rnn.batches.session_parallel import num_pairs
from p_rnn.data.dataset import Sessions
from p_rnn.data.features import Feature
from p_rnn.memory import in_bytes, require
from p_rnn.models.architectures import network_of
from p_rnn.models.cells.attention import Attention
from p_rnn.models.network import PRNN
from p_rnn.models.parts import Parts
from p_rnn.models.tables import Table
from p_rnn.settings.config import Settings
from p_rnn.settings.errors import UserError
from p_rnn.streams import Streams
from p_rnn.training.optimizers import build_optimizer

FLOAT = 4  # bytes
ORDINARY = 4096  # units: below that, it is the number of rows that makes a matrix large


@dataclass(frozen=True)
class Size:
    """Bytes that a training takes at least, by what takes them.

    Attributes:
        largest: name, shape and bytes of the largest parameter; `layers`: of all subnets.
    """

    parts: Mapping[str, float]
    largest: tuple[str, tuple[int, ...], float]


def check_size(
    config: Settings,
    num_items: int,
    sessions: Sessions,
    features: Mapping[str, Feature],
    device: torch.device,
) -> None:
    """Refuse a training that cannot fit into memory.

    Raises:
        UserError: it needs more than the device has left; with the setting to blame.
    """
    network = skeleton(config, num_items, features)
    if network is None:
        return
    size = measured(config, network, sessions)
    what = max(size.parts, key=lambda name: size.parts[name])
    name, shape, count = size.largest
    more = ""
    if what in OF_WEIGHTS and count > 0.1 * size.parts["weights"]:
        more = f" (of which {name}, {' x '.join(map(str, shape))}, {in_bytes(count)})"
    require(size.parts, _advice(config, what, size), device, more)


OF_WEIGHTS = ("weights", "optimizer", "gradients", "averaged weights")


def skeleton(config: Settings, num_items: int, features: Mapping[str, Feature]) -> PRNN | None:
    """The network on PyTorch's meta device, where parameters have shapes but no memory.

    None where a plugin's model cannot be built there.

    Raises:
        UserError: a matrix that no machine could address.
    """
    parts = Parts(config, num_items, Streams(config.seed), features)
    for name in features:
        parts.feature(name)
    try:
        with torch.device("meta"):
            return network_of(parts)
    except (RuntimeError, NotImplementedError) as error:
        if "overflow" not in str(error):
            return None
        key, value = _widest(config)
        raise UserError(f"{key}={value} makes matrices that no memory can hold; lower it") from None


def measured(config: Settings, network: PRNN, sessions: Sessions) -> Size:
    """The size of a training of this network on these sessions."""
    sizes = {name: FLOAT * p.numel() for name, p in network.named_parameters()}
    total = float(sum(sizes.values()))
    tables = sum(FLOAT * m.weight.numel() for m in network.modules() if isinstance(m, Table))
    optimizer = build_optimizer(config.optimizer, network.parameters(), config.learning_rate)
    full = config.negatives == "full"
    pairs = num_pairs(sessions.offsets)
    batch = min(config.batch_size, pairs)
    parts = {
        "weights": total,
        "optimizer": len(getattr(optimizer, "slots", ())) * total,
        # Of tables only the rows of a mini-batch have gradients, unless all are scored.
        "gradients": total if full else total - tables,
        "averaged weights": total if config.ema is not None else 0.0,
        "scores of a mini-batch": _scores(config, network, batch),
        "states of the slots": FLOAT * float(config.batch_size) * _state_width(network),
        "attention": _attention(config, network, sessions),
    }
    largest = max(sizes, key=lambda name: sizes[name])
    return Size(parts, (largest, tuple(network.get_parameter(largest).shape), sizes[largest]))


def _scores(config: Settings, network: PRNN, batch: int) -> float:
    """Scores and their gradients, the drawn negatives, and rows of the candidates."""
    if config.negatives == "full":
        return 2.0 * FLOAT * batch * network.num_items
    if config.negatives == "uniform_one":
        return 2.0 * FLOAT * batch * 2
    candidates = batch + config.num_negatives
    rows = 2.0 * FLOAT * candidates * _row_width(network)
    drawn = 2.0 * 8 * config.num_negatives  # random numbers and item indices, 8 bytes each
    return 2.0 * FLOAT * batch * candidates + rows + drawn


def _row_width(network: PRNN) -> int:
    tables: Any = getattr(network.merge, "tables", ())
    return sum(int(table.width) for table in tables)


def _state_width(network: PRNN) -> int:
    return sum(sum(subnet.layers.state_widths) for subnet, _ in network.active())


def _attention(config: Settings, network: PRNN, sessions: Sessions) -> float:
    """Scores of all pairs of positions in the longest window, and their softmax."""
    if config.batching != "sequences":
        return 0.0
    longest = min(config.window, int(np.max(sessions.lengths)) - 1)
    heads = [m.heads for m in network.modules() if isinstance(m, Attention)]
    return 2.0 * FLOAT * max(heads, default=0) * longest**2


def _widest(config: Settings) -> tuple[str, int]:
    """The setting that makes the matrices wide, and its value."""
    found = {"hidden_size": config.hidden_size}
    reads = (config.model.input, config.model.feature_input)
    if "embedding" in reads and config.embedding_size > config.hidden_size:
        found["embedding_size"] = config.embedding_size
    for name, own in config.subnets.items():
        if own.hidden_size is not None:
            found[f"subnets.{name}.hidden_size"] = own.hidden_size
    key = max(found, key=lambda name: found[name])
    return key, found[key]


def _advice(config: Settings, what: str, size: Size) -> str:
    """What to do if `what` is the largest part."""
    if what == "states of the slots":
        span = config.cell.parameters.get("span")
        if span is not None and span > config.batch_size:
            return f"lower cell.span (now {span})"
        return f"lower batch_size (now {config.batch_size})"
    if what == "attention":
        return f"lower window (now {config.window})"
    if what == "scores of a mini-batch":
        if config.negatives == "full":
            return f"lower batch_size (now {config.batch_size}), or set negatives=sampled"
        key = max("batch_size", "num_negatives", key=lambda name: getattr(config, name))
        return f"lower {key} (now {getattr(config, key)})"
    key, value = _widest(config)
    if config.num_layers > 8 and size.largest[2] * 8 < size.parts["weights"]:
        return f"lower num_layers (now {config.num_layers}) or {key} (now {value})"
    if value <= ORDINARY:
        return (
            f"lower {key} (now {value}), or take fewer items (dataset.min_item_support) or tokens"
        )
    return f"lower {key} (now {value})"
