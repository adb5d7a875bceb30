"""The whole job on one page: settings in, trained and evaluated model and its metrics out."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from p_rnn.baselines import BASELINES
from p_rnn.comparison import compare, load_features, make_protocol
from p_rnn.config import Config
from p_rnn.data.dataset import Dataset
from p_rnn.data.features import Feature
from p_rnn.data.prepare import prepare
from p_rnn.evaluation.evaluator import evaluate, summarise
from p_rnn.evaluation.report import describe
from p_rnn.models.architectures import build_network, check_model
from p_rnn.models.network import PRNN
from p_rnn.random import Streams
from p_rnn.registry import lookup, settings_for
from p_rnn.resolve import resolve
from p_rnn.runtime import environment, use_device, write_json
from p_rnn.tracking import Tracker
from p_rnn.training.checkpoint import save_checkpoint
from p_rnn.training.fit import (
    History,
    check_resume,
    fit,
    load_network,
    network_content,
    resume,
)
from p_rnn.training.losses import build_loss
from p_rnn.training.optimizers import OPTIMIZERS
from p_rnn.training.strategies import build_strategy
from p_rnn.training.trainer import Trainer

log = logging.getLogger(__name__)


def train(config: Config, folder: Path | str) -> dict[str, Any]:
    """Prepare the data, train, choose the best epoch, test, and write it all into `folder`.

    Returns:
        What metrics.json holds: "valid" and "test" metrics, counts, timings, history, config.

    Raises:
        UserError: settings or data that a user can mend; `folder` then has no metrics.json.
    """
    started, pooled = time.perf_counter(), config.pooling_mode is not None
    config = resolve(config)
    check_names(config)
    if config.resume is not None:
        check_resume(Path(config.resume), config)
    folder = Path(folder)
    device = use_device(config.device, config.num_threads, config.matmul_precision)
    dataset = prepare(config.dataset, config.paths)
    features = load_features(config, dataset, pooled)
    if features:
        config = replace(config, selected_features=list(features))
    prepared = time.perf_counter()
    tracker = Tracker(folder, config.tracking)
    try:
        trainer, history = _fit(config, dataset, features, folder, tracker, device)
        network, learned, updates = trainer.network, trainer.learned, trainer.updates
        trained = time.perf_counter()
        results: dict[str, dict[str, Any]] = {}
        if "valid" in dataset.splits:
            results["valid"] = compare(network, config, dataset, "valid")
        final = config.train_on_validation
        if final:
            del trainer, network  # a second network and optimizer need the room of the first
            trainer = _fit_final(config, dataset, features, folder, device, history.chosen())
            network, updates = trainer.network, updates + trainer.updates
            learned = [a + b for a, b in zip(learned, trainer.learned, strict=True)]
        results["test"] = compare(network, config, dataset, "test", with_validation=final)
        done = time.perf_counter()
        metrics: dict[str, Any] = {
            split: table[config.model.name]["metrics"] for split, table in results.items()
        }
        k = max(config.evaluation.cutoffs)
        tracker.hyperparameters(config, {
            f"{split}/{name}": metrics[split][name]
            for split in results
            for name in (f"recall@{k}", f"mrr@{k}", f"ndcg@{k}")
        })  # fmt: skip
    finally:
        tracker.close()
    metrics.update(
        epochs=len(history.epochs),
        best_epoch=history.best_epoch,
        best_epochs_of_stages=[*history.stages, history.best_epoch],
        updates=updates,
        updates_of_subnets=dict(zip(network.names, learned, strict=True)),
        parameters=sum(p.numel() for p in network.parameters()),
        seconds={
            "prepare": prepared - started,
            "train": trained - prepared,
            "evaluate": done - trained,
            "total": done - started,
        },
        history=history.epochs,
        results=results,
        dataset={key: value for key, value in dataset.manifest.items() if key != "settings"},
        environment=environment(device),
        config=asdict(config),
    )
    write_json(folder / "metrics.json", metrics)
    log.info("%s", describe(results, config.evaluation))
    log.info("\ntested: %s", folder / "checkpoints" / ("final.pt" if final else "best.pt"))
    return metrics


def check_names(config: Config) -> None:
    """Refuse unknown names and parameters without effect before anything takes time.

    Raises:
        UserError: with the nearest known name, or what the chosen loss or optimizer takes.
    """
    check_model(config)
    build_strategy(config.strategy)
    build_loss(config.loss)
    optimizer = lookup("optimizer", OPTIMIZERS, config.optimizer.name)
    settings_for("optimizer", optimizer, config.optimizer)
    for name in config.evaluation.baselines:
        lookup("evaluation.baselines", BASELINES, name)


def _fit(
    config: Config,
    dataset: Dataset,
    features: dict[str, Feature],
    folder: Path,
    tracker: Tracker,
    device: torch.device,
) -> tuple[Trainer, History]:
    """Train on the training split; the trainer's network is then that of the best epoch."""
    trainer = _trainer(config, dataset, features, tracker, device, with_validation=False)
    network = trainer.network
    if len(network.names) == 1 and config.strategy.name != "simultaneous":
        log.info(
            "model=%s has one subnet: strategy=%s trains it as simultaneous does",
            config.model.name,
            config.strategy.name,
        )
    validate = None
    if "valid" in dataset.splits:
        protocol, sessions = make_protocol(config, dataset), dataset.sessions("valid")

        def validate() -> dict[str, float]:
            network.eval()
            ranks = evaluate(network, sessions, protocol, device)
            measured: dict[str, float] = summarise(ranks, protocol)["metrics"]
            return measured

    checkpoints = folder / "checkpoints"
    extra = _origin(dataset, network, features, with_validation=False)
    history = History()
    if config.resume is not None:
        history = resume(Path(config.resume), trainer, extra, checkpoints)
    history = fit(trainer, validate, checkpoints, extra, history)
    if history.best_epoch != history.last_epoch:
        load_network(network, checkpoints / "best.pt")
    return trainer, history


def _fit_final(
    config: Config,
    dataset: Dataset,
    features: dict[str, Feature],
    folder: Path,
    device: torch.device,
    passes: list[int],
) -> Trainer:
    """Train from scratch on training and validation, the passes that were best."""
    log.info("training on training and validation sessions for %d epochs", len(passes))
    # The run's curves are those of the search, so this training writes none.
    tracker = Tracker(folder, replace(config.tracking, tensorboard=False))
    trainer = _trainer(config, dataset, features, tracker, device, with_validation=True)
    for index in passes:
        trainer.run_pass(index)
    origin = _origin(dataset, trainer.network, features, with_validation=True)
    content = {**origin, **network_content(trainer.network)}
    save_checkpoint(folder / "checkpoints" / "final.pt", config, content)
    return trainer


def _origin(
    dataset: Dataset, network: PRNN, features: dict[str, Feature], with_validation: bool
) -> dict[str, Any]:
    """What every checkpoint says of the data that its network has learned from."""
    return {
        "dataset": dataset.fingerprint,
        "features": [[name, feature.fingerprint] for name, feature in features.items()],
        "num_items": network.num_items,
        "with_validation": with_validation,
    }


def _trainer(
    config: Config,
    dataset: Dataset,
    features: dict[str, Feature],
    tracker: Tracker,
    device: torch.device,
    with_validation: bool,
) -> Trainer:
    sessions, num_items = dataset.training_sessions(with_validation)
    streams = Streams(config.seed, device)
    network = build_network(config, num_items, streams, features)
    return Trainer(config, network, sessions, sessions.support(num_items), streams, tracker)
