"""Ctrl-C and SIGTERM: a run saves its state at the next mini-batch and ends.

A cluster sends SIGTERM some seconds before it takes a machine away.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """Ends the process.

    Attributes:
        number: of the signal; `folder`: of the run that was interrupted, if one was under way.
    """

    def __init__(self, number: int = signal.SIGINT, folder: Path | None = None) -> None:
        super().__init__(number, folder)
        self.number, self.folder = int(number), folder

    @property
    def status(self) -> int:
        """The exit status, as shells say it."""
        return 128 + self.number


class _Waiting:
    """Whether signals are put off, and the one that has come meanwhile."""

    put_off = False
    number: int | None = None


def pending() -> bool:
    """Whether a signal has come while signals were put off."""
    return _Waiting.number is not None


def end() -> None:
    """Raise `Interrupted` for the pending signal."""
    assert _Waiting.number is not None
    raise Interrupted(_Waiting.number)


@contextmanager
def put_off() -> Iterator[None]:
    """In the block a signal only becomes `pending`: the block looks, saves and calls `end`."""
    _Waiting.put_off = True
    try:
        yield
    finally:
        _Waiting.put_off = False
    if pending():
        end()


@contextmanager
def listening(first: Callable[[], None] | None = None) -> Iterator[None]:
    """In the block, Ctrl-C and SIGTERM raise `Interrupted`, unless they are `put_off`.

    Does nothing in another thread than the main one, which alone receives signals.

    Args:
        first: called before it is raised.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def come(number: int, frame: FrameType | None) -> None:
        again, _Waiting.number = pending(), number
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends the process at once
        if again:
            return
        if _Waiting.put_off:
            if number == signal.SIGINT and os.isatty(2):
                os.write(2, b"\nstopping at the next mini-batch; Ctrl-C again ends it at once\n")
            return
        if first is not None:
            first()
        raise Interrupted(number)

    before: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}
    # submitit ignores SIGTERM, because it has queued the job again on SIGUSR2.
    before = {k: x for k, x in before.items() if "submitit" not in getattr(x, "__module__", "")}
    _Waiting.number = None
    for number in before:
        signal.signal(number, come)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
