"""Checksums of prepared folders: written with them, checked when they are opened.

The manifest of a folder says the size and the CRC-32 of each of its files, and has one of its own.
CRC-32 reads 3 GB/s where SHA-256 reads 1.2, and it finds what disks and copies do to files.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p_rnn.settings.errors import Unreadable, UserError

Array = NDArray[Any]
MANIFEST = "manifest.json"
FILES, OWN = "files", "checksum"  # entries of a manifest: {file: [bytes, CRC-32]}; of the manifest
LARGE_BYTES = 2**26  # a larger file is read whole only where that is asked for (20 ms)
BLOCK_BYTES = 2**20
# What the system says where something is missing or something else stands in its place.
REPLACED = (errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, None)
Stamp = tuple[str, int, int, int]  # path, size, mtime_ns, inode
_seen: set[tuple[Stamp, ...]] = set()  # each folder is checked once per process


class Damage(ValueError):
    """What is wrong with a folder or file."""


@contextmanager
def undamaged(place: Path, remedy: str) -> Iterator[None]:
    """Turns whatever is raised while `place` is read into one line.

    Args:
        remedy: what to do if it is damaged.

    Raises:
        Unreadable: the system refuses it, for lack of rights, memory or open files.
        UserError: `place` is damaged.
    """
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        if error.errno not in REPLACED:
            where = error.filename or place
            raise Unreadable(f"{where} cannot be read ({error.strerror})") from error
        raise UserError(f"{place} is damaged ({_said(error)}); {remedy}") from error
    except MemoryError as error:
        raise Unreadable(f"{place} cannot be read (not enough memory)") from error
    except Exception as error:  # wrong bytes make JSON, NumPy and our own code say many things
        raise UserError(f"{place} is damaged ({_said(error)}); {remedy}") from error


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, Damage):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


# --- written ------------------------------------------------------------------------------------


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write manifest.json, with the checksums of all files that are in the folder by then."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    files = {name: [(folder / name).stat().st_size, crc_of(folder / name)] for name in names}
    content = {**manifest, FILES: files}
    content[OWN] = _crc_of_manifest(content)
    (folder / MANIFEST).write_text(json.dumps(content, indent=1) + "\n")


def crc_of(path: Path) -> int:
    """CRC-32 of a file."""
    crc = 0
    buffer = bytearray(BLOCK_BYTES)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        while read := file.readinto(buffer):
            crc = zlib.crc32(view[:read], crc)
    return crc


def _crc_of_manifest(manifest: dict[str, Any]) -> int:
    content = {key: value for key, value in manifest.items() if key != OWN}
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


# --- read ---------------------------------------------------------------------------------------


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder, as it was written.

    Raises:
        Damage, OSError, ValueError and so on: see `undamaged`.
    """
    manifest = json.loads(regular(folder / MANIFEST).read_bytes())
    if not isinstance(manifest, dict):
        raise Damage(f"{MANIFEST} is something else")
    return manifest


def check_manifest(manifest: dict[str, Any]) -> None:
    """Compare a manifest with its checksum; those of older versions have none.

    Raises:
        Damage: it was edited.
    """
    if (FILES in manifest) != (OWN in manifest):
        raise Damage(f"{MANIFEST} lacks its checksums")
    if OWN in manifest and manifest[OWN] != _crc_of_manifest(manifest):
        raise Damage(f"{MANIFEST} is not as it was written")


def check_files(folder: Path, manifest: dict[str, Any], whole: bool = False) -> int:
    """Compare the files of a folder with their sizes and checksums; returns the bytes read.

    Args:
        whole: files of more than `LARGE_BYTES`, too.

    Raises:
        Damage, OSError: the first file that differs.
    """
    total = 0
    for name, (size, crc) in manifest.get(FILES, {}).items():
        path = regular(folder / name)
        if path.stat().st_size != size:
            raise Damage(f"{name} has {path.stat().st_size:,} bytes, not {size:,}")
        if whole or size <= LARGE_BYTES:
            total += size
            if crc_of(path) != crc:
                raise Damage(f"{name} is not as it was written")
    return total


def check_once(
    folder: Path,
    manifest: dict[str, Any],
    names: Iterable[str],
    whole: bool,
    check_content: Callable[[], None] = lambda: None,
) -> None:
    """Check the files of a folder, and then their content, the first time in this process.

    Args:
        names: of the files, where the manifest is of an older version and does not say.
        whole: read every file, and again.

    Raises:
        Damage, OSError and so on: see `undamaged`.
    """
    files = _stamps(folder, manifest.get(FILES, names))
    if whole or files not in _seen:
        check_files(folder, manifest, whole)
        check_content()
        _seen.add(files)


def _stamps(folder: Path, names: Iterable[str]) -> tuple[Stamp, ...]:
    """Identify the files of a folder as they are now."""
    found = []
    for name in (MANIFEST, *names):
        status = (folder / name).stat()
        found.append((os.fspath(folder / name), status.st_size, status.st_mtime_ns, status.st_ino))
    return tuple(found)


def regular(path: Path) -> Path:
    """The path of a file, which is no folder, pipe or device.

    Raises:
        Damage, OSError: it is not there, or something else.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise Damage(f"{path.name} is no file")
    return path


def load_array(path: Path, mode: Any = "r") -> Array:
    """A memory-mapped array.

    Raises:
        Damage, OSError, ValueError and so on: see `undamaged`.
    """
    array = np.load(regular(path), mmap_mode=mode, allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise Damage(f"{path.name} is no array")
    return array


def check_array(name: str, array: Array, shape: tuple[int, ...], *kinds: str) -> None:
    """Compare the shape and type of an array; a type is a name ("int32") or a kind ("U").

    Raises:
        Damage: it is another one.
    """
    if array.shape != shape or not {array.dtype.name, array.dtype.kind} & set(kinds):
        raise Damage(
            f"{name} is {array.dtype} {list(array.shape)}, not {' or '.join(kinds)} {list(shape)}"
        )


def check_offsets(name: str, offsets: Array, total: int) -> None:
    """Offsets of a ragged array rise from 0 to the number of its elements.

    Raises:
        Damage: they do not.
    """
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != total:
        raise Damage(f"{name} does not run from 0 to {total:,}")
    if (offsets[1:] < offsets[:-1]).any():
        raise Damage(f"{name} decreases")


def check_bounds(name: str, values: Array, count: int) -> None:
    """Numbers of `count` things: 0 <= value < count.

    Raises:
        Damage: a number is out of range.
    """
    if len(values) and not 0 <= values.min() <= values.max() < count:
        raise Damage(f"{name} has a number outside 0..{count - 1}")
