"""Reader of RecBole's atomic files."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd

from p_rnn.data.readers import options
from p_rnn.data.readers.base import Reader
from p_rnn.data.readers.columns import UNITS, as_ids, is_integer
from p_rnn.data.readers.conditions import parse_conditions
from p_rnn.data.readers.event_table import EventTable
from p_rnn.data.readers.files import Member, locate
from p_rnn.data.readers.options import ColumnsConfig
from p_rnn.data.readers.properties import match_ids, read_properties, split_lists, unique_items
from p_rnn.data.readers.tabular import RawTable
from p_rnn.data.readers.text import TextFormat
from p_rnn.settings.declare import about
from p_rnn.settings.errors import UserError
from p_rnn.settings.registry import suggest

TYPES = ("token", "float", "token_seq", "float_seq")


class AtomicReader(Reader):
    """`<folder>/<folder>.inter` and, if it exists, `<folder>/<folder>.item`.

    Tab-separated text without quoting, whose header names each column `name:type`; the values of
    `token_seq` and `float_seq` are separated by spaces. A path that ends in `.inter` means that
    file, with the items of its folder; this is how to read files of RecBole's `benchmark_filename`.
    """

    items_version = 2

    def __init__(
        self,
        raw: Path,
        source: str,
        *,
        path: options.Path,
        columns: Annotated[ColumnsConfig | None, about("names of the columns")] = None,
        time_unit: options.TimeUnit = "s",
        missing_ids: options.MissingIds = None,
        where: options.Where = None,
    ) -> None:
        """
        Args:
            path: a folder relative to `raw`, whose files have the same name; or an .inter file.
            columns: names without type; default user_id, item_id, timestamp and no event type. For
                `history` (token_seq) see `EventTable`.
            time_unit: s, ms, us or ns.
            missing_ids: "drop" leaves rows without an id out.
            where: a condition on rows, with column names without type.
        """
        self._raw, self._source, self._path = raw, source, path
        self._columns = columns or ColumnsConfig("user_id", "item_id", "timestamp")
        self._time_unit, self._missing_ids, self._where = time_unit, missing_ids, where
        self.timed = self._columns.time is not None
        self.histories = self._columns.history is not None
        if time_unit not in UNITS:
            raise UserError(
                f"dataset.time_unit={time_unit} must be s, ms, us or ns with reader=atomic"
            )

    def sources(self) -> list[Path]:
        return [locate(self._raw, self._file(".inter"), self._source)]

    def item_sources(self) -> list[Path]:
        path = self._raw / self._file(".item")
        return [path] if path.exists() else []

    def dropped(self) -> dict[str, int]:
        return self._events.dropped

    def events(self) -> Iterator[pd.DataFrame]:
        return self._events.chunks()

    def items(self) -> pd.DataFrame | None:
        """One column per field: token str (int64 if all are), float float64, token_seq lists of
        strings, float_seq float32 vectors; missing values are NaN or None.

        Raises:
            UserError: a header without types, unreadable numbers, contradictory rows.
        """
        sources = self.item_sources()
        if not sources:
            return None
        path = sources[0]
        table = _atomic(path)
        kinds = _fields(table, path)
        item = _typed(self._columns.item, kinds, path, "token")
        floats = [f"{n}:{k}" for n, k in kinds.items() if k == "float"]
        text = [f"{n}:{k}" for n, k in kinds.items() if k != "float"]
        frame = read_properties(table, item, None, text, number_columns=floats)
        frame = unique_items(frame, str(path))
        for name, kind in kinds.items():
            column = f"{name}:{kind}"
            if column not in frame:
                continue  # the ids
            values = frame[column]
            if kind == "token":
                whole = values.notna().all() and is_integer(values, table.members[0])
                frame[column] = as_ids(values, True) if whole else values
            elif kind == "token_seq":
                frame[column] = split_lists(values, None)
            elif kind == "float_seq":
                frame[column] = _vectors(split_lists(values, None), path)
        frame = frame.rename(columns={f"{n}:{k}": n for n, k in kinds.items()})
        return match_ids(frame, self._events.integer_ids[self._events.names.item], str(path))

    @cached_property
    def _events(self) -> EventTable:
        path = self.sources()[0]
        table = _atomic(path)
        kinds = _fields(table, path)
        names = self._columns
        session = names.session
        if isinstance(session, list):
            session = [_typed(name, kinds, path, "token") for name in session]
        elif names.history is None:
            session = _typed(session, kinds, path, "token")
        typed = ColumnsConfig(
            session=session,
            item=_typed(names.item, kinds, path, "token"),
            time=names.time and _typed(names.time, kinds, path, "float"),
            event_type=names.event_type and _typed(names.event_type, kinds, path, "token"),
            history=names.history and _typed(names.history, kinds, path, "token_seq"),
        )
        types = {name: f"{name}:{kind}" for name, kind in kinds.items()}
        return EventTable(
            table,
            typed,
            self._time_unit,
            missing_ids=self._missing_ids,
            conditions=[c.renamed(types) for c in parse_conditions(self._where)],
        )

    def _file(self, suffix: str) -> str:
        """The path of the `.inter` or `.item` file, relative to `raw`."""
        path = Path(self._path)
        if Member(path).suffix != ".inter":
            return f"{self._path}/{path.name}{suffix}"
        return self._path if suffix == ".inter" else str(path.parent / f"{path.parent.name}.item")


def _atomic(path: Path) -> RawTable:
    return RawTable([Member(path)], TextFormat(separator="\t", quoting="none", fixed=True))


def _fields(table: RawTable, path: Path) -> dict[str, str]:
    """{name: type} of the columns."""
    kinds = {}
    for column in table.columns():
        name, _, kind = column.rpartition(":")
        if not name or ":" in name or kind not in TYPES:
            known = f"'name:type' with a type of {', '.join(TYPES)}"
            if len(column.split()) > 1 or "," in column:
                raise UserError(
                    f"{path}, line 1: '{column:.60}' is not separated by tabs; each column must be "
                    f"{known}, and columns must be separated by tabs"
                )
            raise UserError(
                f"{path}, line 1: the column '{column}' must be {known}, separated by tabs"
            )
        kinds[name] = kind
    return kinds


def _typed(name: str, kinds: dict[str, str], path: Path, kind: str) -> str:
    """The header `name:type` of a column that must have the type `kind`."""
    if name not in kinds:
        raise UserError(f"{path} has no column '{name}'{suggest(name, kinds)} (dataset.columns)")
    if kinds[name] != kind:
        raise UserError(f"{path}: '{name}:{kinds[name]}' must be '{name}:{kind}'")
    return f"{name}:{kind}"


def _vectors(column: pd.Series, path: Path) -> pd.Series:
    """Lists of text as float32 vectors, which must have the same length."""
    vectors = []
    length = None
    for value in column:
        try:
            vector = None if value is None else np.array(value, dtype=np.float32)
        except ValueError:
            raise UserError(f"{path}: '{column.name}' contains {value}, not numbers") from None
        if vector is not None:
            length = length or len(vector)
            if len(vector) != length:
                raise UserError(
                    f"{path}: '{column.name}' has vectors of length {length} and {len(vector)}; "
                    "all must have the same"
                )
        vectors.append(vector)
    return pd.Series(vectors, index=column.index, dtype=object)
