"""A model beside the baselines, under one protocol: in a run, or again from a checkpoint."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from p_rnn.baselines import make_baselines, make_oracles
from p_rnn.config import Config, EvaluateConfig, EvaluationConfig, PathsConfig
from p_rnn.data.dataset import Dataset
from p_rnn.data.features import BagFeature, Feature, prepare_features
from p_rnn.data.prepare import prepare
from p_rnn.errors import UserError
from p_rnn.evaluation.evaluator import Protocol, evaluate, summarise
from p_rnn.models.architectures import build_network, reads_features
from p_rnn.models.network import PRNN
from p_rnn.random import Streams
from p_rnn.resolve import check_evaluation, check_ranges
from p_rnn.runtime import use_device
from p_rnn.training.checkpoint import load_checkpoint
from p_rnn.training.fit import set_network


def make_protocol(config: Config, dataset: Dataset, with_validation: bool = False) -> Protocol:
    """What counts as a target for models trained on these sessions."""
    sessions, num_warm = dataset.training_sessions(with_validation)
    support = sessions.support(dataset.num_items)
    return Protocol(num_warm, support, dataset.last_only, config.evaluation)


def load_features(config: Config, dataset: Dataset, pooled: bool = False) -> dict[str, Feature]:
    """The features that the model reads, by name; empty for a model without.

    Args:
        pooled: somebody has chosen a pooling_mode, which must then have an effect.

    Raises:
        UserError: features that the data set does not have, or nothing to pool.
    """
    if not reads_features(config):
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


def compare(
    network: PRNN, config: Config, dataset: Dataset, split: str, with_validation: bool = False
) -> dict[str, Any]:
    """Evaluate the network and the baselines on a split; {ranker: `summarise`'s result}.

    Args:
        with_validation: the network was trained on the validation sessions too, so the baselines
            may use them.
    """
    protocol = make_protocol(config, dataset, with_validation)
    sessions = dataset.sessions(split)
    network.eval()
    support = protocol.support[: protocol.num_warm]
    device = network.device
    rankers = {config.model.name: network, **make_baselines(config, support, device)}
    oracles = make_oracles(config.dataset, dataset, split, device)
    return {
        name: summarise(
            evaluate(ranker, sessions, protocol, device, reads_cold=name in oracles), protocol
        )
        for name, ranker in {**rankers, **oracles}.items()
    }


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
    network = build_network(config, content["num_items"], Streams(config.seed, device), features)
    set_network(network, content)
    results = compare(network, config, dataset, settings.split, content["with_validation"])
    return {settings.split: results}, config.evaluation
