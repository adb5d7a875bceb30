"""Resuming an interrupted run."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from p_rnn.runs.fit import FitHistory, learners_of, save_best, set_network, stage_file
from p_rnn.settings.config import Settings
from p_rnn.settings.errors import UserError
from p_rnn.settings.stored import refuse_difference
from p_rnn.training.checkpoint import HEADER, load_checkpoint, save_checkpoint
from p_rnn.training.trainer import Trainer

log = logging.getLogger(__name__)


def check_resume(path: Path, config: Settings) -> None:
    """Check, before anything takes time, that a checkpoint has the settings of this run.

    Raises:
        UserError: no checkpoint, one without an optimizer, or the first setting that differs.
    """
    stored, content = load_checkpoint(path)
    if "optimizer" not in content:
        raise UserError(f"resume={path} cannot be resumed; give the run's checkpoints/last.pt")
    refuse_difference(f"resume={path}", stored, config, resuming=True)


def resume(
    path: Path,
    trainer: Trainer,
    extra: dict[str, Any],
    checkpoints: Path,
    items: dict[str, Any] | None = None,
) -> FitHistory:
    """Restore a trainer to the state of an interrupted run, and copy that run's best.pt.

    Args:
        items: see `fit`.

    Raises:
        UserError: the checkpoint is of another data set or other features, has more epochs than
            this run, or its epochs differ from those of this run.
    """
    _, content = load_checkpoint(path)
    for key, value in extra.items():
        if content[key] != value:
            raise UserError(f"resume={path} was trained on other data ({key} {content[key]})")
    history = FitHistory(**content["history"])
    if history.last_epoch > len(trainer.passes):
        raise UserError(
            f"resume={path} has trained {history.last_epoch} epochs already, and num_epochs="
            f"{trainer.config.num_epochs} makes {len(trainer.passes)}"
        )
    for row in history.epochs:
        plan = trainer.passes[row["epoch"] - 1]
        if (plan.stage, learners_of(trainer, plan)) != (row["stage"], row["learners"]):
            raise UserError(
                f"resume={path}: with this num_epochs, strategy={trainer.config.strategy.name} "
                f"trains other subnets in epoch {row['epoch']}; keep num_epochs"
            )
    if not history.kept_epoch:  # written by a version whose best.pt was that of the last stage
        history.kept_epoch, history.kept = history.best_epoch, history.best
    written = save_best(trainer, checkpoints, content, history, items or {})
    for name in {stage_file(trainer), "best.pt"} - set(written):
        if history.best_epoch:
            own = (items or {}) if name == "best.pt" else {}
            _copy(path.with_name(name), checkpoints, trainer.config, own, history)
    set_network(trainer.network, content)
    if trainer.average is not None:
        set_network(trainer.average, {**content, "model": content["average"]})
    trainer.optimizer.load_state_dict(content["optimizer"])
    if trainer.config.compile == "auto":  # other routes sum in another order
        trainer.fast.route = content["route"]
    trainer.updates, trainer.learned = content["updates"], list(content["learned"])
    log.info("resuming from %s after epoch %d", path, history.last_epoch)
    return history


def _copy(
    path: Path, checkpoints: Path, config: Settings, items: dict[str, Any], history: FitHistory
) -> None:
    """Copy a checkpoint of the interrupted run to this run; `items` replaces what it has of it.

    Raises:
        UserError: it is of another run than last.pt, whose history is given.
    """
    there = path if path.exists() else path.with_name("best.pt")  # versions without stage.pt
    _, content = load_checkpoint(there, mmap=True)
    # Rows have losses and seconds, which no two runs share.
    rows = content["history"]["epochs"]
    if json.dumps(rows) != json.dumps(history.epochs[: len(rows)]):
        raise UserError(f"{there} is of another run than the last.pt beside it")
    kept = {key: value for key, value in content.items() if key not in (*HEADER, "items")}
    save_checkpoint(checkpoints / path.name, config, {**kept, **items})
