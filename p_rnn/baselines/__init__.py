"""Rankers that count and learn nothing, by name; and the oracles of the synthetic world."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import torch

from p_rnn.baselines.feature_markov import FeatureMarkov
from p_rnn.baselines.item_knn import ItemKNN
from p_rnn.baselines.markov import Markov
from p_rnn.baselines.popularity import Popularity, RecentlyPopular
from p_rnn.baselines.ranker import TrainingData
from p_rnn.baselines.session_popularity import SessionPopularity
from p_rnn.baselines.v_sknn import VSKNN
from p_rnn.data.dataset import Dataset
from p_rnn.settings.components import check_parameters, parameters_of, registry
from p_rnn.settings.config import Settings
from p_rnn.settings.errors import UserError
from p_rnn.settings.registry import lookup
from p_rnn.settings.sections import DatasetConfig
from p_rnn.synthetic.best_possible import BayesRanker, FirstOrderRanker
from p_rnn.synthetic.world import DAY_S, EPOCH_S, World

log = logging.getLogger(__name__)

# Of (training, *, parameters).
BASELINES: dict[str, Callable[..., Any]] = {
    "pop": Popularity,
    "session_pop": SessionPopularity,
    "recently_popular": RecentlyPopular,
    "item_knn": ItemKNN,
    "markov": Markov,
    "v_sknn": VSKNN,
    "feature_markov": FeatureMarkov,
}


def reads_features(name: str) -> bool:
    """Whether a baseline needs the features of items."""
    return getattr(BASELINES[name], "reads_features", False)


def make_baseline(config: Settings, training: TrainingData) -> Any:
    """The ranker of a resolved config, fitted."""
    return _fitted(config.model.name, config.baseline, training)


def _fitted(name: str, given: Mapping[str, Any], training: TrainingData) -> Any:
    cls = lookup("model", BASELINES, name)
    return cls(training, **check_parameters("baseline", name, cls, given))


def check_beside(names: list[str], plain: bool) -> None:
    """Refuse what cannot stand beside a model.

    Args:
        plain: refuse baselines with parameters, too.

    Raises:
        UserError: unknown name, or another model.
    """
    for name in names:
        alone = f"run it as model={name} and compare the runs with p-rnn report"
        if name not in BASELINES and name in registry("model"):
            raise UserError(f"evaluation.baselines: {name} is trained; {alone}")
        lookup("evaluation.baselines", BASELINES, name)
        if plain and fields(parameters_of(BASELINES[name])):
            raise UserError(
                f"evaluation.baselines: {name} has parameters; {alone}, or have "
                "p-rnn evaluate compute it, with its defaults, beside a checkpoint"
            )


def known_beside(names: list[str]) -> list[str]:
    """The names that a run of any version has stored, without those that this one does not have."""
    for name in names:
        if name not in BASELINES:
            known = ", ".join(sorted(BASELINES))
            log.warning(
                "'%s' of the run's evaluation.baselines is left out: this version knows %s",
                name,
                known,
            )
    return [name for name in names if name in BASELINES]


def beside(config: Settings) -> list[str]:
    """The names of the rankers to print beside a model."""
    return [name for name in config.evaluation.baselines if name != config.model.name]


def baselines_beside(config: Settings, training: TrainingData) -> dict[str, Any]:
    """The rankers to print beside a model, with their defaults."""
    return {name: _fitted(name, {}, training) for name in beside(config)}


def make_oracles(
    config: DatasetConfig, dataset: Dataset, split: str, device: torch.device
) -> dict[str, Any]:
    """Of the synthetic world, the best possible ranker and the best one that sees one item only.

    They are exact where the events are those of the world, so rules that take events out of
    sessions, or a split that covers more than a day, leave no oracle.
    """
    untouched = (config.min_item_support or 1) == 1 and not config.drop_repeats
    settings = config.parameters.get("synthetic")
    if settings is None or not untouched:
        return {}
    days = (dataset.sessions(split).times - EPOCH_S) // DAY_S
    if days.min() != days.max():
        return {}
    world, day = World(settings), int(days[0])
    return {
        "best possible": BayesRanker(world, dataset.item_ids, day, device),
        "first order": FirstOrderRanker(world, dataset.item_ids, day, device),
    }
