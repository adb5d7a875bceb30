"""One job folder, one process: a lock that the system releases when its holder dies."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from p_rnn import distributed
from p_rnn.settings.errors import UserError

fcntl: Any = None  # on Windows there is none
with contextlib.suppress(ImportError):
    fcntl = importlib.import_module("fcntl")

LOCK = ".lock"  # in a job's folder, while it runs; also after it was killed
BUSY = (errno.EWOULDBLOCK, errno.EACCES)
LOOKS = 3  # before a lock counts as held
_held: set[Path] = set()  # by this process, which may run parts of a job one inside the other


class Busy(UserError):
    """Another process runs the job of this folder."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a job folder, which is made; without locks, and on ranks that do not
    write, do nothing.

    Raises:
        Busy: another process holds it.
    """
    path = folder.resolve() / LOCK
    if path in _held or fcntl is None or not distributed.writes():
        yield
        return
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    number = _take(path)
    if number is None:
        yield
        return
    _held.add(path)
    try:
        yield
    finally:
        _held.discard(path)
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
            if made:
                folder.rmdir()  # of a job that was refused
        os.close(number)


def _take(path: Path) -> int | None:
    """The open and locked file; None where the file system has no locks."""
    tries = 0
    while True:
        tries += 1
        number = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(number, path):
                os.ftruncate(number, 0)
                os.write(number, f"process {os.getpid()} on {platform.node()}\n".encode())
                return number
            os.close(number)  # its holder has removed it meanwhile
        except OSError as error:
            os.close(number)
            if error.errno in BUSY and tries < LOOKS:  # perhaps it was only looked at by `holder`
                time.sleep(0.02)
                continue
            if error.errno in BUSY:
                raise Busy(
                    f"{path.parent} is in use by {_who(path)}; wait for it, or give another folder"
                ) from None
            return None


def _is_at(number: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(number), path.stat())
    except OSError:
        return False


def holder(folder: Path) -> str | None:
    """Who runs the job of a folder now, as "process 12 on host"; None: nobody."""
    if fcntl is None:
        return None
    try:
        number = os.open(folder / LOCK, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return _who(folder / LOCK) if error.errno in BUSY else None
    finally:
        os.close(number)
    return None


def process_of(folder: Path) -> int | None:
    """The process that runs the job of a folder, if it is on this machine."""
    words = (holder(folder) or "").split(maxsplit=3)
    here = len(words) == 4 and words[1].isdigit() and words[3] == platform.node()
    return int(words[1]) if here else None


def was_killed(folder: Path) -> bool:
    """Whether the process that ran the job of a folder has died without ending the job."""
    return (folder / LOCK).exists() and holder(folder) is None


def _who(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace").strip() or "another process"
    return "another process"
