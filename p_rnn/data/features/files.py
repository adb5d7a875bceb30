"""Values of features from files whose rows are keyed by raw item ids.

A format is a function `read(path, raw, feature, items, **settings) -> columns, index` in `FORMATS`,
where `index` is int64 [R], the item index of each row or -1. Its keyword-only parameters are the
settings of `FeatureConfig` that it takes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from p_rnn.data.features.arrays import Found, is_id_file, read_npy, read_safetensors
from p_rnn.data.features.values import Array, Column, Items, Rows, align, objects
from p_rnn.data.readers.files import Member, explained, locate, one_line, opened
from p_rnn.data.readers.properties import read_properties
from p_rnn.data.readers.tabular import MISSING, TABLE_SUFFIXES, Table
from p_rnn.errors import UserError
from p_rnn.registry import suggest


def read_table(
    path: Path,
    raw: Path,
    feature: str,
    items: Items,
    *,
    item: str = "item",
    columns: list[str] | None = None,
) -> Found:
    """Columns of a .csv, .tsv (plain or .gz) or .parquet."""
    del raw
    columns = columns or [feature]
    table = Table([Member(path)])
    _require(path, [item, *columns], table.columns())
    frame = read_properties(table, item, columns, [], "dataset.features")
    index = align(frame["item"].to_numpy(), items, str(path))
    values = [_column(f"{path}, column '{c}'", frame[c], index, items) for c in columns]
    return values, index


def read_jsonl(
    path: Path,
    raw: Path,
    feature: str,
    items: Items,
    *,
    item: str = "item",
    columns: list[str] | None = None,
) -> Found:
    """Keys of objects in JSON, one per line (plain or .gz)."""
    del raw
    columns = columns or [feature]
    ids: list[Any] = []
    found: dict[str, list[Any]] = {column: [] for column in columns}
    names: dict[str, None] = {}
    for _, stream in opened([Member(path)]):
        with explained(str(path)):
            for number, line in enumerate(stream, start=1):
                if not line.strip():
                    continue
                row = _json_object(line, f"{path}, line {number}")
                names.update(dict.fromkeys(row))
                if type(row.get(item)) not in (int, str):
                    raise UserError(
                        f"{path}, line {number}: the id '{item}' is {json.dumps(row.get(item))}, "
                        "not an integer or a text; mend it, or name the key of the ids in item"
                    )
                ids.append(row[item])
                for column in columns:
                    value = row.get(column)
                    found[column].append(None if value in MISSING else value)
    _require(path, [item, *columns], list(names))
    index = align(np.array([str(i) for i in ids], dtype=object), items, str(path))
    values: list[Column] = [
        objects(f"{path}, key '{c}'", _in_order(found[c], index, len(items))) for c in columns
    ]
    return values, index


FORMATS: dict[str, Any] = {
    ".npy": read_npy,
    ".safetensors": read_safetensors,
    ".jsonl": read_jsonl,
    **dict.fromkeys(TABLE_SUFFIXES, read_table),
}


def source_files(raw: Path, file: str, ids: str | None) -> list[Path]:
    """The file of a feature, and that of its ids where they are not in it.

    Raises:
        UserError: one of them is missing.
    """
    path = locate(raw, file, "")
    if ids is None or (Member(path).suffix == ".safetensors" and not is_id_file(ids)):
        return [path]
    return [path, locate(raw, ids, "")]


def _column(label: str, column: pd.Series, index: Array, items: Items) -> Column:
    """A column of a table whose rows belong to the items `index`."""
    missing = column.isna().to_numpy()
    if pd.api.types.is_numeric_dtype(column.dtype):
        return Rows(label, column.to_numpy()[:, None], np.where(missing, -1, index))
    values = column.tolist()
    first = next((v for v, gone in zip(values, missing, strict=True) if not gone), None)
    if isinstance(first, np.ndarray):
        vectors = [np.zeros_like(first) if g else v for v, g in zip(values, missing, strict=True)]
        return Rows(label, np.stack(vectors), np.where(missing, -1, index))
    plain = [None if gone else v for v, gone in zip(values, missing, strict=True)]
    return objects(label, _in_order(plain, index, len(items)))


def _in_order(values: list[Any], index: Array, num_items: int) -> list[Any]:
    """Values of rows, [R], as values of items, [N]; None where there is no row."""
    ordered = [None] * num_items
    for value, i in zip(values, index.tolist(), strict=True):
        if i >= 0:
            ordered[i] = value
    return ordered


def _json_object(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where} is no JSON ({one_line(error)}); mend it") from None
    if not isinstance(row, dict):
        raise UserError(f"{where} must be a JSON object, {{...}}")
    return row


def _require(path: Path, columns: list[str], known: list[str]) -> None:
    for column in columns:
        if column not in known:
            tail = " ".join(suggest(column, known).split())
            raise UserError(f"{path} has no column '{column}'{tail} (set columns or item)")
