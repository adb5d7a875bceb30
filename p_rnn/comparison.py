"""A model beside the baselines, under one protocol: in a run, or again from a checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from p_rnn.baselines import baselines_beside, make_baseline, make_oracles
from p_rnn.baselines.ranker import Training
from p_rnn.config import Config, EvaluateConfig, EvaluationConfig, PathsConfig
from p_rnn.data.dataset import Dataset
from p_rnn.data.features import BagFeature, Feature, prepare_features
from p_rnn.data.prepare import prepare
from p_rnn.errors import UserError
from p_rnn.evaluation.evaluator import Protocol, Ranks, evaluate, summarise
from p_rnn.models.architectures import build_network
from p_rnn.models.network import PRNN
from p_rnn.random import Streams
from p_rnn.ranges import check_ranges
from p_rnn.resolve import check_evaluation
from p_rnn.runtime import use_device
from p_rnn.training.checkpoint import load_checkpoint
from p_rnn.training.fit import set_network


def make_protocol(config: Config, dataset: Dataset, training: Training) -> Protocol:
    """What counts as a target for models trained on these sessions."""
    support = np.zeros(dataset.num_items, dtype=np.int64)
    support[: training.num_items] = training.support
    return Protocol(training.num_items, support, dataset.last_only, config.evaluation)


def load_features(config: Config, dataset: Dataset, pooled: bool = False) -> dict[str, Feature]:
    """The features that the model reads, by name; empty for a model without.

    Args:
        pooled: somebody has chosen a pooling_mode, which must then have an effect.

    Raises:
        UserError: features that the data set does not have, or nothing to pool.
    """
    if config.model.feature_input is None:
        return {}
    selected = config.selected_features
    features = prepare_features(config.dataset, config.paths, dataset, selected)
    bags = [f for f in features.values() if isinstance(f, BagFeature)]
    if pooled and not any(f.weights is not None or np.diff(f.offsets).max() > 1 for f in bags):
        raise UserError(
            f"pooling_mode has no effect: of the features {', '.join(features)} none has several "
            "tokens to an item; leave it out"
        )
    return features


def training_of(
    dataset: Dataset, features: dict[str, Feature], device: torch.device, with_validation: bool
) -> Training:
    """What a baseline learns from."""
    sessions, num_items = dataset.training_sessions(with_validation)
    support = sessions.support(num_items)
    return Training(sessions, num_items, support, device, features)


@dataclass(frozen=True)
class Comparison:
    """Attributes:
    table: {ranker: `summarise`'s result}; the model stands first.
    ranks: of the model's targets.
    """

    table: dict[str, Any]
    ranks: Ranks


def compare(
    ranker: Any,
    config: Config,
    dataset: Dataset,
    split: str,
    device: torch.device,
    with_validation: bool = False,
) -> Comparison:
    """Evaluate a model and the baselines beside it on a split.

    Args:
        with_validation: the model has learned from the validation sessions too, so the baselines
            may use them.
    """
    training = training_of(dataset, {}, device, with_validation)
    protocol = make_protocol(config, dataset, training)
    sessions = dataset.sessions(split)
    if isinstance(ranker, PRNN):
        ranker.eval()
    rankers = {config.model.name: ranker, **baselines_beside(config, training)}
    oracles = make_oracles(config.dataset, dataset, split, device)
    ranks = {
        name: evaluate(each, sessions, protocol, device, reads_cold=name in oracles)
        for name, each in {**rankers, **oracles}.items()
    }
    table = {name: summarise(each, protocol) for name, each in ranks.items()}
    return Comparison(table, ranks[config.model.name])


def evaluate_checkpoint(settings: EvaluateConfig) -> tuple[dict[str, Any], EvaluationConfig]:
    """Evaluate a stored network on a split; ({split: results}, what was measured).

    Raises:
        UserError: no such checkpoint or split, or the data set is not the one it was trained on.
    """
    check_ranges(settings)
    path = Path(settings.checkpoint)
    config, content = load_checkpoint(path)
    changes = {k: v for k, v in asdict(settings.evaluation).items() if v is not None}
    if changes.get("most_popular") == 0:
        changes["most_popular"] = None
    config.evaluation = replace(config.evaluation, **changes)
    check_evaluation(config.evaluation)
    config.paths = PathsConfig(
        settings.raw or config.paths.raw, settings.prepared or config.paths.prepared
    )
    device = use_device(settings.device, settings.num_threads)
    dataset = prepare(config.dataset, config.paths)
    if dataset.fingerprint != content["dataset"]:
        raise UserError(
            f"{path} was trained on {config.dataset.name}-{content['dataset']}, but the raw files "
            f"now give {dataset.folder.name}: they have changed since"
        )
    if settings.split == "valid" and content["with_validation"]:
        raise UserError(f"{path} was trained on the validation split too; evaluate split=test")
    if settings.split not in dataset.splits:
        raise UserError(f"dataset {dataset.name} has no {settings.split} split")
    features = load_features(config, dataset)
    for name, feature in features.items():
        if dict(content["features"])[name] != feature.fingerprint:
            raise UserError(
                f"{path} was trained on another version of the feature {name}: its values or "
                "settings have changed since; restore them or train again"
            )
    with_validation = content["with_validation"]
    if config.model.family == "counts":
        training = training_of(dataset, features, device, with_validation)
        ranker = make_baseline(config, training)
    else:
        streams = Streams(config.seed, device)
        ranker = build_network(config, content["num_items"], streams, features)
        set_network(ranker, content)
    compared = compare(ranker, config, dataset, settings.split, device, with_validation)
    return {settings.split: compared.table}, config.evaluation
