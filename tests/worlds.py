"""Small sessions and features by hand, and networks over them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from p_rnn.data.dataset import Sessions
from p_rnn.data.features import BagFeature, DenseFeature, Feature
from p_rnn.models.architectures import build_network, check_model
from p_rnn.models.network import PRNN
from p_rnn.settings.config import Config
from p_rnn.settings.resolve import resolve
from p_rnn.streams import Streams
from p_rnn.training.trainer import Trainer
from tests.composed import composed
from tests.conftest import Recorder

N, D, V = 12, 3, 5
MODELS = (
    "id_only",
    "feature_only",
    "concat",
    "parallel",
    "parallel_shared",
    "parallel_interaction",
    "gru4recf",
)
# Of `p_rnn.train`, for a network that is trained in a moment.
SMALL: dict[str, Any] = {
    "hidden_size": 4,
    "batch_size": 8,
    "num_epochs": 1,
    "device": "cpu",
    "compile": "never",
    "tracking": {"progress": False, "tensorboard": False},
}
ONE_SUBNET = ("id_only", "feature_only", "concat")
BAGS = [[0, 3], [1], [], [2, 4, 0], [1, 2], [3], [4], [0], [2], [], [1, 4], [0, 1, 2, 3, 4]]


def dense(name: str = "image", seed: int = 0, num_items: int = N) -> DenseFeature:
    values = np.random.default_rng(seed).normal(size=(num_items, D)).astype(np.float32)
    return DenseFeature(name, f"fp-{name}", values)


def bag(name: str = "tags", weighted: bool = False) -> BagFeature:
    offsets = np.cumsum([0, *map(len, BAGS)]).astype(np.int64)
    tokens = np.concatenate(BAGS).astype(np.int32)
    weights = np.linspace(0.5, 2, len(tokens), dtype=np.float32) if weighted else None
    return BagFeature(name, f"fp-{name}", offsets, tokens, weights, V)


FEATURES: dict[str, Feature] = {"image": dense(), "tags": bag()}


def sessions(seed: int = 0, count: int = 20, longest: int = 7) -> Sessions:
    """Sessions of 1 to `longest` events, and one with every item."""
    rng = np.random.default_rng(seed)
    lengths = [*rng.integers(1, longest + 1, count - 1).tolist(), N]
    items = np.concatenate([rng.integers(0, N, sum(lengths[:-1])), np.arange(N)])
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Sessions(items.astype(np.int32), offsets, np.zeros(len(items), dtype=np.int64))


def settings(*overrides: str) -> Config:
    """Resolved and checked, of a small network on the CPU."""
    given = {word.split("=")[0] for word in overrides}
    sizes = {"hidden_size": 4, "batch_size": 3, "num_epochs": 2, "tracking.log_every": 1}
    fixed = [f"{key}={value}" for key, value in sizes.items() if key not in given]
    if not {"model=gru4recf", "model=bpr_mf"} & set(overrides):
        fixed += [] if "num_negatives" in given or "negatives" in given else ["num_negatives=5"]
    config = composed("dataset=table", "dataset.path=none", "device=cpu", *fixed, *overrides)
    resolved = resolve(config)
    check_model(resolved)
    return resolved


def network(config: Config, features: dict[str, Feature] | None = None, seed: int = 0) -> PRNN:
    """As initialised, in float32."""
    read = (FEATURES if features is None else features) if config.model.reads_features else {}
    return build_network(config, N, Streams(seed), read)


def random_network(config: Config, features: dict[str, Feature] | None = None) -> PRNN:
    """In float64, every parameter random, biases too."""
    made = network(config, features).double().eval()  # no dropout
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in made.parameters():
            p.normal_(generator=generator).mul_(0.5)
    return made


def trainer(
    config: Config,
    folder: Path,
    features: dict[str, Feature] | None = None,
    data: Sessions | None = None,
) -> tuple[Trainer, Recorder]:
    """A trainer on `sessions()`, and the recorder of its losses."""
    data = data or sessions()
    read = (FEATURES if features is None else features) if config.model.reads_features else {}
    streams, tracker = Streams(config.seed, config.device), Recorder(folder)
    made = build_network(config, N, streams, read)
    return Trainer(config, made, data, data.support(N), streams, tracker), tracker


def weights(made: PRNN) -> dict[str, np.ndarray]:
    return {name: p.detach().numpy().copy() for name, p in made.named_parameters()}
