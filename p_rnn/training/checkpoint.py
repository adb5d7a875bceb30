"""Checkpoints: tensors and plain Python objects, written atomically."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from p_rnn.files import written_whole
from p_rnn.settings.config import Settings
from p_rnn.settings.errors import UserError
from p_rnn.settings.stored import from_dict
from p_rnn.settings.tree import plain
from p_rnn.settings.upgrade import upgraded_content

FORMAT = "p_rnn checkpoint"
FORMAT_VERSION = 3
HEADER = ("format", "format_version", "config")


def save_checkpoint(path: Path, config: Settings, content: dict[str, Any]) -> None:
    """Write `content` and the settings of the run atomically: the old file stays until the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = dict(zip(HEADER, (FORMAT, FORMAT_VERSION, plain(config)), strict=True))
    with written_whole(path) as temporary:
        torch.save({**header, **content}, temporary)


def load_checkpoint(path: Path | str, mmap: bool = False) -> tuple[Settings, dict[str, Any]]:
    """The settings and the content of a checkpoint, on the CPU.

    Args:
        mmap: leave the tensors in the file until they are read; features may be larger than memory.

    Raises:
        UserError: no such file, not a p_rnn checkpoint, another format version, or settings that
            this version does not have.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}; a run keeps best.pt and last.pt in checkpoints/")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        if content["format"] != FORMAT:
            raise KeyError("format")
    except (RuntimeError, OSError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise UserError(f"{path} is not a whole p_rnn checkpoint") from error
    if content["format_version"] == 2:
        content = upgraded_content(content)
    elif content["format_version"] != FORMAT_VERSION:
        raise UserError(
            f"{path} has format version {content['format_version']}; this version of p_rnn reads "
            f"{FORMAT_VERSION}"
        )
    return from_dict(content["config"], str(path)), content
