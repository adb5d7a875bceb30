"""Rankers without a network, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray

from p_rnn.baselines.popularity import Popularity
from p_rnn.baselines.session_popularity import SessionPopularity
from p_rnn.config import Config
from p_rnn.data.dataset import Dataset
from p_rnn.registry import lookup

BASELINES: dict[str, Callable[[NDArray[Any], torch.device], Any]] = {
    "popularity": Popularity,
    "session_popularity": SessionPopularity,
}


def make_baselines(
    config: Config, dataset: Dataset, support: NDArray[Any], split: str, device: torch.device
) -> dict[str, Any]:
    """The rankers to print beside a model; of the synthetic world also the best possible ones.

    Args:
        support: [N] events per item in the sessions that the model was trained on.
    """
    return {
        name: lookup("evaluation.baselines", BASELINES, name)(support, device)
        for name in config.evaluation.baselines
    }
