"""Exports a network: vectors for a nearest-neighbour index, ONNX, TensorBoard's projector.

The score of an item is one inner product, so everything but the step of the recurrent layers is a
matrix of items and a query. The folder is written whole or not at all.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import logging
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from p_rnn import __version__
from p_rnn.data.texts import ANY_TEXT
from p_rnn.files import folder_written_whole
from p_rnn.models.network import NetworkRanker
from p_rnn.recommend.export_text import readme
from p_rnn.recommend.parquet_items import write_parquet
from p_rnn.recommend.projector import write_projector
from p_rnn.recommend.recommender import Recommender
from p_rnn.settings.errors import UserError, how_to_install, refuse_inert
from p_rnn.settings.registry import lookup

FORMATS = {"vectors": (), "onnx": ("onnx", "onnxscript", "onnxruntime"), "projector": ()}
ABOUT, FORMAT, FORMAT_VERSION = "about.json", "p_rnn export", 1
MAX_ITEMS = 20_000  # in the projector, which runs in a browser

log = logging.getLogger(__name__)


def export(
    model: Recommender,
    folder: Path | str,
    formats: Sequence[str] = ("vectors",),
    max_items: int | None = None,
    overwrite: bool = False,
    checkpoint: Path | str | None = None,
) -> Path:
    """Write a network for other programs to a folder; returns the folder.

    Args:
        model: a network that was loaded on the CPU.
        formats: vectors, onnx and projector.
        max_items: items in the projector, the most popular ones; None: 20,000.
        overwrite: write into a folder that has other files, too; these stay.
        checkpoint: where the model comes from, for about.json.

    Raises:
        UserError: a baseline, a model on a GPU, a format that does not exist or whose packages are
            missing, a folder with other files, or ONNX that computes something else.
    """
    folder = check_export(folder, formats, max_items, overwrite)
    if model.network is None:
        name = model.config.model.name
        raise UserError(f"model {name} has nothing to export: it counts and has no weights")
    if model.device.type != "cpu":
        raise UserError("a model on a GPU is not exported; give load(path, device='cpu')")
    ranker = model.ranker
    assert isinstance(ranker, NetworkRanker)
    about = _about(model, ranker, formats, checkpoint)
    with folder_written_whole(folder) as place:
        write_ids(place / "item_ids.csv", model.ids)
        vectors = ranker.vectors().numpy().astype(np.float32, copy=False)
        if "vectors" in formats:
            np.save(place / "items.npy", vectors)
            write_parquet(place / "items.parquet", model, vectors)
        if "onnx" in formats:
            from p_rnn.recommend.onnx_files import write_onnx  # needs optional packages

            readable = model.catalogue.raw_ids()[: model.num_readable]
            write_ids(place / "input_ids.csv", readable)
            about["onnx"] = write_onnx(place, ranker)
        if "projector" in formats:
            count = MAX_ITEMS if max_items is None else max_items
            columns = vectors if ranker.bias is None else vectors[:, :-1]
            write_projector(place / "projector", model, columns, count)
        (place / "README.txt").write_text(readme(about), encoding="utf-8")
        about["files"] = sorted([*_files(place), ABOUT])
        (place / ABOUT).write_text(
            json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        _put(place, folder)
    log.info("%s: %s", model, _widths(about["columns"]))
    return folder


def check_export(
    folder: Path | str, formats: Sequence[str], max_items: int | None, overwrite: bool
) -> Path:
    """Refuse what cannot be exported, before anything is loaded; returns the whole path.

    Raises:
        UserError: see `export`.
    """
    for name in formats:
        packages = lookup("format", FORMATS, name)
        if missing := [each for each in packages if importlib.util.find_spec(each) is None]:
            raise UserError(
                f"formats=[{name}] needs {' and '.join(missing)}: {how_to_install('export')}"
            )
    if not formats:
        raise UserError(f"formats=[] exports nothing; give some of {', '.join(FORMATS)}")
    refuse_inert(
        max_items is not None and "projector" not in formats, "max_items", "without the projector"
    )
    path = Path(folder).expanduser().resolve()
    if path in (here := Path.cwd().resolve(), *here.parents):
        raise UserError(f"output={folder} is the folder you are in; give one of its own")
    if path.exists() and not path.is_dir():
        raise UserError(f"output={folder} is a file; give a folder")
    others = set(_files(path)) - _exported(path)
    if others and not overwrite:
        raise UserError(
            f"output={folder} has files of something else, such as {min(others)}; give another "
            "folder, or overwrite=true, which keeps them beside the new ones"
        )
    return path


def write_ids(path: Path, ids: Any) -> None:
    """One column of raw ids, their exact text; row k is that of item k."""
    with path.open("w", encoding="utf-8", errors=ANY_TEXT, newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["item"])
        writer.writerows([raw] for raw in ids.tolist())


def _about(
    model: Recommender,
    ranker: NetworkRanker,
    formats: Sequence[str],
    checkpoint: Path | str | None,
) -> dict[str, Any]:
    """What about.json says, but for the files."""
    columns, at = {}, 0
    names = ranker.network.names[: ranker.network.in_score]
    names = names if len(names) == len(ranker.rows) else ("hidden",)
    for name, rows in zip(names, ranker.rows, strict=True):
        columns[name] = [at, at + rows.shape[1]]
        at += rows.shape[1]
    if ranker.bias is not None:
        columns["bias"] = [at, at + 1]
        at += 1
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "p_rnn": __version__,
        "checkpoint": None if checkpoint is None else str(checkpoint),
        "dataset": model.config.dataset.name,
        "model": model.config.model.name,
        "formats": list(formats),
        "num_items": model.num_items,
        "num_readable": model.num_readable,
        "width": at,
        "columns": columns,
        "bias_column": None if ranker.bias is None else at - 1,
    }


def _widths(columns: dict[str, list[int]]) -> str:
    parts = ", ".join(f"{name} {hi - lo}" for name, (lo, hi) in columns.items())
    return f"{max(hi for _, hi in columns.values())} columns ({parts})"


# --- the folder ---------------------------------------------------------------------------------


def _files(folder: Path) -> list[str]:
    """Relative paths of all files below a folder."""
    found = (path for path in folder.rglob("*") if not path.is_dir())
    return [path.relative_to(folder).as_posix() for path in found]


def _exported(folder: Path) -> set[str]:
    """The files of an earlier export into this folder; empty if there was none."""
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()
    ours = isinstance(about, dict) and about.get("format") == FORMAT
    return set(map(str, about.get("files", ()))) if ours else set()


def _put(place: Path, folder: Path) -> None:
    """Make way for `place`, which then becomes `folder`, or merge it into a folder of others."""
    if not folder.exists():
        return
    if not set(_files(folder)) - _exported(folder):
        aside = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
        folder.rename(aside)
        try:
            place.rename(folder)
        except OSError:
            aside.rename(folder)
            raise
        shutil.rmtree(aside, ignore_errors=True)
        return
    for name in _exported(folder) & set(_files(folder)):
        (folder / name).unlink()
    for name in sorted(_files(place), key=lambda each: each == ABOUT):  # it says what is whole
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (place / name).replace(target)
