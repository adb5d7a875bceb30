"""Epoch after epoch: train, validate, keep the best, stop early, go on after an interruption."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from p_rnn.config import Config
from p_rnn.errors import UserError
from p_rnn.resolve import refuse_difference
from p_rnn.training.checkpoint import load_checkpoint, save_checkpoint
from p_rnn.training.trainer import Trainer

log = logging.getLogger(__name__)


@dataclass
class History:
    """What happened so far; one row per epoch."""

    epochs: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0  # from 1; the last one where there is no validation
    best: dict[str, float] = field(default_factory=dict)  # its validation metrics

    @property
    def since_best(self) -> int:
        return len(self.epochs) - self.best_epoch


def fit(
    trainer: Trainer,
    validate: Callable[[], dict[str, float]] | None,
    checkpoints: Path,
    extra: dict[str, Any],
    history: History,
) -> History:
    """Run the epochs that are left; write last.pt after each, best.pt after each best one.

    Args:
        validate: metrics of the validation split, or None without one (then the last is best).
        extra: plain content that every checkpoint carries.
        history: empty, or that of the checkpoint to go on from.
    """
    config, tracker = trainer.config, trainer.tracker
    assert config.num_epochs is not None
    patience, metric = config.early_stopping.patience, config.early_stopping.metric
    for index in range(len(history.epochs), trainer.strategy.num_passes(config.num_epochs)):
        if patience is not None and history.since_best >= patience:
            log.info("stopped early: %s was best in epoch %d", metric, history.best_epoch)
            break
        done = trainer.run_pass(index)
        row: dict[str, Any] = {"epoch": index + 1, **asdict(done), "updates": trainer.updates}
        line = (
            f"epoch {index + 1}: loss {done.loss:.4f}, {done.events / done.seconds:,.0f} events/s"
        )
        tracker.scalar("epoch/loss", done.loss, index + 1)
        tracker.scalar("epoch/learning_rate", trainer.optimizer.learning_rate, index + 1)
        better = validate is None
        if validate is not None:
            assert metric is not None
            row["valid"] = validate()
            for name, value in row["valid"].items():
                tracker.scalar(f"valid/{name}", value, index + 1)
            line += f", valid {metric} {row['valid'][metric]:.4f}"
            better = not history.best or row["valid"][metric] > history.best[metric]
        log.info("%s%s", line, " (best)" if better and validate is not None else "")
        history.epochs.append(row)
        if better:
            history.best_epoch, history.best = index + 1, row.get("valid", {})
        content = {**extra, "model": trainer.network.state_dict(), "history": asdict(history)}
        if better:
            save_checkpoint(checkpoints / "best.pt", config, content)
        content.update(optimizer=trainer.optimizer.state_dict(), updates=trainer.updates)
        save_checkpoint(checkpoints / "last.pt", config, content)
    return history


def check_resume(path: Path, config: Config) -> None:
    """Refuse to go on from a checkpoint of other settings, before anything takes time.

    Raises:
        UserError: no checkpoint, one without an optimizer, or the first setting that differs.
    """
    stored, content = load_checkpoint(path)
    if "optimizer" not in content:
        raise UserError(f"resume={path} cannot be trained on; give the run's checkpoints/last.pt")
    free = ("num_epochs", "early_stopping.patience", "evaluation.baselines")
    refuse_difference(f"resume={path}", stored, config, free)


def resume(path: Path, trainer: Trainer, extra: dict[str, Any], checkpoints: Path) -> History:
    """Put a trainer where an interrupted run was; the run's best.pt is taken along.

    Raises:
        UserError: the checkpoint is of another data set, or has trained longer than asked for.
    """
    _, content = load_checkpoint(path)
    for key, value in extra.items():
        if content[key] != value:
            raise UserError(f"resume={path} was trained on other data ({key} {content[key]})")
    best = path.with_name("best.pt")
    _, best_content = load_checkpoint(best)
    save_checkpoint(checkpoints / "best.pt", trainer.config, {
        key: best_content[key] for key in (*extra, "model", "history")
    })  # fmt: skip
    done, asked = len(content["history"]["epochs"]), trainer.config.num_epochs or 0
    if done > trainer.strategy.num_passes(asked):
        raise UserError(f"resume={path} has trained {done} epochs already, and num_epochs={asked}")
    trainer.network.load_state_dict(content["model"])
    trainer.optimizer.load_state_dict(content["optimizer"])
    history = History(**content["history"])
    trainer.updates = content["updates"]
    log.info("going on from %s after epoch %d", path, len(history.epochs))
    return history
