"""What a command says when something goes wrong: one line."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from p_rnn.runs.interruption import Interrupted
from p_rnn.runs.isolation import memory_line, out_of_memory
from p_rnn.runs.sweeps import LAST, RememberSweep
from p_rnn.settings.errors import UserError
from p_rnn.settings.messages import MENDABLE, one_line

OWN_FOLDER = ("hydra.run.dir", "hydra.sweep.dir", "sweep_name")
BROKEN = ("TerminatedWorkerError", "BrokenProcessPool")  # of joblib
log = logging.getLogger("p_rnn")


def mendable(error: Exception, schema: type[Any]) -> str | None:
    """The line about an error that a person can mend; None: a bug of ours, with its traceback."""
    if isinstance(error, MENDABLE):
        return one_line(error, schema)
    if out_of_memory(error):
        return memory_line(error)
    if isinstance(error, RecursionError):
        return "the settings refer to themselves, or are nested too deep: look for &, * and ${}"
    if any(kind.__name__ in BROKEN for kind in type(error).__mro__):
        return (
            "a process of the launcher was killed, as the system does where memory runs out; "
            f"{_repeat()}: finished jobs are left out, interrupted ones go on"
        )
    return None


@contextlib.contextmanager
def in_one_line(schema: type[Any], all_errors: bool) -> Iterator[None]:
    """Turn mistakes of a user into `UserError`s of one line.

    Args:
        all_errors: other errors, too, after their traceback was logged: those of a job must not
            end the others.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        line = mendable(error, schema)
        if line is None:
            if not all_errors:
                raise
            log.exception("the job failed")
            line = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(line) from error


def how_to_go_on(error: Interrupted) -> str:
    """Where an interrupted command has left what, and how it goes on."""
    last = None if error.folder is None else error.folder / LAST
    if last is None or not last.exists():
        return f"interrupted; to continue, {_repeat()}"
    with contextlib.suppress(ValueError):
        last = last.relative_to(Path.cwd())
    if _has_own_folder() or RememberSweep.folder is not None:
        return f"interrupted; the state is in {last}; to continue, {_repeat()}"
    return f"interrupted; to continue, repeat the command with resume={_typed(last)}"


def _repeat() -> str:
    """Without a name of their own, the folders of sweeps are named by the time."""
    sweep = RememberSweep.folder
    if sweep is None or _has_own_folder():
        return "repeat the command"
    return f"repeat the command with sweep_name={sweep.name}"


def _has_own_folder() -> bool:
    """Whether the command names the folder of its run or sweep."""
    return any(word.partition("=")[0].lstrip("+") in OWN_FOLDER for word in sys.argv[1:])


def _typed(path: Path) -> str:
    """A path as it is typed: with quotes where Hydra needs them."""
    text = str(path)
    return f"\"'{text}'\"" if set(text) & set("=,[]{} ") else text
