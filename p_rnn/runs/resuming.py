"""Resuming an interrupted run."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from p_rnn.runs.fit import FitHistory, learners_of, save_best, stage_file
from p_rnn.runs.saving import restore
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


def has_begun(path: Path) -> bool:
    """Whether a last.pt has learned anything, so that there is something to go on from."""
    return bool(load_checkpoint(path, mmap=True)[1].get("updates", 1))


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
    underway = content.get("underway", {})  # older versions had none
    _check_underway(path, trainer, history, underway)
    # The best state is that of last.pt only where the run was interrupted before it wrote best.pt.
    written = [] if underway else save_best(trainer, checkpoints, content, history, items or {})
    there = {stage_file(trainer): history.best_epoch, "best.pt": history.kept_epoch}
    for name, epoch in there.items():
        if epoch and name not in written:
            own = (items or {}) if name == "best.pt" else {}
            _copy(path.with_name(name), checkpoints, trainer.config, own, history)
    restore(trainer, content)
    inside = f", inside epoch {underway['pass'] + 1}" if underway else ""
    log.info("resuming from %s after epoch %d%s", path, history.last_epoch, inside)
    return history


def _check_underway(
    path: Path, trainer: Trainer, history: FitHistory, underway: dict[str, Any]
) -> None:
    """Check that this run, too, makes the pass in which the interrupted run was.

    Raises:
        UserError: it makes fewer, or one of another stage.
    """
    index = underway.get("pass", 0)
    if underway and not (
        index < len(trainer.passes) and trainer.passes[index].stage == history.stage
    ):
        raise UserError(
            f"resume={path} was interrupted in epoch {index + 1}, which num_epochs="
            f"{trainer.config.num_epochs} does not make; keep num_epochs"
        )


def resume_final(path: Path, trainer: Trainer, about: dict[str, Any]) -> list[dict[str, Any]]:
    """Restore the training on both splits, if that was interrupted; returns the passes it made.

    Args:
        about: the content of its checkpoint beside the state; what is of other passes or data is
            left alone.
    """
    if not path.is_file():
        return []
    try:
        stored, content = load_checkpoint(path)
        refuse_difference(str(path), stored, trainer.config, resuming=True)
        if any(content[key] != value for key, value in about.items() if key != "done"):
            return []
    except (UserError, KeyError) as error:
        log.warning("the final training begins again: %s", error)
        return []
    restore(trainer, content)
    done: list[dict[str, Any]] = content["done"]
    log.info("resuming from %s after %d of its %d epochs", path, len(done), len(about["passes"]))
    return done


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
