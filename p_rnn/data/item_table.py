"""Item properties stored beside the prepared events: one file each, in item-index order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from p_rnn.data.checksums import (
    Damage,
    check_manifest,
    check_once,
    load_array,
    read_manifest,
    regular,
    undamaged,
)
from p_rnn.data.readers.numbers import exact_floats, is_text, looks_numeric
from p_rnn.settings.errors import UserError


def write_item_table(items: pd.DataFrame, item_ids: NDArray[Any], folder: Path) -> dict[str, Any]:
    """Write each property for the items 0..N-1 whose raw ids are `item_ids`.

    Numbers become float64 [N] (NaN = missing) and vectors float32 [N, D] (NaN = missing) in
    `<property>.npy`; strings, lists, and numbers that float64 would not preserve become
    `<property>.jsonl`, a JSON value per line, null = missing. Items without events are left out.

    Returns:
        The manifest: {"rows": rows read, "matched": items that have a row,
        "properties": {name: {"kind": number|vector|text, "missing": items without a value}}}.
        Text counts as number, too, if every value is a number. Leading zeros, or integers that
        float64 does not represent exactly, mean that they are codes, hence text.

    Raises:
        UserError: an item occurs twice.
    """
    twice = items["item"].duplicated()
    if twice.any():
        raise UserError(f"item table: item {items['item'][twice].iloc[0]} occurs more than once")
    rows = pd.Index(items["item"]).get_indexer(pd.Index(item_ids))
    has_row = rows >= 0
    manifest: dict[str, Any] = {"rows": len(items), "matched": int(has_row.sum()), "properties": {}}
    for name in items.columns.drop("item"):
        column = items[name].reset_index(drop=True)
        aligned = column.reindex(pd.Index(np.where(has_row, rows, -1)))
        kind, missing = _write(aligned, folder / str(name))
        manifest["properties"][str(name)] = {"kind": kind, "missing": missing}
    return manifest


def last_values(items: pd.DataFrame, end_s: float) -> pd.DataFrame:
    """The last value of each dated property up to `end_s`, one row per item.

    `items` has the columns `item`, `time` and one per property. Of two values with equal times the
    one in the later row counts; a row without a time counts as older than all others.
    """
    known = items[~(items["time"] > end_s)]
    order = np.argsort(known["time"].fillna(-np.inf).to_numpy(), kind="stable")
    latest = known.iloc[order].drop(columns="time").groupby("item", sort=True).last()
    return latest.reset_index()


def read_property(folder: Path, name: str) -> NDArray[Any] | list[Any]:
    """A property written by `write_item_table`: a memory-mapped array, or JSON values [N]."""
    path = folder / f"{name}.npy"
    if path.exists():
        return load_array(path)
    with regular(folder / f"{name}.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def open_item_table(folder: Path, whole: bool = False) -> dict[str, Any]:
    """The manifest of a folder of item properties, after checking that all is as it was written.

    Args:
        whole: see `open_dataset`.

    Raises:
        UserError: it is damaged, or cannot be read.
    """
    with undamaged_table(folder):
        manifest = read_manifest(folder)
        check_manifest(manifest)
        for name, about in manifest["properties"].items():
            if about["kind"] not in ("number", "vector", "text"):
                raise Damage(f"the kind of {name} is {about['kind']}")
        check_once(folder, manifest, (), whole)
    return manifest


@contextmanager
def undamaged_table(folder: Path) -> Iterator[None]:
    """Turns errors while an item table is read into a `UserError`."""
    with undamaged(folder, "delete it to have it prepared again"):
        yield


def property_hash(folder: Path, name: str) -> str:
    """SHA-256 of the values of a property for the items 0..N-1."""
    path = folder / f"{name}.npy"
    with (path if path.exists() else folder / f"{name}.jsonl").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(column: pd.Series[Any], path: Path) -> tuple[str, int]:
    """Write one property; its kind and the number of missing values."""
    missing = column.isna().to_numpy()
    numeric = pd.api.types.is_numeric_dtype(column.dtype)
    numbers = exact_floats(column) if numeric else None
    if numbers is not None:
        np.save(path.with_name(path.name + ".npy"), numbers)
        return "number", int(missing.sum())
    present = column[~missing]
    if len(present) and isinstance(present.iloc[0], np.ndarray):
        vectors = np.full((len(column), len(present.iloc[0])), np.nan, dtype=np.float32)
        vectors[~missing] = np.stack(present.tolist())
        np.save(path.with_name(path.name + ".npy"), vectors)
        return "vector", int(missing.sum())
    with path.with_name(path.name + ".jsonl").open("w", encoding="utf-8") as file:
        for value, gone in zip(column.tolist(), missing, strict=True):
            file.write(json.dumps(None if gone else value, ensure_ascii=False) + "\n")
    numeric = len(present) > 0 and is_text(present) and looks_numeric(present)
    return "number" if numeric else "text", int(missing.sum())
