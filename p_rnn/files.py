"""Files and folders that are written atomically: whole or not at all."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, to be written in the block and then renamed to `path`.

    If the block raises, the temporary file is removed and `path` stays as it was. Each writer has
    its own temporary file, so of several at the same time the last one to finish wins. The suffix
    is that of `path`, because `np.savez` appends one where it is missing.

    Raises:
        OSError: the file cannot be renamed, for example because the block has not written it.
    """
    temporary = path.with_name(f".{path.stem}-{secrets.token_hex(4)}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        with suppress(OSError):  # the folder itself may be missing
            temporary.unlink(missing_ok=True)


@contextmanager
def folder_written_whole(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder`, to be filled in the block and then renamed to `folder`.

    If the block raises, the temporary folder is removed. If `folder` exists by then, because
    another process has written it at the same time, it is kept and this one's is removed.

    Raises:
        OSError: the folder cannot be created or renamed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        temporary.chmod(0o755)  # mkdtemp lets only its owner in
        yield temporary
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.exists():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
