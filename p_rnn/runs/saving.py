"""When the state of a training is saved: after passes, every few minutes, when interrupted."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from p_rnn import distributed
from p_rnn.models.network import PRNN
from p_rnn.runs import interruption
from p_rnn.settings.errors import UserError
from p_rnn.training.checkpoint import load_checkpoint, save_checkpoint
from p_rnn.training.passes import PassResult
from p_rnn.training.trainer import Trainer

LEAST = 50  # seconds of training for each second of writing inside of passes: at most 2 %


class Saver:
    """Saves the state of a trainer in one file, from which `restore` goes on.

    Args:
        about: makes the content of the file beside the state.
    """

    def __init__(self, trainer: Trainer, path: Path, about: Callable[[], dict[str, Any]]) -> None:
        self.trainer, self.path, self.about = trainer, path, about
        minutes = trainer.config.checkpoint_minutes
        self.every_s = math.inf if minutes is None else 60 * minutes
        self.due = math.inf

    def save(self, position: dict[str, Any] | None = None) -> dict[str, Any]:
        """Write the file; returns its content.

        Args:
            position: in the present pass; None: as the trainer says.
        """
        started = time.monotonic()
        position = self.trainer.position() if position is None else position
        content = {**self.about(), **trainer_content(self.trainer), "underway": position}
        save_checkpoint(self.path, self.trainer.config, content)
        now = time.monotonic()
        self.due = now + max(self.every_s, LEAST * (now - started))
        return content

    def run_pass(self, index: int) -> PassResult:
        """`Trainer.run_pass`, or the result of a pass that an interrupted run has ended.

        Raises:
            Interrupted: by a signal; all is saved.
        """
        there = self.trainer.interrupted
        if there.get("pass") == index and "batches" not in there:
            self.trainer.interrupted = {}
            return PassResult(**there["result"])
        with interruption.put_off():
            return self.trainer.run_pass(index, self._look)

    def save_end(self, index: int, done: PassResult) -> None:
        """Save the state after the last mini-batch of a pass, before its validation."""
        self.save({"pass": index, "result": vars(done)})

    def remove(self) -> None:
        """Remove the file of a training that was refused before its first update."""
        self.path.unlink(missing_ok=True)
        with suppress(OSError):  # there is something else
            self.path.parent.rmdir()
            self.path.parent.parent.rmdir()

    def _look(self) -> None:
        """Between two mini-batches; a rank has only the state of its own slots, and saves none."""
        alone = not distributed.joined()
        if interruption.pending():
            if alone:
                self.save()
            interruption.end()
        if alone and time.monotonic() >= self.due:
            self.save()


def trainer_content(trainer: Trainer) -> dict[str, Any]:
    """The content of a checkpoint from which `restore` goes on."""
    content = {
        **network_content(trainer.network),
        "optimizer": trainer.optimizer.state_dict(),
        "updates": trainer.updates,
        "learned": list(trainer.learned),
        "route": trainer.fast.route,
    }
    if trainer.average is not None:
        content["average"] = trainer.average.state_dict()
    return content


def restore(trainer: Trainer, content: dict[str, Any]) -> None:
    """The inverse of `trainer_content`; an interrupted pass goes on where it was."""
    set_network(trainer.network, content)
    if trainer.average is not None:
        set_network(trainer.average, {**content, "model": content["average"]})
    trainer.optimizer.load_state_dict(content["optimizer"])
    if trainer.config.compile == "auto":  # other routes sum in another order
        trainer.fast.route = content["route"]
    trainer.updates, trainer.learned = content["updates"], list(content["learned"])
    trainer.interrupted = content.get("underway", {})


def network_content(network: PRNN) -> dict[str, Any]:
    """The content of a checkpoint that describes a network."""
    return {"model": network.state_dict(), "in_score": network.in_score}


def load_network(network: PRNN, path: Path, mmap: bool = False) -> dict[str, Any]:
    """Load a checkpoint into a network; return the checkpoint's content (see `load_checkpoint`)."""
    distributed.wait()  # rank 0 may be writing it
    _, content = load_checkpoint(path, mmap)
    set_network(network, content)
    return content


def set_network(network: PRNN, content: dict[str, Any]) -> None:
    """The inverse of `network_content`.

    Raises:
        UserError: the checkpoint is of another network.
    """
    try:
        network.load_state_dict(content["model"])
        network.use(content["in_score"])
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"the checkpoint is of another network ({reason})") from error
