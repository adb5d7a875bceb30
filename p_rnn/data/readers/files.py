"""Raw files: find them, list the members of a folder or zip, open them, explain what is wrong."""

from __future__ import annotations

import csv
import gzip
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

import pandas as pd

from p_rnn.errors import UserError


@dataclass(frozen=True)
class Member:
    """One raw file: a file on disk, or a file inside a zip."""

    path: Path
    inside: str | None = None  # name within the zip `path`

    def __str__(self) -> str:
        """How messages name it."""
        return f"{self.path}" if self.inside is None else f"{self.inside} in {self.path}"

    @property
    def name(self) -> str:
        return self.inside or self.path.name

    @property
    def suffix(self) -> str:
        """Lower-case suffix without the one of compression: `.csv` for `clicks.CSV.gz`."""
        name = self.name.lower().removesuffix(".gz")
        return PurePosixPath(name).suffix


def locate(raw: Path, path: str, source: str) -> Path:
    """The file or folder `path` under `raw`.

    Raises:
        UserError: it is missing; the message quotes `source`, where a person gets it.
    """
    found = raw / path
    if not found.exists():
        where = f"get it from {source}" if source else "check the path"
        raise UserError(f"{found} is missing: {where}, and put it under {raw} (paths.raw)")
    return found


def list_members(path: Path, suffixes: Collection[str]) -> list[Member]:
    """The raw files that make one table: `path` itself, or those in the folder or zip `path`.

    Members come in the order of their names, at any depth; hidden files and folders, and files
    whose suffix (compression aside) is not in `suffixes`, are left out. A single file is taken
    whatever its suffix is.

    Raises:
        UserError: no such member, or a damaged zip.
    """
    if path.is_dir():
        names = [p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()]
        found = [(name, Member(path / name)) for name in names]
    elif path.suffix.lower() == ".zip":
        with explained(str(path)), zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
        found = [(name, Member(path, name)) for name in names]
    else:
        return [Member(path)]
    members = [m for name, m in sorted(found) if not _hidden(name) and m.suffix in suffixes]
    if not members:
        raise UserError(f"{path} holds no {', '.join(sorted(suffixes))} file; check dataset.path")
    return members


def files_of(members: Iterable[Member]) -> list[Path]:
    """The files on disk behind `members`, each once."""
    return list(dict.fromkeys(member.path for member in members))


def opened(members: Iterable[Member]) -> Iterator[tuple[Member, IO[bytes]]]:
    """Each member with its decompressed bytes; a zip is opened once for all of its members.

    Raises:
        UserError: a file that is missing, forbidden or not what its suffix says.
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
                    if member.name.lower().endswith(".gz"):
                        unpacked = stack.enter_context(gzip.GzipFile(fileobj=stream))
                        stream = cast(IO[bytes], unpacked)
                yield member, stream


@contextmanager
def explained(label: str) -> Iterator[None]:
    """Turns what goes wrong while the file `label` is read into a `UserError` of one line."""
    try:
        yield
    except (gzip.BadGzipFile, zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise UserError(
            f"{label} is damaged or cut off ({one_line(error)}); get it again"
        ) from None
    except pd.errors.EmptyDataError:
        raise UserError(f"{label} is empty; get it again or remove it") from None
    except (pd.errors.ParserError, csv.Error) as error:
        raise UserError(
            f"{label} is no proper table ({one_line(error)}); "
            "check dataset.separator and the quotes in that row"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(f"{label} is not UTF-8 text ({one_line(error)}); convert it") from None
    except (OSError, RuntimeError, NotImplementedError) as error:  # the last two: zip variants
        raise UserError(f"{label} cannot be read ({one_line(error)})") from None


def one_line(error: BaseException) -> str:
    """The message of an exception without its line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "_")) for part in PurePosixPath(name).parts)
