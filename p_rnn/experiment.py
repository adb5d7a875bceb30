"""The whole job on one page: settings in, trained and evaluated model and its metrics out."""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from p_rnn.baselines import BASELINES, make_baselines, make_oracles
from p_rnn.config import Config, EvaluateConfig, EvaluationConfig, PathsConfig
from p_rnn.data.dataset import Dataset
from p_rnn.data.prepare import prepare
from p_rnn.errors import UserError
from p_rnn.evaluation.evaluator import Protocol, evaluate, summarise
from p_rnn.evaluation.report import describe
from p_rnn.models.network import MODELS, PRNN, build_network
from p_rnn.random import Streams
from p_rnn.registry import lookup, settings_for
from p_rnn.resolve import check_evaluation, check_ranges, resolve
from p_rnn.tracking import Tracker
from p_rnn.training.checkpoint import load_checkpoint, save_checkpoint
from p_rnn.training.fit import History, fit, resume
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
    folder = Path(folder)
    device = use_device(config)
    dataset = prepare(config.dataset, config.paths)
    prepared = time.perf_counter()
    tracker = Tracker(folder, config.tracking)
    try:
        network, history, updates = _fit(config, dataset, folder, tracker, device)
        trained = time.perf_counter()
        results: dict[str, dict[str, Any]] = {
            split: compare(network, config, dataset, split)
            for split in ("valid", "test")
            if split in dataset.splits
        }
        if config.train_on_validation:
            network, more = _fit_final(config, dataset, folder, device, history.best_epoch)
            updates += more
            results["test"] = compare(network, config, dataset, "test", with_validation=True)
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
            with torch.inference_mode():
                ranks = evaluate(network, sessions, protocol, device)
            measured: dict[str, float] = summarise(ranks, protocol)["metrics"]
            return measured

    checkpoints = folder / "checkpoints"
    extra = {
        "dataset": dataset.fingerprint,
        "num_items": network.num_items,
        "with_validation": False,
    }
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
    content = {
        "dataset": dataset.fingerprint,
        "num_items": trainer.network.num_items,
        "with_validation": True,
        "model": trainer.network.state_dict(),
    }
    save_checkpoint(folder / "checkpoints" / "final.pt", config, content)
    return trainer.network, trainer.updates


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


def make_protocol(config: Config, dataset: Dataset, with_validation: bool = False) -> Protocol:
    """What counts as a target for models trained on these sessions."""
    sessions, num_warm = dataset.training_sessions(with_validation)
    support = sessions.support(dataset.num_items)
    return Protocol(num_warm, support, dataset.last_only, config.evaluation)


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
    config.device, config.num_threads = settings.device, settings.num_threads
    config.paths = PathsConfig(
        settings.raw or config.paths.raw, settings.prepared or config.paths.prepared
    )
    device = use_device(config)
    dataset = prepare(config.dataset, config.paths)
    if dataset.fingerprint != content["dataset"]:
        raise UserError(
            f"{path} was trained on {config.dataset.name}-{content['dataset']}, but the raw files "
            f"now give {dataset.folder.name}: they have changed since"
        )
    if settings.split not in dataset.splits:
        raise UserError(f"dataset {dataset.name} has no {settings.split} split")
    network = build_network(config, content["num_items"], Streams(config.seed, device))
    network.load_state_dict(content["model"])
    results = compare(network, config, dataset, settings.split, content["with_validation"])
    return {settings.split: results}, config.evaluation


def use_device(config: Config) -> torch.device:
    """The device of a run; sets the number of CPU threads.

    Raises:
        UserError: no such device here.
    """
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(config.device)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device={config.device} is not available here; use auto or cpu") from error
    return device


def environment(device: torch.device) -> dict[str, Any]:
    """Versions and machine, to be stored with the figures that were measured on it."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "command": sys.argv,
    }


def write_json(path: Path, value: Any) -> None:
    """Write whole or not at all; infinite or NaN values are refused, since JSON has none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")
    temporary.replace(path)
