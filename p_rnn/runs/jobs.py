"""How a model is fitted to a data set: trained in epochs, or by counting."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from p_rnn.baselines import make_baseline
from p_rnn.data.catalogue import Catalogue, pack_sessions
from p_rnn.data.dataset import Dataset
from p_rnn.data.features import Feature
from p_rnn.data.prepare import item_table_folder
from p_rnn.evaluation.evaluator import evaluate, summarise
from p_rnn.models.architectures import build_network
from p_rnn.models.summary import summary
from p_rnn.runs.comparison import make_protocol, training_of
from p_rnn.runs.fit import FitHistory, Watch, fit
from p_rnn.runs.interruption import put_off
from p_rnn.runs.resuming import resume, resume_final
from p_rnn.runs.saving import Saver, load_network, network_content
from p_rnn.runs.size import check_size
from p_rnn.runs.warm_start import warm_start
from p_rnn.settings.config import Settings
from p_rnn.streams import Streams
from p_rnn.tracking import Tracker
from p_rnn.training.checkpoint import save_checkpoint
from p_rnn.training.trainer import Trainer

FINAL_LAST = "final_last.pt"  # what last.pt is to the training on both splits
log = logging.getLogger(__name__)


class ModelJob(ABC):
    """Fits a model to a data set.

    Attributes:
        before_s: seconds of the passes that an interrupted run made before this one resumed it;
        before_final_s: the same of the final training.
    """

    before_s = before_final_s = 0.0

    def __init__(
        self,
        config: Settings,
        dataset: Dataset,
        features: dict[str, Feature],
        folder: Path,
        device: torch.device,
    ) -> None:
        self.config, self.dataset, self.features = config, dataset, features
        self.folder, self.device = folder, device

    @abstractmethod
    def fit(self) -> Any:
        """Fit to the training sessions; returns the ranker of the best epoch on validation."""

    @abstractmethod
    def fit_final(self) -> Any:
        """Fit to the training and validation sessions together; returns the ranker."""

    @abstractmethod
    def summary(self) -> dict[str, Any]:
        """The entries of metrics.json about the training."""

    def clean(self) -> None:
        """Remove what only an interrupted job needs."""
        (self.folder / "checkpoints" / FINAL_LAST).unlink(missing_ok=True)

    def origin(self, num_items: int, with_validation: bool) -> dict[str, Any]:
        """The entries of every checkpoint about the data that its model was fitted to."""
        return {
            "dataset": self.dataset.fingerprint,
            "features": [[name, feature.fingerprint] for name, feature in self.features.items()],
            "num_items": num_items,
            "with_validation": with_validation,
        }

    def items(self, with_validation: bool) -> dict[str, Any]:
        """The entry of a checkpoint with which it loads without the data; none if not wanted."""
        config = self.config
        if not config.portable:
            return {}
        table = item_table_folder(config.dataset, config.paths, self.dataset)
        catalogue = Catalogue.of(self.dataset, self.features, with_validation, table)
        return {"items": catalogue.pack()}


class TrainingJob(ModelJob):
    """Trains a network.

    Args:
        tracker: for the training that finds the best epoch; `watch`: see `fit`.
    """

    def __init__(self, *arguments: Any, tracker: Tracker, watch: Watch | None = None) -> None:
        super().__init__(*arguments)
        self.tracker, self.watch = tracker, watch
        self.history = FitHistory()
        self.updates = self.parameters = 0
        self.learned: dict[str, int] = {}
        self.route = "never"

    def fit(self) -> Any:
        config = self.config
        trainer = self._trainer(self.tracker, with_validation=False)
        network = trainer.network
        log.info("\n%s\n", summary(network))
        if len(network.names) == 1 and config.strategy.name != "simultaneous":
            log.info(
                "model=%s has one subnet: strategy=%s trains it as simultaneous does",
                config.model.name,
                config.strategy.name,
            )
        validate = None
        if "valid" in self.dataset.splits:
            training = training_of(self.dataset, {}, self.device, with_validation=False)
            protocol = make_protocol(config, self.dataset.num_items, training)
            sessions = self.dataset.sessions("valid")

            def validate() -> dict[str, float]:
                ranks = evaluate(trainer.kept.ranker(), sessions, protocol, self.device)
                measured: dict[str, float] = summarise(ranks, protocol)["metrics"]
                return measured

        checkpoints = self.folder / "checkpoints"
        extra = self.origin(network.num_items, with_validation=False)
        items = self.items(with_validation=False)
        if config.resume is not None:
            self.history = resume(Path(config.resume), trainer, extra, checkpoints, items)
            self.before_s = _seconds(self.history.epochs, trainer)
        elif config.warm_start is not None and validate is not None:
            metric = config.early_stopping.metric
            log.info("before training: valid %s %.4f", metric, validate()[metric])
        self.history = fit(trainer, validate, checkpoints, extra, self.history, items, self.watch)
        if self.history.kept_epoch != self.history.last_epoch or trainer.average is not None:
            load_network(network, checkpoints / "best.pt", mmap=True)
        self._note(trainer)
        return network

    def fit_final(self) -> Any:
        """Train from the start with the passes that led to the best state."""
        passes = self.history.chosen()
        log.info("training on training and validation sessions for %d epochs", len(passes))
        # The curves of the run are those of the first training, so this one writes none.
        tracker = Tracker(self.folder, replace(self.config.tracking, tensorboard=False))
        trainer = self._trainer(tracker, with_validation=True)
        about, done = self.origin(trainer.network.num_items, with_validation=True), list[Any]()
        path = self.folder / "checkpoints" / FINAL_LAST
        saver = Saver(trainer, path, lambda: {**about, "passes": passes, "done": done})
        if self.config.resume is not None:
            done += resume_final(
                Path(self.config.resume).with_name(path.name), trainer, saver.about()
            )
            self.before_final_s = _seconds(done, trainer)
        saver.save(trainer.interrupted)
        for index in passes[len(done) :]:
            done.append({"seconds": saver.run_pass(index).seconds})
            with put_off():
                saver.save()
        network = trainer.kept
        content = {**about, **network_content(network), **self.items(with_validation=True)}
        save_checkpoint(self.folder / "checkpoints" / "final.pt", self.config, content)
        self._note(trainer)
        return network

    def summary(self) -> dict[str, Any]:
        history = self.history
        return {
            "epochs": len(history.epochs),
            "best_epoch": history.kept_epoch,
            "best_epochs_of_stages": [*history.stages, history.best_epoch],
            "updates": self.updates,
            "updates_of_subnets": self.learned,
            "step": self.route,
            "parameters": self.parameters,
            "history": history.epochs,
        }

    def _note(self, trainer: Trainer) -> None:
        self.updates += trainer.updates
        self.route = trainer.fast.route or self.route
        for name, count in zip(trainer.network.names, trainer.learned, strict=True):
            self.learned[name] = self.learned.get(name, 0) + count
        self.parameters = sum(p.numel() for p in trainer.network.parameters())

    def _trainer(self, tracker: Tracker, with_validation: bool) -> Trainer:
        config = self.config
        sessions, num_items = self.dataset.training_sessions(with_validation)
        check_size(config, num_items, sessions, self.features, self.device)
        streams = Streams(config.seed, self.device)
        network = build_network(config, num_items, streams, self.features)
        support = sessions.support(num_items)
        resumed = config.resume is not None and not with_validation  # has its own weights
        if config.warm_start is not None and not resumed:
            warm_start(config, network, self.dataset.item_ids, self.features, support)
        return Trainer(config, network, sessions, support, streams, tracker)


def _seconds(passes: list[dict[str, Any]], trainer: Trainer) -> float:
    """Of passes, and of the one that was interrupted."""
    inside = trainer.interrupted.get("result", {"seconds": 0.0})
    return float(sum(each["seconds"] for each in [*passes, inside]))


class CountingJob(ModelJob):
    """Fits a baseline. Its checkpoint holds what it counts: counting is faster than loading."""

    def fit(self) -> Any:
        if self.config.seed:
            name = self.config.model.name
            log.info("seed=%d has no effect: %s only counts", self.config.seed, name)
        return self._fit("best.pt", with_validation=False)

    def fit_final(self) -> Any:
        return self._fit("final.pt", with_validation=True)

    def _fit(self, name: str, with_validation: bool) -> Any:
        training = training_of(self.dataset, self.features, self.device, with_validation)
        ranker = make_baseline(self.config, training)
        about = self.origin(training.num_items, with_validation)
        content = {**about, **self.items(with_validation)}
        if self.config.portable:
            content["sessions"] = pack_sessions(training.sessions)
        save_checkpoint(self.folder / "checkpoints" / name, self.config, content)
        return ranker

    def summary(self) -> dict[str, Any]:
        nothing = {"epochs": 0, "best_epoch": 0, "best_epochs_of_stages": [], "updates": 0}
        return {**nothing, "updates_of_subnets": {}, "parameters": 0, "history": []}
