"""A job of a sweep in a process of its own, so that the others go on if that process is killed."""

from __future__ import annotations

import ctypes
import logging
import os
import pickle
import re
import signal
import sys
from collections.abc import Callable
from typing import Any

import torch

from p_rnn.runs.interruption import Interrupted, listening
from p_rnn.settings.errors import UserError

NO_MEMORY = re.compile(
    r"can't allocate memory|DefaultCPUAllocator|out of memory|std::bad_alloc|Cannot allocate memory"
)
PR_SET_PDEATHSIG = 1  # of prctl(2)


class Killed(UserError):
    """The process of a job was killed by a signal."""


def out_of_memory(error: BaseException) -> bool:
    """Whether the machine or the GPU had too little memory."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, (RuntimeError, OSError)) and bool(NO_MEMORY.search(str(error)))


def memory_line(error: BaseException) -> str:
    """What to do about it."""
    said = " ".join(str(error).split())[:200]
    return (
        f"out of memory{f' ({said})' if said else ''}; lower batch_size, num_negatives or "
        "hidden_size, or run fewer jobs at a time"
    )


def can_fork() -> bool:
    """Whether a process with PyTorch can be forked: on Linux, before it has used a GPU."""
    used: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return sys.platform == "linux" and not used


def in_own_process(work: Callable[[], Any]) -> Any:
    """Call `work` in a forked process; returns and raises what it does.

    Raises:
        Killed: that process was killed by a signal.
        Interrupted: this process has got a signal; `work` has got it, too, and has ended.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    parent = os.getpid()
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        _be_child(work, send, parent)
    os.close(send)
    try:
        with listening(), os.fdopen(receive, "rb") as pipe:
            said = pipe.read()
            status = os.waitpid(child, 0)[1]
    except Interrupted:
        os.kill(child, signal.SIGTERM)  # SIGINT would be the second one of Ctrl-C there
        os.waitpid(child, 0)
        raise
    if os.WIFSIGNALED(status):
        number = signal.Signals(os.WTERMSIG(status))
        why = ", as the system does where memory runs out" if number == signal.SIGKILL else ""
        raise Killed(f"killed by {number.name}{why}; the same command goes on from its checkpoint")
    if not said:
        raise Killed(f"ended with exit status {os.waitstatus_to_exitcode(status)}")
    value, error = pickle.loads(said)  # written by a process of our own
    if error is not None:
        raise error
    return value


def _be_child(work: Callable[[], Any], send: int, parent: int) -> None:
    """Call `work`, write (value, error) to a pipe, and end the process."""
    status = 1
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() == parent:
            with os.fdopen(send, "wb") as pipe:
                pipe.write(_outcome(work))
            status = 0
    finally:
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


def _outcome(work: Callable[[], Any]) -> bytes:
    """(value, error) of a call, pickled."""
    value, error = None, None
    try:
        with listening():
            value = work()
    except BaseException as raised:
        error = raised
    try:
        return pickle.dumps((value, error))
    except Exception:  # an error that holds something that cannot be sent
        return pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {error}")))
