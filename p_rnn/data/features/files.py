"""Feature values from files whose rows are keyed by raw item ids.

A format is a function `read(path, raw, feature, items, **settings) -> columns, index` in `FORMATS`,
where `index` is int64 [R], the item index of each row or -1. Its keyword-only parameters are the
settings of `FeatureConfig` that it takes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from p_rnn.data.features.arrays import Found, is_id_file, read_npy, read_safetensors
from p_rnn.data.features.values import Array, Column, Items, Rows, align, objects
from p_rnn.data.readers.files import Member, locate
from p_rnn.data.readers.numbers import exact_floats
from p_rnn.data.readers.properties import read_properties
from p_rnn.data.readers.tabular import TABLE_SUFFIXES, RawTable
from p_rnn.data.readers.text import TextFormat, tidy


def read_text(
    path: Path,
    raw: Path,
    feature: str,
    items: Items,
    *,
    item: str = "item",
    columns: list[str] | None = None,
    column_separator: str | None = None,
    quoting: str | None = None,
    encoding: str | None = None,
) -> Found:
    """Columns of a .csv or .tsv, plain or compressed."""
    setting = f"dataset.features.{feature}"
    text = TextFormat(tidy(column_separator), quoting, encoding, setting=setting)
    return _read(path, feature, items, item, columns, text)


def read_typed(
    path: Path,
    raw: Path,
    feature: str,
    items: Items,
    *,
    item: str = "item",
    columns: list[str] | None = None,
) -> Found:
    """Columns of a .parquet, or keys of JSON objects, one per line (plain or compressed)."""
    text = TextFormat(setting=f"dataset.features.{feature}")
    return _read(path, feature, items, item, columns, text)


def _read(
    path: Path,
    feature: str,
    items: Items,
    item: str,
    columns: list[str] | None,
    text: TextFormat,
) -> Found:
    columns = columns or [feature]
    table = RawTable([Member(path)], text)
    frame = read_properties(table, item, columns)
    index = align(frame["item"].to_numpy(), items, str(path))
    values = [column_of(f"{path}, column '{c}'", frame[c], index, items) for c in columns]
    return values, index


FORMATS: dict[str, Any] = {
    ".npy": read_npy,
    ".safetensors": read_safetensors,
    **dict.fromkeys(TABLE_SUFFIXES, read_typed),
    **dict.fromkeys((".csv", ".tsv"), read_text),
}


def source_files(raw: Path, file: str, ids: str | None) -> list[Path]:
    """The file of a feature, and the file of its ids if they are not in it.

    Raises:
        UserError: one of them is missing.
    """
    path = locate(raw, file, "")
    if ids is None or (Member(path).suffix == ".safetensors" and not is_id_file(ids)):
        return [path]
    return [path, locate(raw, ids, "")]


def column_of(label: str, column: pd.Series, index: Array, items: Items) -> Column:
    """A column of a table; row r belongs to the item index[r]."""
    missing = column.isna().to_numpy()
    if pd.api.types.is_numeric_dtype(column.dtype):
        numbers = exact_floats(column) if missing.any() else column.to_numpy()
        if numbers is not None:
            return Rows(label, numbers[:, None], np.where(missing, -1, index))
    values = column.tolist()
    first = next((v for v, gone in zip(values, missing, strict=True) if not gone), None)
    if isinstance(first, np.ndarray):
        vectors = [np.zeros_like(first) if g else v for v, g in zip(values, missing, strict=True)]
        return Rows(label, np.stack(vectors), np.where(missing, -1, index))
    plain = [None if gone else v for v, gone in zip(values, missing, strict=True)]
    return objects(label, _in_order(plain, index, len(items)))


def _in_order(values: list[Any], index: Array, num_items: int) -> list[Any]:
    """Values of rows [R] as values of items [N]; None for items without a row."""
    ordered = [None] * num_items
    for value, i in zip(values, index.tolist(), strict=True):
        if i >= 0:
            ordered[i] = value
    return ordered
