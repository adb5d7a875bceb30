"""Feature arrays in .npy and .safetensors files, with a list of the raw item id of each row."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from p_rnn.data.features.values import Array, Column, Items, Matrix, Rows, align
from p_rnn.data.readers.files import Member, explained, locate, one_line, opened
from p_rnn.data.readers.properties import read_properties
from p_rnn.data.readers.tabular import TABLE_SUFFIXES, RawTable
from p_rnn.data.readers.text import TextFormat
from p_rnn.settings.errors import UserError
from p_rnn.settings.registry import suggest

ID_FILES = (".npy", ".txt", *TABLE_SUFFIXES)
FLOATS = {"F16": np.float16, "F32": np.float32, "F64": np.float64}  # safetensors' names
INTEGERS = ("I64", "I32", "I16", "I8", "U32", "U16", "U8")
Found = tuple[list[Column], Array]  # columns, and int64 [R]: the item index of each row or -1


def read_npy(path: Path, raw: Path, feature: str, items: Items, *, ids: str) -> Found:
    """A floating point array [R, D], memory-mapped, whose item ids are in the file `ids`."""
    del feature  # an array has no column names
    if path.suffix == ".gz":
        raise UserError(f"{path} must be decompressed, because arrays are memory-mapped")
    values = _load_npy(path)
    floats = values.dtype.kind == "f" and values.dtype.itemsize <= 8
    if values.ndim != 2 or values.shape[1] == 0 or not floats:
        raise UserError(
            f"{path} holds {values.dtype} {list(values.shape)}, not rows of float16, float32 or "
            "float64 [rows, D]"
        )
    return _matrix(str(path), values, _read_ids(raw, ids), items)


def read_safetensors(
    path: Path,
    raw: Path,
    feature: str,
    items: Items,
    *,
    ids: str,
    columns: list[str] | None = None,
) -> Found:
    """A tensor [R, D]: `columns`, or the one named like the feature, or the only float matrix.

    `ids` is an integer tensor in the same file, or another file.
    """
    file = _open_safetensors(path)
    names = list(file.keys())
    if columns is None:
        fit = [n for n in names if _is_matrix(file.get_slice(n))]
        columns = [feature] if feature in names or len(fit) != 1 else fit
    if len(columns) != 1:
        raise UserError(f"{path}: columns={columns} must name one tensor")
    (name,) = columns
    for tensor in (name, *([] if is_id_file(ids) else [ids])):
        if tensor not in names:
            raise UserError(f"{path} has no tensor '{tensor}'{suggest(tensor, names)}")
    part = file.get_slice(name)
    label = f"{path}, tensor '{name}'"
    if not _is_matrix(part):
        raise UserError(
            f"{label} holds {part.get_dtype()} {part.get_shape()}, not rows of F16, F32 or F64 "
            "[rows, D]"
        )
    if is_id_file(ids):
        row_ids = _read_ids(raw, ids)
    else:
        own = file.get_slice(ids)
        if own.get_dtype() not in INTEGERS or len(own.get_shape()) != 1:
            raise UserError(f"{path}: the tensor of ids '{ids}' must be integers [rows]")
        row_ids = file.get_tensor(ids)
    return _matrix(label, _Tensor(part), row_ids, items)


class _Tensor:
    """A tensor of a .safetensors file, read by slices of rows."""

    def __init__(self, part: Any) -> None:
        self._part = part
        self.shape: tuple[int, ...] = tuple(part.get_shape())
        self.dtype: np.dtype[Any] = np.dtype(FLOATS[part.get_dtype()])

    def __getitem__(self, rows: slice, /) -> Array:
        low, high, _ = rows.indices(self.shape[0])
        part: Array = self._part[low:high]
        return part


def _is_matrix(part: Any) -> bool:
    shape = part.get_shape()
    return part.get_dtype() in FLOATS and len(shape) == 2 and shape[1] > 0


def _open_safetensors(path: Path) -> Any:
    try:
        module = importlib.import_module("safetensors")
    except ImportError:
        raise UserError(f"{path} needs safetensors: pip install safetensors") from None
    try:
        return module.safe_open(path, framework="numpy")
    except Exception as error:  # SafetensorError, which is a plain Exception, and others
        raise UserError(f"{path} is damaged ({one_line(error)}); get a new copy") from None


def _load_npy(path: Path) -> Array:
    try:
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # wrong bytes in the header make NumPy say many things
        raise UserError(
            f"{path} is not an array that NumPy can read ({one_line(error)}); save it again with "
            "numpy.save, numbers or text"
        ) from None
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path} holds several arrays; save one with numpy.save")
    return array


def _matrix(label: str, values: Matrix, ids: Array, items: Items) -> Found:
    if len(ids) != values.shape[0]:
        raise UserError(f"{label} has {values.shape[0]} rows, but there are {len(ids)} ids")
    index = align(ids, items, label)
    return [Rows(label, values, index)], index


def is_id_file(ids: str) -> bool:
    return Member(Path(ids)).suffix in ID_FILES


def _read_ids(raw: Path, ids: str) -> Array:
    """Item ids [R], one per row: integers or text."""
    path = locate(raw, ids, "")
    suffix = Member(path).suffix
    if suffix == ".npy":
        array = _load_npy(path)
        if array.ndim != 1 or array.dtype.kind not in "iuU":
            raise UserError(
                f"{path} holds {array.dtype} {list(array.shape)}, not integers or text [rows]"
            )
        return array
    if suffix in TABLE_SUFFIXES:
        table = RawTable([Member(path)], TextFormat(setting="dataset.features"))
        if "item" not in table.columns():
            raise UserError(f"{path} has no column 'item'; name the column of ids 'item'")
        return read_properties(table, "item", [])["item"].to_numpy()
    if suffix != ".txt":
        raise UserError(f"{path} holds ids, so it must be .npy, .txt, .csv, .tsv or .parquet")
    lines: list[str] = []
    for _, stream in opened([Member(path)]):
        with explained(str(path)):
            lines = stream.read().decode("utf-8-sig").rstrip().split("\n")
    names = [line.strip() for line in lines]
    if "" in names:
        raise UserError(f"{path}, line {names.index('') + 1}: the id is missing; one id per line")
    return np.array(names, dtype=object)
