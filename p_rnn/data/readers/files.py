"""Raw files: find them, list the members of a folder or zip, open them, report what is wrong."""

from __future__ import annotations

import bz2
import csv
import glob
import gzip
import io
import lzma
import os
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

import pandas as pd

from p_rnn.settings.errors import UserError

# How to decompress files, by suffix.
UNPACK: dict[str, Callable[[IO[bytes]], Any]] = {
    ".gz": lambda stream: gzip.GzipFile(fileobj=stream),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
}
# No log is this much larger than its archive; a few repeated bytes are.
MOST_UNPACKED, MOST_RATIO = 2**28, 200
UNPACKED_AT_ONCE = 2**24
DAMAGED = (gzip.BadGzipFile, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError)
PACKED = (".zst", ".7z", ".rar", ".tar", ".tgz", ".lz4")  # users must unpack these themselves
SHEETS = (".xlsx", ".xls", ".ods", ".numbers")


@dataclass(frozen=True)
class Member:
    """One raw file: a file on disk, or a file inside a zip."""

    path: Path
    inside: str | None = None  # name within the zip `path`

    def __str__(self) -> str:
        """Its name in messages."""
        return f"{self.path}" if self.inside is None else f"{self.inside} in {self.path}"

    @property
    def name(self) -> str:
        return self.inside or self.path.name

    @property
    def suffix(self) -> str:
        """Lower-case suffix, ignoring that of compression: `.csv` for `clicks.CSV.gz`."""
        path = PurePosixPath(self.name.lower())
        return (path.with_suffix("") if path.suffix in UNPACK else path).suffix

    @property
    def compression(self) -> str | None:
        """`.gz`, `.bz2` or `.xz`; None for a plain file."""
        suffix = PurePosixPath(self.name.lower()).suffix
        return suffix if suffix in UNPACK else None


def locate(raw: Path, path: str, source: str) -> Path:
    """The file or folder `path` under `raw`.

    Raises:
        UserError: it is missing; the message quotes `source`, where to get it.
    """
    found = raw / path
    with explained(str(found)):
        there = found.exists()
    if not there:
        where = f"get it from {source}" if source else "check the path"
        raise UserError(
            f"{found.absolute()} is missing: {where}, and put it there, or name the folder of raw "
            "files in P_RNN_RAW_DATA (or paths.raw)"
        )
    return found


def find_members(
    raw: Path, path: str, source: str, suffixes: Collection[str], setting: str = "dataset.path"
) -> list[Member]:
    """The raw files of one table: a file, a folder, a zip, or a pattern such as `part-*.csv`.

    Members are sorted by name, at any depth. In a folder or zip, hidden files and folders are
    ignored, and files whose suffix (apart from compression) is not in `suffixes`. A single file may
    have any suffix.

    Args:
        source: see `locate`.
        setting: the setting that gave `path`, for messages.

    Raises:
        UserError: no such file or member, or a damaged zip.
    """
    if (raw / path).exists() or not set("*?[") & set(path):
        return _inside(locate(raw, path, source), suffixes, setting)
    # a pattern may be absolute, which Path.glob does not allow
    found = sorted(map(Path, glob.glob(str(raw / path), recursive=True)))  # noqa: PTH207
    members = [m for place in found for m in _inside(place, suffixes, setting)]
    if not members:
        raise UserError(f"{raw / path} matches no file; check {setting} and {raw} (paths.raw)")
    return members


def _inside(path: Path, suffixes: Collection[str], setting: str) -> list[Member]:
    if path.is_dir():
        found = [(name, Member(path / name)) for name in _files_in(path)]
    elif path.suffix.lower() == ".zip":
        with explained(str(path)), zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
        found = [(name, Member(path, name)) for name in names]
    elif path.suffix.lower() in PACKED:
        raise UserError(
            f"{path} must be unpacked first; .gz, .bz2, .xz and .zip can stay as they are"
        )
    elif path.suffix.lower() in SHEETS:
        raise UserError(f"{path} is not a text file: export it as CSV")
    else:
        return [Member(path)]
    members = [m for name, m in sorted(found) if not _hidden(name) and m.suffix in suffixes]
    if not members:
        raise UserError(f"{path} contains no {', '.join(sorted(suffixes))} file; check {setting}")
    return members


def _files_in(folder: Path) -> list[str]:
    """The files in a folder, at any depth, as paths relative to it; hidden ones are left out.

    Raises:
        UserError: a folder that cannot be listed, or a link to nothing: some data would be missing.
    """

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename} cannot be listed ({error.strerror})")

    names = []
    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not _hidden(name)]
        for name in files:
            file = Path(place, name)
            if _hidden(name):
                continue
            if file.is_symlink() and not file.exists():
                raise UserError(f"{file} is a link to {file.readlink()}, which is missing")
            if file.is_file():
                names.append(file.relative_to(folder).as_posix())
    return names


def files_of(members: Iterable[Member]) -> list[Path]:
    """The files on disk behind `members`, each once."""
    return list(dict.fromkeys(member.path for member in members))


def opened(members: Iterable[Member]) -> Iterator[tuple[Member, IO[bytes]]]:
    """Open each member, decompressed; a zip is opened once for all of its members.

    Raises:
        UserError: a file that is missing, not readable or not what its suffix says.
    """
    with ExitStack() as archives:
        archive: zipfile.ZipFile | None = None
        for member in members:
            with ExitStack() as stack:
                with explained(str(member)):
                    stream: IO[bytes]
                    if member.inside is None:
                        stream = stack.enter_context(member.path.open("rb"))
                    else:
                        if archive is None or archive.filename != str(member.path):
                            archive = archives.enter_context(zipfile.ZipFile(member.path))
                        stream = stack.enter_context(archive.open(member.inside))
                    if member.compression is not None:
                        unpack = UNPACK[member.compression]
                        stream = cast(IO[bytes], stack.enter_context(unpack(stream)))
                    if member.inside is not None or member.compression is not None:
                        packed = member.path.stat().st_size
                        stream = cast(IO[bytes], stack.enter_context(_Unpacked(stream, packed)))
                yield member, stream


class _Unpacked(io.BufferedIOBase):
    """What is read from an archive; refuses one that is small and unpacks to gigabytes."""

    def __init__(self, stream: IO[bytes], packed: int) -> None:
        self._stream, self._packed, self._count = stream, packed, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            parts = []
            while part := self.read(UNPACKED_AT_ONCE):
                parts.append(part)
            return b"".join(parts)
        block = self._stream.read(size)
        self._count += len(block)
        if self._count > max(MOST_UNPACKED, MOST_RATIO * self._packed):
            raise OSError(
                f"its {self._packed:,} bytes unpack to more than {self._count:,}; if that is "
                "right, unpack it by hand"
            )
        return block


@contextmanager
def explained(label: str, setting: str = "dataset") -> Iterator[None]:
    """Turns errors while the file `label` is read into a `UserError` of one line.

    Args:
        setting: the section of the settings that has separator and encoding.
    """
    try:
        yield
    except DAMAGED as error:
        raise UserError(
            f"{label} is damaged or truncated ({one_line(error)}); get a new copy"
        ) from None
    except pd.errors.EmptyDataError:
        raise UserError(f"{label} is empty; get a new copy or remove it") from None
    except (pd.errors.ParserError, csv.Error) as error:
        column = "column_" if setting.startswith("dataset.features") else ""
        raise UserError(
            f"{label} is not a valid table ({one_line(error)}); "
            f"check {setting}.{column}separator and the quotes in that row"
        ) from None
    except UnicodeDecodeError as error:
        takers = ", which the readers table and sequences take" if setting == "dataset" else ""
        raise UserError(
            f"{label} is not {error.encoding.upper()} text ({one_line(error)}); convert it, or set "
            f"{setting}.encoding (latin-1, utf-16, ...){takers}"
        ) from None
    except (OSError, RuntimeError, NotImplementedError) as error:  # the last two: zip variants
        raise UserError(f"{label} cannot be read ({one_line(error)})") from None


def one_line(error: BaseException) -> str:
    """The message of an exception without its line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "_")) for part in PurePosixPath(name).parts)
