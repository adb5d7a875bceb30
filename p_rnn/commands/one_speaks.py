"""The command line under torchrun: K processes run the same command, and rank 0 speaks."""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

from p_rnn.runs.process import ranks_asked

# torchrun ends the other ranks as soon as one has failed. What ends rank 0, too, it says itself.
PATIENCE_S = 3.0
SIGNALLED = 128  # exit statuses above this are of signals


@contextmanager
def one_speaks(command: str, words: list[str]) -> Iterator[list[str]]:
    """In the block, only rank 0 prints, writes logs and keeps a copy of the settings.

    Another rank keeps its words to itself, and prints its errors if it fails and rank 0 does not.

    Yields:
        the words of the command line for this rank.

    Raises:
        SystemExit: a command that does not run in ranks.
    """
    rank, ranks = ranks_asked()
    if ranks == 1:
        yield words
        return
    if reason := _refused(command, words):
        if rank == 0:
            print(f"error: {reason}", file=sys.stderr)
        else:
            time.sleep(PATIENCE_S)  # torchrun ends rank 0 when this one ends
        sys.exit(2)
    if rank == 0:
        yield words
        return
    folder, errors = tempfile.mkdtemp(), io.StringIO()
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(errors):
            yield [*words, f"hydra.run.dir='{folder}'", "hydra.output_subdir=null"]
    except BaseException as error:
        status = error.code if isinstance(error, SystemExit) else 1
        if not isinstance(error, SystemExit):
            errors.write(traceback.format_exc())
        if status and int(status) < SIGNALLED:
            time.sleep(PATIENCE_S)
            sys.stderr.write(errors.getvalue())
        sys.exit(status)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _refused(command: str, words: list[str]) -> str:
    """Why a command does not run in ranks; empty if it does."""
    if command != "train":
        return f"torchrun is for p-rnn train; start p-rnn {command} without it"
    if {"-m", "--multirun"} & set(words):
        return "torchrun trains one model, not a sweep; leave -m out, or start it without torchrun"
    return ""
