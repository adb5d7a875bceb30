"""Checkpoints: tensors and plain Python objects, written atomically, with checksums of all."""

from __future__ import annotations

import pickle
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch

from p_rnn import distributed
from p_rnn.files import written_whole
from p_rnn.settings.config import Settings
from p_rnn.settings.errors import Unreadable, UserError
from p_rnn.settings.stored import from_dict
from p_rnn.settings.tree import plain
from p_rnn.settings.upgrade import upgraded_content
from p_rnn.training.checksums import checksums_of, first_difference

FORMAT = "p_rnn checkpoint"
FORMAT_VERSION = 4  # 3 had no checksums; what else 2 had is in settings/upgrade.py
READ = (2, 3, 4)
HEADER = ("format", "format_version", "config")
CHECKSUMS = "checksums"
# What a checkpoint of a model always says.
KINDS: dict[str, type[Any] | tuple[type[Any], ...]] = {
    "dataset": str,
    "features": list,
    "num_items": int,
    "with_validation": bool,
}
LATER = {"model": dict, "items": dict, "sessions": dict, "optimizer": dict, "history": dict}
# How PyTorch says that the system has no more memory, files or threads.
SYSTEM = re.compile(r"allocate|out of memory|[Ee]rr(no|or code):? ?(11|12|13|23|24)\b|thread")


def save_checkpoint(path: Path, config: Settings, content: dict[str, Any]) -> None:
    """Write `content` and the settings of the run atomically: the old file stays until the end.

    Raises:
        FullDisk: there is no room.
    """
    if not distributed.writes():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    header = dict(zip(HEADER, (FORMAT, FORMAT_VERSION, plain(config)), strict=True))
    whole = {**header, **content}
    whole[CHECKSUMS] = checksums_of(whole)
    with written_whole(path) as temporary, temporary.open("wb") as file:
        _save(whole, file)


def _save(content: dict[str, Any], file: IO[bytes]) -> None:
    try:
        torch.save(content, file)
    except RuntimeError as error:
        cause: BaseException | None = error
        while cause is not None:  # PyTorch answers an error of the file with one of its own
            if isinstance(cause, OSError):
                raise cause from None
            cause = cause.__context__
        raise


def load_checkpoint(path: Path | str, mmap: bool = False) -> tuple[Settings, dict[str, Any]]:
    """The settings and the content of a checkpoint, on the CPU, after comparing the checksums.

    Args:
        mmap: leave the tensors in the file until they are read; features may be larger than memory.
            Of those, tensors of more than 256 MiB are not compared.

    Raises:
        UserError: no such file, something else than a checkpoint, a damaged one, another format
            version, settings that this version does not have; or the system does not let us read.
    """
    path = Path(path)
    with _explained(path):
        if not path.is_file():
            what = "is a folder without one" if path.is_dir() else "is no file"
            what = what if path.exists() else "does not exist"
            raise UserError(
                f"no checkpoint at {path}, which {what}; a run keeps best.pt and last.pt in "
                "checkpoints/"
            )
        archive = _check_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise UserError(f"{path} is not a p_rnn checkpoint, but something else of PyTorch")
        version = content.get("format_version")
        if not isinstance(version, int) or version not in READ:
            raise UserError(
                f"{path} has format version {version}; this version of p_rnn reads {FORMAT_VERSION}"
            )
        if version < 4:
            if CHECKSUMS in content:
                raise Damaged("it has checksums, which its version did not have")
            _check_records(path, archive)
        else:
            sums = content.pop(CHECKSUMS)
            if wrong := first_difference(content, sums, mmap):
                raise Damaged(wrong)
        _check_kinds(content)
        if version == 2:
            content = upgraded_content(content)
        config = from_dict(content["config"], str(path))
    return config, content


class Damaged(ValueError):
    """What is wrong with a checkpoint."""


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns whatever is raised while a checkpoint is read into one line."""
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        raise Unreadable(f"{path} cannot be read ({error.strerror or error})") from error
    except MemoryError as error:
        raise Unreadable(f"{path} cannot be read (not enough memory)") from error
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is not a p_rnn checkpoint: it holds other objects than tensors and plain "
            "values, which are not loaded"
        ) from error
    except Exception as error:  # wrong bytes make zipfile, pickle and PyTorch say many things
        said = " ".join(str(error).split())[:200]
        if isinstance(error, RuntimeError) and SYSTEM.search(said):
            raise Unreadable(f"{path} cannot be read ({said})") from error
        if not isinstance(error, Damaged):
            said = f"{type(error).__name__}: {said}"
        raise UserError(
            f"{path} is a damaged checkpoint ({said}); take another one of that run, or train again"
        ) from error


# --- the file -----------------------------------------------------------------------------------


def _check_archive(path: Path) -> list[zipfile.ZipInfo]:
    """The records of the zip that a checkpoint is; all but the tensors compared with their CRC.

    PyTorch itself compares nothing, and takes memory for what a record says of its size.

    Raises:
        Damaged, UserError: it is cut, changed, or something else.
    """
    with path.open("rb") as file:
        begins = file.read(4)
        if not begins:
            raise Damaged("it is empty")
        if not zipfile.is_zipfile(file):
            if begins == b"PK\3\4":
                raise Damaged("it is cut")
            raise UserError(f"{path} is not a p_rnn checkpoint")
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
            if not any(record.filename.endswith("/data.pkl") for record in records):
                raise UserError(f"{path} is not a p_rnn checkpoint, but another zip archive")
            size = path.stat().st_size
            for record in records:
                stored = record.compress_type == zipfile.ZIP_STORED
                if not stored or record.header_offset + record.file_size > size:
                    raise Damaged(f"the record {record.filename} is not of the size that it says")
                if "/data/" not in record.filename:
                    archive.read(record)
    return records


def _check_records(path: Path, records: list[zipfile.ZipInfo]) -> None:
    """Compare the tensors of a file of older versions with the CRC-32 of their records."""
    with zipfile.ZipFile(path) as archive:
        for record in records:
            crc = 0
            with archive.open(record) as stream:
                while block := stream.read(2**20):
                    crc = zlib.crc32(block, crc)
            if crc != record.CRC:
                raise Damaged(f"the record {record.filename} is not as it was written")


def _check_kinds(content: dict[str, Any]) -> None:
    """The entries that are read wherever a checkpoint is.

    Raises:
        Damaged: one is missing or something else.
    """
    for key, kind in {"config": dict, **KINDS}.items():
        if not isinstance(content.get(key), kind):
            raise Damaged(f"the entry {key} is missing or something else")
    for key, kind in LATER.items():
        if key in content and not isinstance(content[key], kind):
            raise Damaged(f"the entry {key} is something else")
