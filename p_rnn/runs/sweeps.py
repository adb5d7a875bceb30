"""The jobs of a sweep: run once, resumed after an interruption, never overwritten; the report."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from p_rnn import distributed
from p_rnn.files import write_text
from p_rnn.runs.experiment import train
from p_rnn.runs.fit import Watch
from p_rnn.runs.interruption import Interrupted, listening
from p_rnn.runs.locks import LOCK, holder, locked, process_of, was_killed
from p_rnn.runs.process import spin_less
from p_rnn.runs.report.runs import METRICS, find_runs
from p_rnn.runs.report.stored import read_metrics
from p_rnn.runs.report.write import write_report
from p_rnn.runs.resuming import has_begun
from p_rnn.settings.config import Config
from p_rnn.settings.errors import UserError
from p_rnn.settings.job_names import SWEPT
from p_rnn.settings.resolve import resolve
from p_rnn.settings.stored import from_dict, refuse_difference

log = logging.getLogger(__name__)
FAILURE = "error.txt"  # why a job failed, in its folder
LAST = Path("checkpoints/last.pt")
STOPPING_S = 60.0  # how long a sweep waits for its jobs when it is interrupted
KILLED = "killed; the same command goes on from its checkpoint"


def run_job(
    config: Config, folder: Path, varied: Sequence[str] = (), watch: Watch | None = None
) -> dict[str, Any]:
    """Run the job of a folder and return its metrics: resume it, or read them if it is finished.

    Args:
        varied: the settings that the sweep varies; `watch`: see `run`.

    Raises:
        Busy: another process runs it.
        Interrupted: by a signal, with the folder.
        UserError: the folder holds a job with other settings; and as `train`.
    """
    resolved = resolve(config)  # refuses before a folder is named
    with _naming(folder), listening(), locked(folder):
        stored = folder / METRICS
        if distributed.agree(stored.exists()):
            metrics = read_metrics(stored)
            refuse_difference(str(stored), from_dict(metrics["config"], str(stored)), resolved)
            log.info("finished before: %s", stored)
            return metrics
        log.info("run folder:\n%s", folder)
        last = folder / LAST
        if distributed.agree(last.exists() and has_begun(last)):  # this job, interrupted
            config = replace(config, resume=str(last))
        metrics = train(config, folder, varied, watch)
        log.info("run folder:\n%s", folder)
        return metrics


@contextlib.contextmanager
def _naming(folder: Path) -> Iterator[None]:
    """Tell whoever reports an interruption which run it was."""
    try:
        yield
    except Interrupted as interrupted:
        interrupted.folder = interrupted.folder or folder
        raise


def objective(metrics: Mapping[str, Any]) -> float:
    """The value that a sweep maximises: the metric of early stopping on validation."""
    measured = metrics.get("valid", metrics["test"])
    name = metrics["config"]["early_stopping"]["metric"]
    return float(measured[name or next(iter(measured))])


def note_failure(folder: Path, message: str | None) -> None:
    """Leave a note in the folder of a failed job; None: it succeeded, so remove an old note."""
    note = folder / FAILURE
    if message is None:
        note.unlink(missing_ok=True)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(note, message + "\n")


def noted(sweep: Path | None, message: str) -> bool:
    """Whether any job of a sweep failed with this message."""
    notes = [] if sweep is None else sweep.rglob(FAILURE)
    return any(note.read_text().strip() == message for note in notes)


def report(sweep: Path) -> None:
    """Write the report of a sweep to its subfolder `report`, or else list the results."""
    if not any(sweep.glob(f"*/{METRICS}")):
        return
    try:
        text = write_report([sweep], sweep / "report")
        log.info("%s\n\nreport: %s", text, sweep / "report")
    except Exception as error:  # whatever it is, what the jobs have measured is shown
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        log.warning("no report: %s%s", kind, error)
        with contextlib.suppress(UserError):
            for run in find_runs([sweep]):
                last = list(run.metrics["test"].items())[-3:]
                figures = " ".join(f"{name} {value:.4f}" for name, value in last)
                log.info("%s: test %s", run.folder, figures)


def finish(sweep: Path, jobs: str = "jobs of the sweep") -> bool:
    """Report on a sweep and list its failed and killed jobs; return whether there are any.

    Jobs that other processes are running are named; who ends last reports on all.
    """
    report(sweep)
    folders = sorted(path for path in sweep.glob("*") if path.is_dir())
    for folder in folders:
        if (who := holder(folder)) is not None:
            log.warning("not in the report: %s, which is running in %s", folder, who)
        elif was_killed(folder) and not any((folder / x).exists() for x in (METRICS, FAILURE)):
            note_failure(folder, KILLED)
    return list_failures(folders, jobs)


def stop_jobs() -> None:
    """Have the jobs of this sweep that run in processes below this one save their state and end."""
    sweep = RememberSweep.folder
    folders = [] if sweep is None else [path.parent for path in sweep.glob(f"*/{LOCK}")]
    running = {folder: process_of(folder) for folder in folders}
    own = [folder for folder, process in running.items() if process and _is_below_us(process)]
    for folder in own:
        with contextlib.suppress(OSError):
            os.kill(running[folder] or 0, signal.SIGTERM)
    until = time.monotonic() + STOPPING_S
    while any(holder(folder) for folder in own) and time.monotonic() < until:
        time.sleep(0.05)


def _is_below_us(process: int) -> bool:
    """Whether this process, or one that it started, and so on, has started another one."""
    while process > 1 and process != os.getpid():
        try:
            about = Path(f"/proc/{process}/stat").read_text()
        except OSError:  # it has ended, or the system does not tell
            return False
        process = int(about.rpartition(")")[2].split()[1])
    return process == os.getpid()


def list_failures(folders: Sequence[Path], jobs: str) -> bool:
    """Print the failed jobs in and below the folders; return whether there are any."""
    lines = [
        f"{note.parent.relative_to(folder.parent)}: {note.read_text().strip()}"
        for folder in folders
        for note in sorted(folder.rglob(FAILURE))
    ]
    if lines:
        print(f"error: {len(lines)} {jobs} failed:", *lines, sep="\n  ", file=sys.stderr)
    return bool(lines)


def varied_by(sweeper: DictConfig) -> list[str]:
    """The settings that the sweep of this job varies, from the command line or its config."""
    keys = [*os.environ.get(SWEPT, "").split(","), *(sweeper.get("params") or {})]
    return [key for key in dict.fromkeys(keys) if key]


def threads_of_job(launcher: DictConfig) -> int | None:
    """The cores per job if a launcher runs several jobs at a time on this machine, else None."""
    jobs = launcher.get("n_jobs")
    if not isinstance(jobs, int) or jobs in (0, 1):
        return None
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    if jobs < 0:  # joblib: n_jobs = -1 means all cores, -2 all but one
        jobs = max(1, cores + 1 + jobs)
    return max(1, cores // jobs)


class RememberSweep(Callback):
    """Remembers the folder of the sweep, which Hydra tells only to callbacks."""

    folder: Path | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        RememberSweep.folder = Path(config.hydra.sweep.dir)
        if threads_of_job(config.hydra.launcher) is not None:
            spin_less()  # inherited by the processes that the launcher starts
