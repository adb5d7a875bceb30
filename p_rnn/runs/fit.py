"""The loop over passes: train, validate, keep the best, stop early."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from p_rnn.runs.interruption import Interrupted, put_off
from p_rnn.runs.saving import Saver, load_network, set_network
from p_rnn.settings.errors import UserError
from p_rnn.settings.sections import EarlyStoppingConfig
from p_rnn.training.checkpoint import save_checkpoint
from p_rnn.training.passes import PassResult
from p_rnn.training.strategies import PassPlan
from p_rnn.training.trainer import Trainer

log = logging.getLogger(__name__)


Watch = Callable[[int, float], None]  # called with an epoch and its metric on validation


class Stopped(Exception):
    """Raised by what watches a run, to end it."""


@dataclass
class FitHistory:
    """The progress of a fit, with one row per pass over the data ("epoch", from 1).

    Without a validation split the last pass counts as the best.

    Attributes:
        best_epoch: of this stage; `best`: its validation metrics. The next stage starts from it.
        stages: best_epoch of each earlier stage.
        kept_epoch: the epoch whose state is in best.pt; `kept`: its validation metrics.
    """

    epochs: list[dict[str, Any]] = field(default_factory=list)
    stage: int = 0
    best_epoch: int = 0
    best: dict[str, float] = field(default_factory=dict)
    stages: list[int] = field(default_factory=list)
    kept_epoch: int = 0
    kept: dict[str, float] = field(default_factory=dict)

    @property
    def last_epoch(self) -> int:
        return int(self.epochs[-1]["epoch"]) if self.epochs else 0

    @property
    def since_best(self) -> int:
        """The number of validations of this stage since its best epoch."""
        return sum(
            "valid" in row and row["epoch"] > self.best_epoch
            for row in self.epochs
            if row["stage"] == self.stage
        )

    def chosen(self) -> list[int]:
        """The passes (from 0) that led to the kept state: of each stage those up to its best."""
        best = [*self.stages, self.best_epoch]
        return [
            row["epoch"] - 1
            for row in self.epochs
            if row["epoch"] <= min(best[row["stage"]], self.kept_epoch)
        ]

    def before(self, metric: str) -> tuple[float, int] | None:
        """The best value of the earlier stages and its epoch, or None."""
        found = [
            (row["valid"][metric], row["epoch"])
            for row in self.epochs
            if row["epoch"] in self.stages and "valid" in row
        ]
        return max(found, default=None, key=lambda each: each[0])


def fit(
    trainer: Trainer,
    validate: Callable[[], dict[str, float]] | None,
    checkpoints: Path,
    extra: dict[str, Any],
    history: FitHistory,
    items: dict[str, Any] | None = None,
    watch: Watch | None = None,
) -> FitHistory:
    """Run the remaining passes; write last.pt after each, and best.pt after each best one.

    last.pt is there before the first pass, and is also written inside of passes (see `Saver`).

    Validation follows each cycle. Early stopping ends a stage; the next stage starts from its best
    state including that of the optimizer (stage.pt). If a later stage is worse, best.pt keeps the
    better one (`early_stopping.keep`).

    Args:
        validate: returns the metrics on validation; None without a validation split, in which
            case the last pass is the best.
        extra: plain content that is added to every checkpoint.
        history: empty, or that of the checkpoint to resume from.
        items: content that is added to best.pt only, which others may load without the data.
        watch: called with the epoch and the metric of early stopping after each validation.

    Raises:
        Interrupted: by a signal; all is saved.
    """
    saver = Saver(trainer, checkpoints / "last.pt", lambda: {**extra, "history": asdict(history)})
    saver.save(trainer.interrupted)
    patience, metric = trainer.config.early_stopping.patience, trainer.config.early_stopping.metric
    stopped = False
    first = trainer.interrupted.get("pass", history.last_epoch)
    for index in range(first, len(trainer.passes)):
        plan = trainer.passes[index]
        if plan.stage != history.stage:
            _end_stage(trainer, history)
            _next_stage(trainer, checkpoints, history, plan)
            stopped = False
        elif patience is not None and history.since_best >= patience:
            if not stopped:
                log.info("stopped early: %s was best in epoch %d", metric, history.best_epoch)
            stopped = True
            continue
        try:
            done = saver.run_pass(index)
        except UserError:
            if not trainer.updates:
                saver.remove()
            raise
        try:
            valid = validate() if validate is not None and plan.ends_cycle else None
        except Interrupted:
            saver.save_end(index, done)
            raise
        with put_off():
            _record(trainer, history, index, done, valid, validate is None)
            _save(saver, history, checkpoints, items or {})
        if watch is not None and valid is not None:
            watch(index + 1, valid[metric])
    _end_stage(trainer, history)
    return history


def _end_stage(trainer: Trainer, history: FitHistory) -> None:
    """Log a message if the stage has not improved validation."""
    stopping, best = trainer.config.early_stopping, history.best
    before = history.before(stopping.metric)
    if before is None or not best:
        return
    value = best[stopping.metric]
    if value <= before[0]:
        kept = "best.pt stays with the earlier stage"
        if stopping.keep == "last_stage":
            kept = "best.pt is of this stage nevertheless (early_stopping.keep=last_stage)"
        log.info(
            "stage %d did not improve validation: %s %.4f at best, but %.4f in epoch %d; %s",
            history.stage + 1,
            stopping.metric,
            value,
            *before,
            kept,
        )


def stage_file(trainer: Trainer) -> str:
    """The checkpoint that the next stage starts from; best.pt in a run without stages."""
    return "stage.pt" if trainer.passes[-1].stage else "best.pt"


def _next_stage(trainer: Trainer, checkpoints: Path, history: FitHistory, plan: PassPlan) -> None:
    best = load_network(trainer.network, checkpoints / stage_file(trainer))
    if trainer.average is not None:
        set_network(trainer.average, best)
    trainer.optimizer.load_state_dict(best["optimizer"])
    name = trainer.network.names[plan.in_score - 1]
    log.info(
        "stage %d: subnet %s joins the best state of stage %d, of epoch %d",
        plan.stage + 1,
        name,
        history.stage + 1,
        history.best_epoch,
    )
    history.stages.append(history.best_epoch)
    history.stage, history.best_epoch, history.best = plan.stage, 0, {}


def _record(
    trainer: Trainer,
    history: FitHistory,
    index: int,
    done: PassResult,
    valid: dict[str, float] | None,
    last_is_best: bool,
) -> None:
    """Add a row to the history and points to TensorBoard, and log a line."""
    plan, epoch, tracker = trainer.passes[index], index + 1, trainer.tracker
    names, learners = trainer.network.names, learners_of(trainer, plan)
    row: dict[str, Any] = {
        "epoch": epoch,
        "stage": plan.stage,
        "learners": learners,
        **asdict(done),
        "updates": trainer.updates,
    }
    line = f"epoch {epoch}/{len(trainer.passes)}"
    if plan.in_score < len(names) or learners != [list(names)]:
        line += f" ({' '.join('+'.join(each) for each in learners)})"
    line += f": loss {done.loss:.4f}, {done.events / done.seconds:,.0f} events/s"
    tracker.scalar("epoch/loss", done.loss, epoch)
    tracker.scalar("epoch/learning_rate", float(trainer.optimizer.param_groups[0]["lr"]), epoch)
    history.epochs.append(row)
    stopping = trainer.config.early_stopping
    if last_is_best:
        history.best_epoch = history.kept_epoch = epoch
    elif valid is not None:
        row["valid"] = valid
        for name, value in valid.items():
            tracker.scalar(f"valid/{name}", value, epoch)
        line += f", valid {stopping.metric} {valid[stopping.metric]:.4f}"
        line += _choose(history, valid, stopping)
    log.info("%s", line)


def _choose(history: FitHistory, valid: dict[str, float], stopping: EarlyStoppingConfig) -> str:
    """Update the history if the last epoch is the best so far; returns a note for the log."""
    metric, epoch = stopping.metric, history.last_epoch
    if history.best and valid[metric] <= history.best[metric]:
        return ""
    history.best_epoch, history.best = epoch, valid
    last = stopping.keep == "last_stage"
    if history.kept and not last and valid[metric] <= history.kept[metric]:
        return f" (best of stage {history.stage + 1})"
    history.kept_epoch, history.kept = epoch, valid
    return " (best)"


def learners_of(trainer: Trainer, plan: PassPlan) -> list[list[str]]:
    """For each update of a mini-batch, the names of the subnets that learn in it."""
    return [[trainer.network.names[k] for k in learners] for learners in plan.updates]


def _save(saver: Saver, history: FitHistory, checkpoints: Path, items: dict[str, Any]) -> None:
    # last.pt first: after an interruption in between, it is the best one itself (see `resume`).
    save_best(saver.trainer, checkpoints, saver.save(), history, items)


def save_best(
    trainer: Trainer,
    checkpoints: Path,
    content: dict[str, Any],
    history: FitHistory,
    items: dict[str, Any],
) -> list[str]:
    """Write best.pt and stage.pt from the content of last.pt if that is the best; their names."""
    written = []
    for name, epoch in {
        stage_file(trainer): history.best_epoch,
        "best.pt": history.kept_epoch,
    }.items():
        if epoch != history.last_epoch:
            continue
        drop = {"updates", "learned", "route", "average", "underway"}
        if name == "best.pt":  # no stage starts from best.pt
            drop.add("optimizer")
        kept = {key: value for key, value in content.items() if key not in drop}
        kept["model"] = content.get("average", content["model"])  # the network that was validated
        if name == "best.pt":
            kept |= items
        save_checkpoint(checkpoints / name, trainer.config, kept)
        written.append(name)
    return written
