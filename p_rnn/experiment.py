"""The whole job on one page: settings in, trained and evaluated model and its metrics out."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from p_rnn.baselines import BASELINES
from p_rnn.comparison import compare, make_protocol
from p_rnn.config import Config
from p_rnn.data.dataset import Dataset
from p_rnn.data.prepare import prepare
from p_rnn.evaluation.evaluator import evaluate, summarise
from p_rnn.evaluation.report import describe
from p_rnn.models.network import MODELS, PRNN, build_network
from p_rnn.random import Streams
from p_rnn.registry import lookup, settings_for
from p_rnn.resolve import resolve
from p_rnn.runtime import environment, use_device, write_json
from p_rnn.tracking import Tracker
from p_rnn.training.checkpoint import load_checkpoint, save_checkpoint
from p_rnn.training.fit import History, check_resume, fit, resume
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
    started = time.perf_counter()
    config = resolve(config)
    check_names(config)
    if config.resume is not None:
        check_resume(Path(config.resume), config)
    folder = Path(folder)
    device = use_device(config.device, config.num_threads)
    dataset = prepare(config.dataset, config.paths)
    prepared = time.perf_counter()
    tracker = Tracker(folder, config.tracking)
    try:
        network, history, updates = _fit(config, dataset, folder, tracker, device)
        trained = time.perf_counter()
        results: dict[str, dict[str, Any]] = {}
        if "valid" in dataset.splits:
            results["valid"] = compare(network, config, dataset, "valid")
        final = config.train_on_validation
        if final:
            network, more = _fit_final(config, dataset, folder, device, history.best_epoch)
            updates += more
        results["test"] = compare(network, config, dataset, "test", with_validation=final)
        done = time.perf_counter()
        metrics: dict[str, Any] = {
            split: table[config.model.name]["metrics"] for split, table in results.items()
        }
        last = max(config.evaluation.cutoffs)
        tracker.hyperparameters(config, {
            f"{split}/{name}": metrics[split][name]
            for split in results
            for name in (f"recall@{last}", f"mrr@{last}", f"ndcg@{last}")
        })  # fmt: skip
    finally:
        tracker.close()
    metrics.update(
        epochs=len(history.epochs),
        best_epoch=history.best_epoch,
        updates=updates,
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
    lookup("model", MODELS, config.model.name)
    build_strategy(config.strategy)
    build_loss(config.loss)
    optimizer = lookup("optimizer", OPTIMIZERS, config.optimizer.name)
    settings_for("optimizer", optimizer, config.optimizer)
    for name in config.evaluation.baselines:
        lookup("evaluation.baselines", BASELINES, name)


def _fit(
    config: Config, dataset: Dataset, folder: Path, tracker: Tracker, device: torch.device
) -> tuple[PRNN, History, int]:
    """Train on the training split; the network of the best epoch."""
    trainer = _trainer(config, dataset, tracker, device, with_validation=False)
    network = trainer.network
    validate = None
    if "valid" in dataset.splits:
        protocol, sessions = make_protocol(config, dataset), dataset.sessions("valid")

        def validate() -> dict[str, float]:
            network.eval()
            ranks = evaluate(network, sessions, protocol, device)
            measured: dict[str, float] = summarise(ranks, protocol)["metrics"]
            return measured

    checkpoints = folder / "checkpoints"
    extra = _origin(dataset, network, with_validation=False)
    history = History()
    if config.resume is not None:
        history = resume(Path(config.resume), trainer, extra, checkpoints)
    history = fit(trainer, validate, checkpoints, extra, history)
    if history.best_epoch != len(history.epochs):
        _, best = load_checkpoint(checkpoints / "best.pt")
        network.load_state_dict(best["model"])
    return network, history, trainer.updates


def _fit_final(
    config: Config, dataset: Dataset, folder: Path, device: torch.device, epochs: int
) -> tuple[PRNN, int]:
    """A network trained from scratch on training and validation for the best number of epochs."""
    log.info("training on training and validation sessions for %d epochs", epochs)
    # The run's curves are those of the search, so this training writes none.
    tracker = Tracker(folder, replace(config.tracking, tensorboard=False))
    trainer = _trainer(config, dataset, tracker, device, with_validation=True)
    for index in range(epochs):
        trainer.run_pass(index)
    origin = _origin(dataset, trainer.network, with_validation=True)
    content = {**origin, "model": trainer.network.state_dict()}
    save_checkpoint(folder / "checkpoints" / "final.pt", config, content)
    return trainer.network, trainer.updates


def _origin(dataset: Dataset, network: PRNN, with_validation: bool) -> dict[str, Any]:
    """What every checkpoint says of the data that its network has learned from."""
    return {
        "dataset": dataset.fingerprint,
        "num_items": network.num_items,
        "with_validation": with_validation,
    }


def _trainer(
    config: Config,
    dataset: Dataset,
    tracker: Tracker,
    device: torch.device,
    with_validation: bool,
) -> Trainer:
    sessions, num_items = dataset.training_sessions(with_validation)
    streams = Streams(config.seed, device)
    network = build_network(config, num_items, streams)
    return Trainer(config, network, sessions, sessions.support(num_items), streams, tracker)
