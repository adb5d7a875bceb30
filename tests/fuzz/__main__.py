"""Fuzz a target: `python -m tests.fuzz csv --seconds 600` (needs `pip install atheris`).

Every finding is written to the folder `--out` once: the input, and its traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["p_rnn"]):
    from p_rnn.settings.errors import UserError
    from tests.fuzz.targets import TARGETS

PATIENCE_S, MEMORY = 20, 6 * 2**30


class Slow(BaseException):
    """An input that takes too long."""


def too_long(*_: Any) -> None:
    raise Slow


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=list(TARGETS))
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--out", type=Path, default=Path("fuzz"))
    parsed = parser.parse_args()
    target, known, count = TARGETS[parsed.target], set[str](), 0
    work = Path(tempfile.mkdtemp(prefix="fuzz-"))
    corpus = work / "corpus"
    corpus.mkdir()
    for k, seed in enumerate(target.seeds(work)):
        target.run(seed, fresh(work))  # a seed must be read
        (corpus / f"{k}").write_bytes(seed)
    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGALRM, too_long)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    started = time.monotonic()

    def once(data: bytes) -> None:
        nonlocal count
        count += 1
        signal.alarm(PATIENCE_S)
        try:
            with contextlib.suppress(UserError):
                target.run(data, fresh(work))
        except (Exception, Slow) as error:
            note(error, data)
        finally:
            signal.alarm(0)
        if time.monotonic() - started > parsed.seconds:
            print(f"{parsed.target}: {count} executions, {len(known)} findings", flush=True)
            shutil.rmtree(work, ignore_errors=True)
            os._exit(0)  # libFuzzer has no other way to stop

    def note(error: BaseException, data: bytes) -> None:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "p_rnn" in f.filename]
        key = f"{type(error).__name__} {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
        if key in known:
            return
        known.add(key)
        parsed.out.mkdir(parents=True, exist_ok=True)
        name = f"{parsed.target}-{len(known)}"
        (parsed.out / name).write_bytes(data)
        text = "".join(traceback.format_exception(error))
        (parsed.out / f"{name}.txt").write_text(f"{key}\n{text}")
        print(f"finding {name}: {key}: {str(error)[:200]}", flush=True)

    atheris.Setup([sys.argv[0], str(corpus), "-verbosity=0", "-timeout=60"], once)
    atheris.Fuzz()


def fresh(work: Path) -> Path:
    """An empty folder."""
    folder = work / "now"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


main()
