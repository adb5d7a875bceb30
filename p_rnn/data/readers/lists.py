"""Lists: in columns, written as text, and as rows that contain several events."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from p_rnn.settings.errors import UserError

CLOSING = {"[": "]", "(": ")", "{": "}"}
QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
PART = re.compile(rf"\s*({QUOTED}|[^\s,'\"]+)\s*,?\s*", re.DOTALL)
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|[+-]?(inf|infinity)", re.I)
NOTHING = ("", "None", "null", "nan", "NaN")  # missing elements of a list
RowName = Callable[[Any], str]  # from an index to the name of that row in messages


def is_list(value: object) -> bool:
    return isinstance(value, (list, tuple, np.ndarray))


def looks_like_list(text: object) -> bool:
    """Whether a text is in brackets, as pandas, NumPy and json write lists: "['a', 'b']"."""
    if not isinstance(text, str) or len(text := text.strip()) < 2:
        return False
    opening, closing = text[0], CLOSING.get(text[0])
    if closing is None or text[-1] != closing:
        return False
    depth = 0
    for at, character in enumerate(text):
        depth += (character == opening) - (character == closing)
        if depth == 0:
            return at == len(text) - 1  # not so in "[a] and [b]"
    return False


def parse_list(text: str) -> list[str] | None:
    """The elements of such a text, without their quotes; None if it is not a list after all.

    Understands JSON, Python (also tuples and sets), NumPy (separated by spaces), and words without
    quotes, separated by commas in square brackets.
    """
    text = text.strip()
    inside = text[1:-1].strip()
    if text[0] == "[":
        try:
            parts = json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
        except (ValueError, RecursionError):
            pass
        else:
            plain = all(part is None or isinstance(part, str) for part in parts)
            return [part for part in parts if part not in (None, *NOTHING)] if plain else None
    if "'" in inside or '"' in inside:
        return _quoted_parts(inside)
    words = inside.replace(",", " ").split()
    if all(NUMBER.fullmatch(word) or word in NOTHING for word in words):
        return [word for word in words if word not in NOTHING]
    if text[0] != "[" or "[" in inside or "..." in inside:
        return None
    return [part for part in map(str.strip, inside.split(",")) if part not in NOTHING]


def _quoted_parts(inside: str) -> list[str] | None:
    """Elements in quotes, and numbers, separated by commas or spaces."""
    parts, at = [], 0
    while at < len(inside):
        match = PART.match(inside, at)
        if match is None:
            return None
        part, at = match[1], match.end()
        if part[0] in "'\"":
            parts.append(str(ast.literal_eval(part)) if "\\" in part else part[1:-1])
        elif NUMBER.fullmatch(part):
            parts.append(part)
        elif part not in NOTHING:
            return None
    return [part for part in parts if part]


def parse_lists(column: pd.Series, where: RowName) -> pd.Series:
    """A column of lists written as text, as lists of strings; any other column unchanged.

    Raises:
        UserError: all values are in square brackets, but one of them cannot be parsed.
    """
    present = column.dropna()
    if not len(present) or not all(map(looks_like_list, present)):
        return column
    lists = []
    for index, text in column.items():
        parts = parse_list(text) if isinstance(text, str) else []
        if parts is None:
            if str(text).strip()[0] != "[":
                return column  # "(in red)", {"key": "value"}
            raise UserError(
                f"{where(index)}: '{column.name}' is {text!r:.60}, which looks like a list but "
                "cannot be parsed; write it as JSON"
            )
        lists.append(parts or None)
    return pd.Series(lists, index=column.index, dtype=object, name=column.name)


def split_history(text: object) -> list[str]:
    """The items of a history: a list in brackets, or words separated by spaces or commas."""
    if not isinstance(text, str):
        return []
    parts = parse_list(text) if looks_like_list(text) else None
    return [part for part in re.split(r"[\s,]+", text) if part] if parts is None else parts


def explode(chunk: pd.DataFrame, item: str, where: RowName) -> pd.DataFrame:
    """Turn rows in which `item`, and possibly other columns, are lists into one row per event.

    The index is repeated. An empty list has no events; a missing list stays one row.

    Raises:
        UserError: lists of different lengths in a row, or lists only in other columns than `item`.
    """
    objects = [name for name in chunk.columns if chunk[name].dtype == object]
    lists = [name for name in objects if chunk[name].map(is_list).any()]
    if not lists:
        return chunk
    if item not in lists:
        raise UserError(
            f"{where(chunk.index[0])}: the column '{lists[0]}' has lists, but '{item}' does not; "
            "both must have one value per event"
        )
    lengths = [_length(value) for value in chunk[item]]
    columns: dict[str, pd.Series] = {}
    for name in chunk.columns:
        if name not in lists:
            columns[name] = chunk[name].repeat(lengths)
            continue
        for index, value, length in zip(chunk.index, chunk[name], lengths, strict=True):
            if _length(value) != length:
                raise UserError(
                    f"{where(index)}: '{item}' has {length} values, but '{name}' has "
                    f"{_length(value)}; the lists of a row must have the same length"
                )
        columns[name] = typed([part for value in chunk[name] for part in _parts(value)])
    index = chunk.index.repeat(lengths)
    return pd.DataFrame({name: column.set_axis(index) for name, column in columns.items()})


def _length(value: Any) -> int:
    return len(value) if is_list(value) else 1


def _parts(value: Any) -> list[Any]:
    if isinstance(value, np.ndarray):
        return list(value.tolist())
    return list(value) if is_list(value) else [None if pd.isna(value) else value]


def typed(values: list[Any]) -> pd.Series:
    """JSON values as a column; None is missing.

    Integers (nullable if one is missing), floats, booleans or text; otherwise objects.
    """
    kinds = set(map(type, values))
    missing = type(None) in kinds
    kinds.discard(type(None))
    if kinds == {int}:
        try:
            return pd.Series(pd.array(values, dtype="Int64" if missing else "int64"))
        except OverflowError:
            return pd.Series([None if v is None else str(v) for v in values], dtype=str)
    if kinds in ({float}, {int, float}):
        return pd.Series(values, dtype=np.float64)
    if kinds == {bool} and not missing:
        return pd.Series(values, dtype=bool)
    if kinds == {str}:
        return pd.Series(values, dtype=str)
    return pd.Series(values, dtype=object)
