"""Rankers without a network, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray

from p_rnn.baselines.bayes import BayesRanker, FirstOrderRanker
from p_rnn.baselines.popularity import Popularity
from p_rnn.baselines.session_popularity import SessionPopularity
from p_rnn.config import Config, DatasetConfig
from p_rnn.data.dataset import Dataset
from p_rnn.data.synthetic import DAY_S, EPOCH_S, World
from p_rnn.registry import lookup

BASELINES: dict[str, Callable[[NDArray[Any], torch.device], Any]] = {
    "popularity": Popularity,
    "session_popularity": SessionPopularity,
}


def make_baselines(config: Config, support: NDArray[Any], device: torch.device) -> dict[str, Any]:
    """The rankers to print beside a model.

    Args:
        support: [N] events per item in the sessions that the model was trained on.
    """
    return {
        name: lookup("evaluation.baselines", BASELINES, name)(support, device)
        for name in config.evaluation.baselines
    }


def make_oracles(
    config: DatasetConfig, dataset: Dataset, split: str, device: torch.device
) -> dict[str, Any]:
    """Of the synthetic world, the best possible ranker and the best one that sees one item only.

    They are exact where the events are those of the world, so rules that take events out of
    sessions, or a split that covers more than a day, leave no oracle.
    """
    untouched = (config.min_item_support or 1) == 1 and not config.drop_repeats
    if config.synthetic is None or not untouched:
        return {}
    days = (dataset.sessions(split).times - EPOCH_S) // DAY_S
    if days.min() != days.max():
        return {}
    world, day = World(config.synthetic), int(days[0])
    return {
        "best possible": BayesRanker(world, dataset.item_ids, day, device),
        "first order": FirstOrderRanker(world, dataset.item_ids, day, device),
    }
