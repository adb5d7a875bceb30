"""The scripts as a user runs them, in processes of their own that start quickly.

Importing PyTorch takes seconds, so a server imports it once and forks a process for each run.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
IMPORTED = ["p_rnn.runs.study", "p_rnn.runs.report.write", "p_rnn.settings.hydra_glue"]
LIMIT_S = 300


def run_script(
    name: str, folder: Path, *arguments: str, raw: Path | None = None, fresh: bool = False
) -> subprocess.CompletedProcess[str]:
    """scripts/<name>.py, or the folder scripts/<name>, in a working directory and on one thread.

    `raw` is its P_RNN_RAW_DATA.

    With `fresh`, and where processes cannot be forked, in a new interpreter.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment.pop("P_RNN_RAW_DATA", None)
    if raw is not None:
        environment["P_RNN_RAW_DATA"] = str(raw)
    script = ROOT / "scripts" / name
    command = [str(script if script.is_dir() else script.with_suffix(".py")), *arguments]
    if fresh or "forkserver" not in multiprocessing.get_all_start_methods():
        return subprocess.run(
            [sys.executable, *command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    context = start_server()
    with tempfile.TemporaryDirectory() as place:
        said = [Path(place) / "stdout", Path(place) / "stderr"]
        process = context.Process(target=_run, args=(command, folder, environment, said))
        process.start()
        process.join(LIMIT_S)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(command, LIMIT_S)
        out, err = (path.read_text() for path in said)
    return subprocess.CompletedProcess(command, process.exitcode, out, err)


def start_server() -> BaseContext:
    """The server, if it does not run yet; it has one thread, as PyTorch asks when imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        forkserver.ensure_running()
    return context


def _run(command: list[str], folder: Path, environment: dict[str, str], said: list[Path]) -> None:
    """In the forked process: what `python <command>` does."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, path in zip((1, 2), said, strict=True):
        with path.open("wb") as file:
            os.dup2(file.fileno(), number)
    sys.stdout, sys.stderr = (os.fdopen(n, "w", closefd=False) for n in (1, 2))
    sys.argv = command
    sys.path[0:0] = [str(Path(command[0]).parent)]
    runpy.run_path(command[0], run_name="__main__")
