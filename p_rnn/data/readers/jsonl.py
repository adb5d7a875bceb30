"""JSON lines: one object per line; `a.b` is the key b of the object, or list of objects, in a."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Sequence
from typing import IO, Any

import numpy as np
import pandas as pd

from p_rnn.data.readers.files import Member, explained, one_line
from p_rnn.data.readers.lists import typed
from p_rnn.data.readers.text import TextFormat, Utf8, lines_of
from p_rnn.settings.errors import UserError

CHUNK_LINES = 100_000


def names_of(member: Member, stream: IO[bytes], text: TextFormat) -> list[str]:
    """The keys of all lines, in order of first appearance."""
    names: dict[str, None] = {}
    for _, row in _objects(member, stream, text):
        names.update(dict.fromkeys(row))
    return list(names)


def json_chunks(
    member: Member, stream: IO[bytes], text: TextFormat, columns: Sequence[str], most_rows: int
) -> Generator[pd.DataFrame, None, None]:
    """Chunks whose index is the line number, from 0; see `lists.typed` for the types.

    Raises:
        UserError: a damaged file, or a line that is not a JSON object.
    """
    most_rows = min(CHUNK_LINES, most_rows)
    found: list[dict[str, Any]] = []
    numbers: list[int] = []
    for number, row in _objects(member, stream, text):
        found.append(row)
        numbers.append(number)
        if len(found) == most_rows:
            yield _frame(found, numbers, columns)
            found, numbers = [], []
    if found:
        yield _frame(found, numbers, columns)


def _objects(
    member: Member, stream: IO[bytes], text: TextFormat
) -> Iterable[tuple[int, dict[str, Any]]]:
    with explained(str(member), text.setting):
        for number, line in enumerate(lines_of(Utf8(member, stream, text).read)):
            if line.isspace():
                continue
            where = f"{member}, line {number + 1}"
            try:
                row = json.loads(line, object_pairs_hook=once)
            except UnicodeDecodeError:
                raise
            except (ValueError, RecursionError) as error:
                hint = "; each line must be an object" if number == 0 else "; fix it"
                raise UserError(f"{where} is not JSON ({one_line(error)}){hint}") from None
            if not isinstance(row, dict):
                raise UserError(f"{where} must be a JSON object, {{...}}, one per line")
            yield number, row


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A hook for `json.loads`, which otherwise silently takes the last of equal keys.

    Raises:
        ValueError: a key appears twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key '{twice}' appears twice in an object")
    return found


def _frame(rows: list[dict[str, Any]], numbers: list[int], columns: Sequence[str]) -> pd.DataFrame:
    values = {name: typed([_value(row, name) for row in rows]) for name in columns}
    return pd.DataFrame(values).set_axis(pd.Index(numbers, dtype=np.int64))


def _value(row: Any, name: str) -> Any:
    """The value of a key or a path of keys; a list of values if the path goes through a list."""
    if isinstance(row, dict):
        if name in row:
            return row[name]
        first, dot, rest = name.partition(".")
        return _value(row.get(first), rest) if dot else None
    if isinstance(row, list):
        return [_value(entry, name) for entry in row]
    return None
