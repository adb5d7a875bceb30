"""Raw files that must not change while they are read."""

from __future__ import annotations

import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from p_rnn.data.file_hashes import SETTLED_NS, file_hashes
from p_rnn.settings.errors import Unreadable, UserError
from p_rnn.settings.sections import PathsConfig

State = tuple[int, int, int, int]  # size, mtime_ns, ctime_ns, inode


class RawFiles:
    """The files that something is prepared from, as they were before they were hashed and read.

    Attributes:
        hashes: SHA-256 of each, by its path relative to the raw folder.
    """

    def __init__(self, find: Callable[[], list[Path]], paths: PathsConfig) -> None:
        """Args:
        find: the files; called again after reading, for files that came or went.
        """
        self._find, self._paths = find, paths
        self._files = _each_once(find())
        with _explained():
            self._states = [_state(path) for path in self._files]
        self._fresh = [
            path
            for path, state in zip(self._files, self._states, strict=True)
            if time.time_ns() - state[1] < SETTLED_NS
        ]
        with _explained():
            self.hashes = file_hashes(self._files, paths)

    def refuse_changed(self) -> None:
        """To be called after reading and before anything is stored.

        Raises:
            UserError: a file was written, replaced, added or removed since.
        """
        for path, state in zip(self._files, self._states, strict=True):
            try:
                changed = _state(path) != state
            except FileNotFoundError:
                changed = True
            if changed:
                raise UserError(f"{path} changed while it was read; repeat this when it is whole")
        if (now := _each_once(self._find())) != self._files:
            other = min({*now} ^ {*self._files})
            raise UserError(f"{other} came or went while its folder was read; repeat this")
        # What changed just before may have changed again within the same tick of the clock.
        for name, hashed in file_hashes(self._fresh, self._paths).items():
            if hashed != self.hashes[name]:
                raise UserError(f"{name} changed while it was read; repeat this when it is whole")


@contextmanager
def _explained() -> Iterator[None]:
    """Turns what the system says of a raw file into one line.

    Raises:
        Unreadable: naming the file.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, UserError):
            raise
        raise Unreadable(f"{error.filename} cannot be read ({error.strerror})") from error


def _each_once(files: list[Path]) -> list[Path]:
    return list(dict.fromkeys(files))


def _state(path: Path) -> State:
    """What changes with the content of a file.

    Raises:
        UserError: a pipe or a device, which can be read only once, or for ever.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path} is no file; save what it holds in one")
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
