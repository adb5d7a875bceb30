"""The jobs of a sweep: run once, resumed after an interruption, never overwritten; the report."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from p_rnn.files import write_text
from p_rnn.runs.experiment import train
from p_rnn.runs.fit import Watch
from p_rnn.runs.process import spin_less
from p_rnn.runs.report.runs import METRICS
from p_rnn.runs.report.write import write_report
from p_rnn.settings.config import Config
from p_rnn.settings.errors import UserError
from p_rnn.settings.job_names import SWEPT
from p_rnn.settings.resolve import resolve
from p_rnn.settings.stored import from_dict, refuse_difference

log = logging.getLogger(__name__)
FAILURE = "error.txt"  # why a job failed, in its folder


def run_job(
    config: Config, folder: Path, varied: Sequence[str] = (), watch: Watch | None = None
) -> dict[str, Any]:
    """Run the job of a folder and return its metrics: resume it, or read them if it is finished.

    Args:
        varied: the settings that the sweep varies; `watch`: see `run`.

    Raises:
        UserError: the folder holds a job with other settings; and as `train`.
    """
    stored = folder / METRICS
    if stored.exists():
        metrics: dict[str, Any] = json.loads(stored.read_text())
        refuse_difference(str(stored), from_dict(metrics["config"], str(stored)), resolve(config))
        log.info("finished before: %s", stored)
        return metrics
    resolve(config)  # refuses before a folder is named
    log.info("run folder:\n%s", folder)
    last = folder / "checkpoints" / "last.pt"
    if last.exists() and config.resume is None:  # an interrupted job of a sweep
        config = replace(config, resume=str(last))
    metrics = train(config, folder, varied, watch)
    log.info("run folder:\n%s", folder)
    return metrics


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
    """Write the report of a sweep to its subfolder `report`."""
    if not any(sweep.glob(f"*/{METRICS}")):
        return
    try:
        text = write_report([sweep], sweep / "report")
        log.info("%s\n\nreport: %s", text, sweep / "report")
    except UserError as error:
        log.warning("no report: %s", error)


def finish(sweep: Path, jobs: str = "jobs of the sweep") -> bool:
    """Report on a sweep and list its failed jobs; return whether there are any."""
    report(sweep)
    return list_failures(sorted(path for path in sweep.glob("*") if path.is_dir()), jobs)


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
