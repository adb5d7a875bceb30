"""Evaluates a model and baselines under one protocol, in a run or from a checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from p_rnn.baselines import (
    baselines_beside,
    beside,
    check_beside,
    known_beside,
    make_baseline,
    make_oracles,
    reads_features,
)
from p_rnn.baselines.ranker import TrainingData
from p_rnn.data.catalogue import Catalogue
from p_rnn.data.dataset import Dataset, Sessions
from p_rnn.data.features import BagFeature, Feature, has_features, prepare_features
from p_rnn.data.other_events import read_sessions
from p_rnn.data.prepare import prepare, same_events
from p_rnn.evaluation.evaluator import EvaluationProtocol, Ranks, check_targets, evaluate, summarise
from p_rnn.models.architectures import build_network
from p_rnn.models.network import PRNN
from p_rnn.runs.runtime import checkpoint_at, use_device
from p_rnn.runs.saving import set_network
from p_rnn.settings.commands import EvaluateConfig, EvaluationOverrides
from p_rnn.settings.config import Settings
from p_rnn.settings.errors import UserError
from p_rnn.settings.resolve import check_evaluation, counts, load_plugins
from p_rnn.settings.sections import EvaluationConfig, PathsConfig
from p_rnn.settings.tree import check_ranges
from p_rnn.streams import Streams
from p_rnn.training.checkpoint import load_checkpoint


def make_protocol(config: Settings, num_items: int, training: TrainingData) -> EvaluationProtocol:
    """The evaluation protocol of models trained on these sessions."""
    support = np.zeros(num_items, dtype=np.int64)
    support[: training.num_items] = training.support
    return EvaluationProtocol(training.num_items, support, config.evaluation)


def check_splits(config: Settings, dataset: Dataset) -> None:
    """Check, before training, that the held-out splits have targets.

    Raises:
        UserError: a split has none.
    """
    tested_on = dataset.num_seen_items if config.train_on_validation else dataset.num_train_items
    for split, num_warm in (("valid", dataset.num_train_items), ("test", tested_on)):
        if split in dataset.splits:
            protocol = EvaluationProtocol(num_warm, np.zeros(0), config.evaluation)
            check_targets(dataset.sessions(split), protocol, split)


def load_features(config: Settings, dataset: Dataset, pooled: bool = False) -> dict[str, Feature]:
    """The features that the model reads, by name; empty if it reads none.

    Args:
        pooled: pooling_mode was set by the user, so it must have an effect.

    Raises:
        UserError: features that the data set does not have, or nothing to pool.
    """
    if not config.model.reads_features:
        return {}
    selected = config.selected_features
    features = prepare_features(config.dataset, config.paths, dataset, selected)
    bags = [f for f in features.values() if isinstance(f, BagFeature)]
    if pooled and not any(f.weights is not None or np.diff(f.offsets).max() > 1 for f in bags):
        raise UserError(
            f"pooling_mode has no effect: none of the features {', '.join(features)} has several "
            "tokens per item; leave it out"
        )
    return features


def features_beside(
    config: Settings, dataset: Dataset, features: dict[str, Feature]
) -> dict[str, Feature]:
    """Features for the baselines: those of the model, or else all features of the data set.

    Raises:
        UserError: a baseline reads features, and the data set has none.
    """
    readers = [name for name in beside(config) if reads_features(name)]
    if features or not readers:
        return features
    if not has_features(config.dataset, config.paths, dataset):
        raise UserError(
            f"evaluation.baselines: {readers[0]} reads item features, and dataset {dataset.name} "
            "has none; leave it out"
        )
    return prepare_features(config.dataset, config.paths, dataset, None)


def training_of(
    dataset: Dataset, features: dict[str, Feature], device: torch.device, with_validation: bool
) -> TrainingData:
    """The data that a baseline is fitted to."""
    sessions, num_items = dataset.training_sessions(with_validation)
    support = sessions.support(num_items)
    return TrainingData(sessions, num_items, support, device, features)


@dataclass(frozen=True)
class Comparison:
    """Attributes:
    table: {ranker: result of `summarise`}; the model is first.
    ranks: of the targets, by the model.
    """

    table: dict[str, Any]
    ranks: Ranks


def compare(
    ranker: Any,
    config: Settings,
    dataset: Dataset,
    split: str,
    device: torch.device,
    with_validation: bool = False,
    features: dict[str, Feature] | None = None,
    others: tuple[Sessions, int] | None = None,
) -> Comparison:
    """Evaluate a model and the configured baselines on a split.

    Args:
        with_validation: the model was also trained on the validation sessions, so the baselines
            use them too.
        features: for baselines that read features.
        others: sessions to evaluate instead of the split, and the number of all items.
    """
    training = training_of(dataset, features or {}, device, with_validation)
    sessions, num_items = others or (dataset.sessions(split), dataset.num_items)
    protocol = make_protocol(config, num_items, training)
    check_targets(sessions, protocol, split)
    if isinstance(ranker, PRNN):
        ranker = ranker.ranker()
    rankers = {config.model.name: ranker, **baselines_beside(config, training)}
    oracles = {} if others else make_oracles(config.dataset, dataset, split, device)
    lists = config.evaluation.beyond_accuracy
    ranks = {
        name: evaluate(each, sessions, protocol, device, name in oracles, lists)
        for name, each in {**rankers, **oracles}.items()
    }
    table = {name: summarise(each, protocol) for name, each in ranks.items()}
    return Comparison(table, ranks[config.model.name])


def evaluate_checkpoint(settings: EvaluateConfig) -> tuple[dict[str, Any], EvaluationConfig]:
    """Evaluate a stored network on a split; returns ({split: results}, the protocol settings).

    Raises:
        UserError: no such checkpoint or split, or the data set is not the one it was trained on.
    """
    check_ranges(settings)
    path = checkpoint_at(settings.checkpoint)
    config, content = load_checkpoint(path, mmap=True)
    load_plugins(config.plugins or [])
    config.evaluation = _measured(config.evaluation, settings.evaluation)
    config.paths = PathsConfig(
        settings.raw or config.paths.raw, settings.prepared or _prepared(config, content)
    )
    device = use_device(settings.device, settings.num_threads)
    dataset = prepare(config.dataset, config.paths)
    _check_trained_on(dataset, content["dataset"], path)
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
    catalogue = None
    if settings.events is not None and "items" in content:
        catalogue = Catalogue.unpack(content["items"])
    read, with_validation = features_beside(config, dataset, features), content["with_validation"]
    if counts(config.model.name):
        training = training_of(dataset, features, device, with_validation)
        ranker = make_baseline(config, training)
    else:
        # Those of items that were added to the checkpoint, too, which only other events can have.
        own = features if catalogue is None else catalogue.features
        ranker = build_network(config, content["num_items"], Streams(config.seed, device), own)
        set_network(ranker, content)
    others = None
    if settings.events is not None:
        ids = np.asarray(dataset.item_ids) if catalogue is None else catalogue.raw_ids()
        keep_cold = config.evaluation.cold_items == "keep"
        others = read_sessions(settings.events, config.dataset, config.paths, ids, keep_cold)
    compared = compare(
        ranker, config, dataset, settings.split, device, with_validation, read, others
    )
    return {settings.events or settings.split: compared.table}, config.evaluation


def _prepared(config: Settings, content: dict[str, Any]) -> str:
    """Where the data of a checkpoint were prepared; ours, where they are not there.

    A checkpoint from elsewhere must not say where we write.
    """
    stored = config.paths.prepared
    there = Path(stored) / f"{config.dataset.name}-{content['dataset']}"
    return stored if there.is_dir() else PathsConfig().prepared


def _check_trained_on(dataset: Dataset, fingerprint: str, path: Path) -> None:
    """Refuse a checkpoint of a data set with other item indices or other training events."""
    if same_events(dataset, fingerprint):
        return
    stored = f"{dataset.name}-{fingerprint}"
    if fingerprint in dataset.manifest.get("replaces", ()):
        raise UserError(
            f"{path} was trained on {stored}, prepared by an older version: this one reads the "
            "files differently, or cannot compare because the folder is gone; train again"
        )
    raise UserError(
        f"{path} was trained on {stored}, but the raw files have changed since: they now give "
        f"{dataset.folder.name}"
    )


def _measured(stored: EvaluationConfig, given: EvaluationOverrides) -> EvaluationConfig:
    """The evaluation settings of a run, with those that are given now replaced.

    Raises:
        UserError: invalid cutoffs or baselines.
    """
    changes = {key: value for key, value in asdict(given).items() if value is not None}
    if changes.get("most_popular") == 0:
        changes["most_popular"] = None
    if given.baselines is None:
        changes["baselines"] = known_beside(stored.baselines)
    else:
        check_beside(given.baselines, plain=False)
    measured = replace(stored, **changes)
    check_evaluation(measured)
    return measured
