"""Two prepared logs with features, and networks on them as they were trained or are to start."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from p_rnn.data.catalogue import Catalogue
from p_rnn.data.dataset import Dataset
from p_rnn.data.features import Feature
from p_rnn.data.prepare import prepare
from p_rnn.models.architectures import build_network
from p_rnn.models.inputs import PooledRows
from p_rnn.models.network import PRNN
from p_rnn.runs.comparison import load_features
from p_rnn.runs.saving import network_content
from p_rnn.runs.warm_start import warm_start
from p_rnn.settings.config import Settings
from p_rnn.settings.resolve import resolve
from p_rnn.settings.sections import PathsConfig
from p_rnn.streams import Streams
from p_rnn.training.checkpoint import save_checkpoint
from tests.composed import composed

TAGS = ["dataset.features.tags.kind=tags"]
VECTOR = [
    "dataset.features.look.kind=vector",
    "dataset.features.look.columns=[x,y,z]",
]
BOTH = ["dataset.item_table.path=items.csv", *TAGS, *VECTOR]


@dataclass
class World:
    """A prepared log, and networks on it."""

    config: Settings
    dataset: Dataset
    features: dict[str, Feature]

    @property
    def num_items(self) -> int:
        return self.dataset.num_train_items

    @property
    def ids(self) -> list[Any]:
        return list(self.dataset.item_ids[: self.num_items].tolist())

    @property
    def support(self) -> Any:
        return self.dataset.sessions("train").support(self.num_items)

    def settings(self, *overrides: str) -> Settings:
        """The settings of the world with another model."""
        sizes = ["hidden_size=4", "device=cpu"]
        made = resolve(composed("dataset=table", "dataset.path=none", *sizes, *overrides))
        chosen = list(self.features) if made.model.reads_features else None
        same = {"dataset": self.config.dataset, "paths": self.config.paths}
        return replace(made, **same, selected_features=made.selected_features or chosen)

    def network(self, config: Settings) -> PRNN:
        return build_network(config, self.num_items, Streams(config.seed), self.read(config))

    def read(self, config: Settings) -> dict[str, Feature]:
        return {name: self.features[name] for name in config.selected_features or []}

    def trained(self, config: Settings, path: Path) -> PRNN:
        """A network with random parameters, and its checkpoint."""
        network, generator = self.network(config), torch.Generator().manual_seed(1)
        padding = {m.table for m in network.modules() if isinstance(m, PooledRows)}
        with torch.no_grad():
            for p in network.parameters():
                p.normal_(generator=generator)
            for table in padding:
                table.weight[-1] = 0
        read = self.read(config)
        content = {
            "dataset": self.dataset.fingerprint,
            "features": [[name, f.fingerprint] for name, f in read.items()],
            "num_items": self.num_items,
            "with_validation": False,
        }
        if config.portable:
            content["items"] = Catalogue.of(self.dataset, read).pack()
        save_checkpoint(path, config, {**content, **network_content(network)})
        return network

    def started(self, config: Settings, path: Path) -> PRNN:
        """A network that starts from a checkpoint."""
        config = replace(config, warm_start=str(path), seed=9)
        network = self.network(config)
        warm_start(config, network, self.dataset.item_ids, self.read(config), self.support)
        return network


def world(folder: Path, log: pd.DataFrame, items: pd.DataFrame, *overrides: str) -> World:
    raw = folder / "raw"
    raw.mkdir(parents=True)
    log.to_csv(raw / "log.csv", index=False)
    items.to_csv(raw / "items.csv", index=False)
    rules = ["dataset.min_item_support=1", "dataset.test_days=2", "dataset.name=world"]
    given = composed("dataset=table", "dataset.path=log.csv", *rules, *(overrides or BOTH))
    given.paths = PathsConfig(str(raw), str(folder / "prepared"))
    given.model = composed("model=concat").model
    config = resolve(given)
    dataset = prepare(config.dataset, config.paths)
    return World(config, dataset, load_features(config, dataset, False))


def table_of(ids: Any, seed: int = 0, words: int = 6) -> pd.DataFrame:
    """Tags and a vector of each item, the same for an id in every table of a seed."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(1000, 3)).round(3)
    tags = [
        " ".join(f"t{k}" for k in rng.choice(words, rng.integers(1, 4), False)) for _ in range(1000)
    ]
    numbers = [int(str(each).lstrip("x")) for each in ids]
    frame = pd.DataFrame({"item": list(ids), "tags": [tags[n] for n in numbers]})
    return frame.assign(**{c: rows[numbers, k] for k, c in enumerate("xyz")})
