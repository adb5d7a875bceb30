"""SHA-256 of raw files, cached so that the next run need not read gigabytes again."""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import cast

from p_rnn.files import written_whole
from p_rnn.settings.sections import PathsConfig

NAME = "file_hashes.json"  # beside prepared data: {path: [size, mtime_ns, ctime_ns, SHA-256]}
SMALL_BYTES = 2**17  # smaller files are hashed as quickly as they are looked up
# A file that has just changed may change again within the same timestamp: some file systems have a
# resolution of 2 seconds.
SETTLED_NS = 3 * 10**9

# Resolved path, size, mtime_ns and ctime_ns identify the content. A copy that keeps the time of
# another file has a ctime of its own.
Stamp = tuple[str, int, int, int]
_known: dict[Stamp, str] = {}  # each file is hashed once per process


def file_hashes(files: list[Path], paths: PathsConfig) -> dict[str, str]:
    """SHA-256 of each file, by its path relative to the raw folder."""
    cache = Path(paths.prepared) / NAME
    stamps = {path: _stamp(path) for path in files}
    if any(stamp not in _known for stamp in stamps.values() if stamp):
        _known.update(_read(cache))
    new: dict[Stamp, str] = {}
    hashes: dict[str, str] = {}
    for path, stamp in stamps.items():
        known = _known.get(stamp) if stamp else None
        if known is None:
            known = _hash(path)
            if stamp and _stamp(path) == stamp:  # nobody wrote to it meanwhile
                new[stamp] = known
        hashes[os.path.relpath(path, paths.raw)] = known
    if new:
        _known.update(new)
        _write(cache, {**_read(cache), **new})
    return hashes


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stamp(path: Path) -> Stamp | None:
    """Identifies the content of a file; None if it must be hashed every time."""
    status = path.stat()
    if status.st_size < SMALL_BYTES or time.time_ns() - status.st_mtime_ns < SETTLED_NS:
        return None
    return str(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _read(cache: Path) -> dict[Stamp, str]:
    """The cached hashes; none if the file is missing or damaged."""
    try:
        rows = json.loads(cache.read_text(encoding="utf-8")).items()
        known = {(path, *map(int, stamp)): str(value) for path, (*stamp, value) in rows}
        whole = all(len(key) == 4 for key in known)  # older versions did not keep the ctime
        if whole and all(len(bytes.fromhex(value)) == 32 for value in known.values()):
            return cast(dict[Stamp, str], known)
    except (OSError, ValueError, TypeError, AttributeError):
        pass
    return {}


def _write(cache: Path, known: dict[Stamp, str]) -> None:
    """Replace the cache. Failing to write it only costs time."""
    rows = {path: [*stamp, value] for (path, *stamp), value in known.items()}
    with suppress(OSError):
        cache.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(cache) as temporary:
            temporary.write_text(json.dumps(rows, indent=1), encoding="utf-8")
