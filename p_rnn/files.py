"""Files and folders that are written atomically: whole or not at all, also if the power fails."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from p_rnn.settings.errors import FullDisk

FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk is full for this user (quota)",
    errno.EFBIG: "no file may become so large here",
}
# What file systems answer that cannot do it: nothing is lost by their not doing it.
NO_FSYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF)
# .<name>-<place>-<pid>-<random><suffix>; the place is a machine and what shares its process ids.
TEMPORARY = re.compile(r"\..+-([0-9a-f]{8})-(\d+)-[0-9a-f]{8}(\.\w+)?")
ABANDONED_S = 7 * 86_400  # age of a temporary file of another machine that is swept up


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, to be written in the block and then renamed to `path`.

    If the block raises, the temporary file is removed and `path` stays as it was. Each writer has
    its own temporary file, so of several at the same time the last one to finish wins. The suffix
    is that of `path`, because `np.savez` appends one where it is missing. The content is on the
    disk before it gets its name, and the name before this returns.

    Raises:
        FullDisk: there is no room.
        OSError: the file cannot be renamed, for example because the block has not written it.
    """
    sweep(path.parent)
    temporary = path.with_name(f".{path.stem}-{_mark()}{path.suffix}")
    try:
        with full_disk_named(path):
            yield temporary
            flush(temporary)
            temporary.replace(path)
            flush(path.parent)
    finally:
        with suppress(OSError):  # the folder itself may be missing
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a file of UTF-8 text; see `written_whole`."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def folder_written_whole(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder`, to be filled in the block and then renamed to `folder`.

    If the block raises, the temporary folder is removed. If `folder` exists by then, because
    another process has written it at the same time, it is kept and this one's is removed.

    Raises:
        FullDisk: there is no room.
        OSError: the folder cannot be created or renamed.
    """
    temporary = folder.with_name(f".{folder.name}-{_mark()}")
    with full_disk_named(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        sweep(folder.parent)
        temporary.mkdir()
        try:
            yield temporary
            for place, _, names in os.walk(temporary, topdown=False):
                for name in names:
                    flush(Path(place) / name)
                flush(Path(place))
            try:
                temporary.rename(folder)
            except OSError:
                if not folder.exists():
                    raise
            flush(folder.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def full_disk_named(path: Path | str, remedy: str = "free some space") -> Iterator[None]:
    """Turns what says that the disk is full into one line.

    Raises:
        FullDisk: naming `path`.
    """
    try:
        yield
    except FullDisk:
        raise
    except OSError as error:
        # NumPy reports a short write, which is a full disk, without an errno.
        number = error.errno
        if number is None and " requested and " in str(error):
            number = errno.ENOSPC
        if number not in FULL:
            raise
        raise FullDisk(f"{FULL[number]}: {path} could not be written; {remedy}") from error


def flush(path: Path) -> None:
    """Have the content of a file, or the names in a folder, on the disk before this returns.

    Raises:
        OSError: the file is missing, or the disk is full or broken.
    """
    folder = path.is_dir()
    if folder and os.name == "nt":  # there, folders cannot be opened
        return
    try:
        number = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    except PermissionError:  # one may write there, and not read
        return
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in NO_FSYNC:
            raise
    finally:
        os.close(number)


def sweep(folder: Path) -> None:
    """Remove the temporary files and folders in `folder` whose writers have died.

    Those of another machine, which may share the folder, only when they are a week old.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if (found := TEMPORARY.fullmatch(entry.name)) and _dead(entry, found[1], int(found[2])):
                with suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        shutil.rmtree(entry.path)
                    else:
                        Path(entry.path).unlink()


def _dead(entry: os.DirEntry[str], place: str, process: int) -> bool:
    if place == _place() and os.name != "nt":
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        except OSError:  # it lives, and is somebody else's
            pass
        return False
    with suppress(OSError):
        # By the clock of the file system, which has just answered for the folder.
        newest = Path(entry.path).parent.stat().st_mtime
        return newest - entry.stat(follow_symlinks=False).st_mtime > ABANDONED_S
    return False


def _mark() -> str:
    """Says in the name of a temporary file whose it is."""
    return f"{_place()}-{os.getpid()}-{secrets.token_hex(4)}"


@lru_cache(maxsize=1)
def _place() -> str:
    """Identifies this machine since it started and, in a container, its own process ids."""
    known = [platform.node()]
    with suppress(OSError):
        known.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        known.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return hashlib.sha256("\0".join(known).encode()).hexdigest()[:8]
