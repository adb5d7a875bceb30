"""Run a command as a process: compose its settings, report errors in one line, set exit status."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from p_rnn import printing
from p_rnn.commands.errors import how_to_go_on, in_one_line, mendable
from p_rnn.commands.help import answer, in_order
from p_rnn.runs.interruption import Interrupted, listening
from p_rnn.runs.isolation import can_fork, in_own_process
from p_rnn.runs.locks import Busy
from p_rnn.runs.sweeps import RememberSweep, finish, note_failure, noted, stop_jobs
from p_rnn.settings.config import CONF
from p_rnn.settings.errors import UserError
from p_rnn.settings.folders import own_conf
from p_rnn.settings.hydra_glue import composed, register, typed
from p_rnn.settings.id_lists import as_typed, path_as_typed
from p_rnn.settings.job_names import SWEPT, swept_keys
from p_rnn.settings.messages import (
    check_commands,
    check_flags,
    check_groups,
    sections_there,
)
from p_rnn.settings.tree import check_ranges

C = TypeVar("C")
log = logging.getLogger("p_rnn")


def hydra_script(name: str, schema: type[C]) -> Callable[[Callable[[C], Any]], Callable[[], None]]:
    """Turn `main(config)` into a script composed from conf/<name>.yaml and typed by `schema`.

    User errors are printed as one line and exit with status 2; other exceptions keep their
    traceback. In a multirun a failed job does not stop the others.
    """

    def decorate(function: Callable[[C], Any]) -> Callable[[], None]:
        register(schema)

        failed: list[str] = []

        def job(tree: DictConfig) -> Any:
            settings = HydraConfig.get()
            folder, sweep = Path(settings.runtime.output_dir), settings.mode == RunMode.MULTIRUN
            if (own := own_conf()) is not None:
                log.info("settings are looked for first in %s", own)

            def work() -> Any:
                with in_one_line(schema, all_errors=sweep):
                    return function(typed(tree, schema))

            apart = sweep and can_fork() and "submitit" not in settings.launcher["_target_"]
            try:
                done = in_own_process(work) if apart else work()
            except Busy as error:
                if sweep:
                    log.info("left out: %s", error)
                else:
                    log.error("error: %s", error)
                    failed.append(str(error))
                return None
            except UserError as error:
                log.error("error: %s", error)
                failed.append(str(error))
                if sweep:
                    note_failure(folder, str(error))
                    raise  # the sweeper must know; it continues with the other jobs
                remove_if_empty(folder, name)
                return None
            if sweep:
                note_failure(folder, None)
            return done

        main = hydra.main(config_path=str(CONF), config_name=name, version_base="1.3")(job)

        def script() -> None:
            logging.raiseExceptions = False  # a full disk is no traceback for every line of a log
            os.environ["HYDRA_FULL_ERROR"] = "1"  # raise exceptions instead of printing them
            # In the environment, because launchers start other processes.
            os.environ[SWEPT] = ",".join(swept_keys(sys.argv[1:]))
            try:
                sys.argv[1:] = in_order(sys.argv[1:])
                check_flags(sys.argv[1:])
                check_groups(sys.argv[1:])
                if name == "train":
                    check_commands(sys.argv[1:])
                with listening(stop_jobs), sections_there(sys.argv[1:]):
                    text = answer(sys.argv[1:], name, schema)
                    if text is None:
                        main()
                    else:
                        printing.show(text)
            except KeyboardInterrupt as error:
                interrupted = error if isinstance(error, Interrupted) else Interrupted()
                print(how_to_go_on(interrupted), file=sys.stderr)
                sys.exit(interrupted.status)
            except Exception as error:
                line = mendable(error, schema)
                if line is None:
                    raise
                _finish_sweep()
                # The error of a job is already in its log and in the list of failed jobs.
                if not noted(RememberSweep.folder, line):
                    print(f"error: {line}", file=sys.stderr)
                sys.exit(2)
            if _finish_sweep() or failed:
                sys.exit(2)

        return script

    return decorate


def plain_script(
    name: str, schema: type[C], ids: Collection[str] = (), paths: Collection[str] = ()
) -> Callable[[Callable[[C], None]], Callable[[], None]]:
    """The same for a command that is no run: it makes no folder and writes no log.

    Args:
        ids: settings that are lists of ids, which are text as they are typed.
        paths: settings that are paths, the same.
    """

    def decorate(function: Callable[[C], None]) -> Callable[[], None]:
        def script() -> None:
            printing.log_to_terminal()
            try:
                check_flags(sys.argv[1:])
                words = [path_as_typed(as_typed(w, ids), paths) for w in sys.argv[1:]]
                text = answer(words, name, schema, runs=False)
                if text is not None:
                    printing.show(text)
                    return
                for word in words:
                    if word.startswith("-"):
                        raise UserError(f"{name} does not take the flag {word}; leave it out")
                config = typed(composed(name, schema, words), schema)
                check_ranges(config)
                function(config)
            except KeyboardInterrupt:
                print("\ninterrupted", file=sys.stderr)
                sys.exit(130)
            except Exception as error:
                line = mendable(error, schema)
                if line is None:
                    raise
                print(f"error: {line}", file=sys.stderr)
                sys.exit(2)

        return script

    return decorate


def run_to_exit(job: Callable[[], bool], schema: type[Any]) -> None:
    """Run `job` and end the process with status 2 if it returns True (failed), else 0.

    User errors are printed as one line. An interrupted job continues when it is started again.
    """
    try:
        with listening():
            failed = job()
    except KeyboardInterrupt as error:
        print("interrupted; repeat the command to continue", file=sys.stderr)
        sys.exit(error.status if isinstance(error, Interrupted) else 130)
    except Exception as error:
        line = mendable(error, schema)
        if line is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        failed = True
    sys.exit(2 if failed else 0)


def _finish_sweep() -> bool:
    """Report on the sweep, if one ran; whether any of its jobs failed."""
    folder = RememberSweep.folder
    if folder is None or not folder.is_dir():
        return False
    return finish(folder)


def remove_if_empty(folder: Path, job: str) -> None:
    """Remove the folder of a refused run if it has only Hydra's copy of the settings and a log."""
    ours = {folder / f"{job}.log"}
    ours |= {folder / ".hydra" / f"{name}.yaml" for name in ("config", "hydra", "overrides")}
    if all(path in ours for path in folder.rglob("*") if not path.is_dir()):
        for path in ours:
            path.unlink(missing_ok=True)
        for place in (folder / ".hydra", folder):
            with contextlib.suppress(OSError):  # in use, or not empty
                place.rmdir()
