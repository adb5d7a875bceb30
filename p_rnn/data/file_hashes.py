"""SHA-256 of raw files, remembered so that the next start need not read gigabytes again."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from p_rnn.settings.config import PathsConfig

NAME = "file_hashes.json"  # in the folder of prepared data: {path: [size, mtime_ns, SHA-256]}
SMALL_BYTES = 2**17  # below, hashing takes no longer than remembering
# A file that changed a moment ago may change again without another time: clocks of file systems
# tick up to every 2 seconds.
SETTLED_NS = 3 * 10**9

Stamp = tuple[str, int, int]  # resolved path, size, mtime_ns: who has all three has the content
_known: dict[Stamp, str] = {}  # within this process each file is hashed once


def file_hashes(files: list[Path], paths: PathsConfig) -> dict[str, str]:
    """SHA-256 of each file, by its place below the raw folder."""
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
    """What tells this content of a file from another one; None: hash it each time."""
    status = path.stat()
    if status.st_size < SMALL_BYTES or time.time_ns() - status.st_mtime_ns < SETTLED_NS:
        return None
    return str(path.resolve()), status.st_size, status.st_mtime_ns


def _read(cache: Path) -> dict[Stamp, str]:
    """What another process remembered; nothing if the file is missing or damaged."""
    try:
        rows = json.loads(cache.read_text(encoding="utf-8")).items()
        known = {(path, int(size), int(mtime)): value for path, (size, mtime, value) in rows}
        if all(len(bytes.fromhex(value)) == 32 for value in known.values()):
            return known
    except (OSError, ValueError, TypeError, AttributeError):
        pass
    return {}


def _write(cache: Path, known: dict[Stamp, str]) -> None:
    """Replace the file as a whole. A place that cannot be written only costs time."""
    rows = {path: [size, mtime, value] for (path, size, mtime), value in known.items()}
    with suppress(OSError):
        cache.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{NAME}-", dir=cache.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(rows, file, indent=1)
            Path(temporary).chmod(0o644)
            Path(temporary).replace(cache)
        finally:
            Path(temporary).unlink(missing_ok=True)
