"""A recommender of a random network over the items of tests/worlds.py."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from p_rnn.data.catalogue import Catalogue
from p_rnn.data.features import Feature
from p_rnn.data.texts import Texts
from p_rnn.models.architectures import build_network
from p_rnn.recommend import Recommender
from p_rnn.streams import Streams
from tests.worlds import FEATURES, N, settings

CPU = torch.device("cpu")
TRAINED = 9  # of the N items
IDS = ["007", "7", "ß→3", 'a,"b"', "two\nlines", " x ", "tab\there", "", "ж", "1e3", "-0", "NaN"]
SUPPORT = np.array([3, 9, 2, 9, 8, 1, 7, 4, 4, 0, 0, 0])
TITLES = ["", "one\ttwo", "line\r\nline", *(f"Größe {k}" for k in range(3, N))]


def catalogue() -> Catalogue:
    size = np.where(np.arange(N) > 0, np.arange(N) / 2, np.nan)
    properties = {"title": Texts.of(TITLES), "size": size, "id": Texts.of(["x"] * N)}
    return Catalogue(Texts.of(IDS), SUPPORT, dict(FEATURES), properties)


def recommender(
    *overrides: str, items: Catalogue | None = None, features: Mapping[str, Feature] = FEATURES
) -> Recommender:
    """Trained, as it were, on the first items; every parameter random."""
    config = settings(*overrides)
    read = features if config.model.reads_features else {}
    made = build_network(config, TRAINED, Streams(0), read).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in made.parameters():
            p.normal_(generator=generator).mul_(0.5)
    return Recommender(config, catalogue() if items is None else items, made, CPU, {})
