"""Pass after pass: train, validate, keep the best, stop early."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from p_rnn.models.network import PRNN
from p_rnn.training.checkpoint import load_checkpoint, save_checkpoint
from p_rnn.training.strategies import Pass
from p_rnn.training.trainer import PassResult, Trainer

log = logging.getLogger(__name__)


@dataclass
class History:
    """What happened so far; one row per pass over the data ("epoch", from 1)."""

    epochs: list[dict[str, Any]] = field(default_factory=list)
    stage: int = 0
    best_epoch: int = 0  # of this stage; the last one where there is no validation
    best: dict[str, float] = field(default_factory=dict)  # its validation metrics
    stages: list[int] = field(default_factory=list)  # best_epoch of each stage before

    @property
    def last_epoch(self) -> int:
        return int(self.epochs[-1]["epoch"]) if self.epochs else 0

    @property
    def since_best(self) -> int:
        """Validations of this stage since the best one."""
        return sum(
            "valid" in row and row["epoch"] > self.best_epoch
            for row in self.epochs
            if row["stage"] == self.stage
        )

    def chosen(self) -> list[int]:
        """The passes, from 0, that led to the best state: of each stage those up to its best."""
        best = [*self.stages, self.best_epoch]
        return [row["epoch"] - 1 for row in self.epochs if row["epoch"] <= best[row["stage"]]]


def fit(
    trainer: Trainer,
    validate: Callable[[], dict[str, float]] | None,
    checkpoints: Path,
    extra: dict[str, Any],
    history: History,
) -> History:
    """Run the passes that are left; write last.pt after each, best.pt after each best one.

    Early stopping ends a stage, and the next one starts from its best state, the optimizer's
    included; validation comes at the end of a cycle.

    Args:
        validate: metrics of the validation split, or None without one (then the last is best).
        extra: plain content that every checkpoint carries.
        history: empty, or that of the checkpoint to go on from.
    """
    patience, metric = trainer.config.early_stopping.patience, trainer.config.early_stopping.metric
    stopped = False
    for index in range(history.last_epoch, len(trainer.passes)):
        plan = trainer.passes[index]
        if plan.stage != history.stage:
            _next_stage(trainer, checkpoints, history, plan)
            stopped = False
        elif patience is not None and history.since_best >= patience:
            if not stopped:
                log.info("stopped early: %s was best in epoch %d", metric, history.best_epoch)
            stopped = True
            continue
        done = trainer.run_pass(index)
        valid = validate() if validate is not None and plan.ends_cycle else None
        better = validate is None
        if valid is not None:
            assert metric is not None
            better = not history.best or valid[metric] > history.best[metric]
        _record(trainer, history, index, done, valid, better)
        _save(trainer, history, checkpoints, extra, better)
    return history


def _next_stage(trainer: Trainer, checkpoints: Path, history: History, plan: Pass) -> None:
    best = load_network(trainer.network, checkpoints / "best.pt")
    if trainer.average is not None:
        set_network(trainer.average, best)
    trainer.optimizer.load_state_dict(best["optimizer"])
    name = trainer.network.names[plan.in_score - 1]
    log.info(
        "stage %d: subnet %s joins the best state, of epoch %d",
        plan.stage + 1,
        name,
        history.best_epoch,
    )
    history.stages.append(history.best_epoch)
    history.stage, history.best_epoch, history.best = plan.stage, 0, {}


def _record(
    trainer: Trainer,
    history: History,
    index: int,
    done: PassResult,
    valid: dict[str, float] | None,
    better: bool,
) -> None:
    """A row of the history, points for TensorBoard, a line for people."""
    plan, epoch, tracker = trainer.passes[index], index + 1, trainer.tracker
    names, learners = trainer.network.names, learners_of(trainer, plan)
    row: dict[str, Any] = {
        "epoch": epoch,
        "stage": plan.stage,
        "learners": learners,
        **asdict(done),
        "updates": trainer.updates,
    }
    line = f"epoch {epoch}: loss {done.loss:.4f}, {done.events / done.seconds:,.0f} events/s"
    if plan.in_score < len(names) or learners != [list(names)]:
        line += f", {' '.join('+'.join(each) for each in learners)} learned"
    tracker.scalar("epoch/loss", done.loss, epoch)
    tracker.scalar("epoch/learning_rate", float(trainer.optimizer.param_groups[0]["lr"]), epoch)
    if valid is not None:
        row["valid"] = valid
        for name, value in valid.items():
            tracker.scalar(f"valid/{name}", value, epoch)
        metric = trainer.config.early_stopping.metric
        assert metric is not None
        line += f", valid {metric} {valid[metric]:.4f}{' (best)' if better else ''}"
    log.info("%s", line)
    history.epochs.append(row)
    if better:
        history.best_epoch, history.best = epoch, valid or {}


def learners_of(trainer: Trainer, plan: Pass) -> list[list[str]]:
    """The names of the subnets that learn, update after update of a mini-batch."""
    return [[trainer.network.names[k] for k in learners] for learners in plan.updates]


def _save(
    trainer: Trainer, history: History, checkpoints: Path, extra: dict[str, Any], better: bool
) -> None:
    content = {**extra, **network_content(trainer.network), "history": asdict(history)}
    content.update(
        optimizer=trainer.optimizer.state_dict(),
        updates=trainer.updates,
        learned=trainer.learned,
        route=trainer.fast.route,
    )
    if trainer.average is not None:
        content["average"] = trainer.average.state_dict()
    # last.pt first: after an interruption in between, it is itself the best (see `resume`).
    save_checkpoint(checkpoints / "last.pt", trainer.config, content)
    if better:
        save_best(trainer, checkpoints, content)


def save_best(trainer: Trainer, checkpoints: Path, content: dict[str, Any]) -> None:
    """best.pt out of the content of a last.pt; with the optimizer where a stage starts from it."""
    drop = {"updates", "learned", "route", "average"}
    if trainer.passes[-1].stage == 0:
        drop.add("optimizer")
    kept = {key: value for key, value in content.items() if key not in drop}
    kept["model"] = content.get("average", content["model"])  # that which was validated
    save_checkpoint(checkpoints / "best.pt", trainer.config, kept)


def network_content(network: PRNN) -> dict[str, Any]:
    """What a checkpoint holds of a network."""
    return {"model": network.state_dict(), "in_score": network.in_score}


def load_network(network: PRNN, path: Path) -> dict[str, Any]:
    """Put a network into the state of a checkpoint; the checkpoint's content."""
    _, content = load_checkpoint(path)
    set_network(network, content)
    return content


def set_network(network: PRNN, content: dict[str, Any]) -> None:
    """The inverse of `network_content`."""
    network.load_state_dict(content["model"])
    network.use(content["in_score"])
