"""Columns of an event table: ids of one type in all files, times in seconds."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from p_rnn.data.readers.columns import TYPED, as_ids, is_integer, seconds
from p_rnn.data.readers.conditions import Condition
from p_rnn.data.readers.files import Member
from p_rnn.data.readers.lists import (
    RowName,
    explode,
    is_list,
    looks_like_list,
    parse_lists,
    split_history,
)
from p_rnn.data.readers.options import ColumnsConfig
from p_rnn.data.readers.tabular import RawTable
from p_rnn.settings.errors import UserError

LATEST_S = 2**63 / 1e9  # 2262: the end of 64-bit nanoseconds; later times are in another unit
ROW = "\0row"  # an additional column, whose name no file has
FIRST_ROWS = 10_000  # enough to recognise most columns of text


class EventTable:
    """Sessions, items, times (and event types) in a `RawTable`.

    **Type of ids.** A column of ids is int64 if every value in every file is an integer in
    canonical form (`columns.INTEGER`), and str otherwise. A single "A7" in the last file makes all
    ids str, so the type must be known before the first chunk is returned. If the first rows contain
    text, it is known. Otherwise a pass over the files reads the ids as integers (0.1 s per million
    events), and only if that fails, a second one reads them as text (0.8 s). Values of parquet and
    JSON files have types: text stays text.

    **Order as time.** Without a column of times, the time of an event is its row number, counted
    over all files.

    **Rows of several events.** If `item` contains lists, each element is an event, with the element
    at the same position of other list columns and the value of the others. With `columns.history`,
    a row is a session: the items of its history, then its item.

    **Rows that are left out** are counted: those without an id (`missing_ids="drop"`), and those
    that do not satisfy `where`.
    """

    def __init__(
        self,
        table: RawTable,
        columns: ColumnsConfig,
        time_unit: str = "s",
        *,
        missing_ids: str | None = None,
        conditions: Sequence[Condition] = (),
    ) -> None:
        self.table = table
        self.names = columns
        self.time_unit = time_unit
        rules = {"where": bool(conditions), "missing_ids": missing_ids == "drop"}
        self.dropped = {rule: 0 for rule, on in rules.items() if on}
        self._conditions = conditions
        parts = columns.session if isinstance(columns.session, list) else [columns.session]
        self._session = [] if columns.history is not None else [str(part) for part in parts]
        self._as_text = set[str]()  # columns of integers that must be read as text first

    @cached_property
    def integer_ids(self) -> dict[str, bool]:
        """{column: whether it has integers only}, for items and, if it is one column, sessions.

        Raises:
            UserError: a missing id, no rows, or ids that are floating-point numbers.
        """
        integer = self._first_ids()
        columns = [column for column, whole in integer.items() if whole]
        if columns and not self._surely_integers(columns):
            integer.update(self._integers_by_text(columns))
        return integer

    @property
    def _ids(self) -> list[str]:
        """The columns of ids whose type must be determined."""
        single = self._session if len(self._session) == 1 else []
        return list(dict.fromkeys([*single, self.names.item]))

    def _first_ids(self) -> dict[str, bool]:
        """Whether the first ids of each column are integers."""
        columns = self._ids
        text: dict[str, Any] = dict.fromkeys(columns, str)
        for member, chunk in self._rows(columns, text, most_rows=FIRST_ROWS):
            if len(chunk):
                return {column: is_integer(chunk[column], member) for column in columns}
        raise UserError(f"{self.table.members[0]} contains no events; check dataset.path")

    def _surely_integers(self, columns: list[str]) -> bool:
        """Whether all ids are certainly integers, found without converting them to text (slow)."""
        try:
            for member, chunk in self._rows(columns, {}, plain=True):
                for ids in (chunk[column] for column in columns):
                    whole = pd.api.types.is_integer_dtype(ids) and is_integer(ids, member)
                    if not whole and len(ids):
                        return False
        except ValueError:  # the slow pass decides, and reports what is wrong with the file
            return False
        return True

    def _integers_by_text(self, columns: list[str]) -> dict[str, bool]:
        """Whether all ids of each column are integers, judging by their text."""
        integer = dict.fromkeys(columns, True)
        text: dict[str, Any] = dict.fromkeys(columns, str)
        for member, chunk in self._rows(columns, text):
            for column in columns:
                integer[column] = integer[column] and is_integer(chunk[column], member)
        return integer

    def chunks(self) -> Iterator[pd.DataFrame]:
        """Chunks of `session`, `item` (int64 or str), `time` (s) and, if given, `event_type` (str).

        Afterwards, `dropped` has the number of rows left out by each setting.

        Raises:
            UserError: missing or unreadable values; the message names file and line.
        """
        names, integer = self.names, self.integer_ids
        dtypes: dict[str, Any] = dict.fromkeys([*self._session, names.item], str)
        for column, whole in integer.items():
            if whole and column not in self._as_text:
                dtypes[column] = np.int64
        columns = [*self._session, names.item]
        if names.event_type is not None:
            columns.append(names.event_type)
            dtypes.setdefault(names.event_type, str)
        if names.time is not None:
            columns.append(names.time)
            if self.time_unit == "iso":
                dtypes.setdefault(names.time, str)
        self.dropped = dict.fromkeys(self.dropped, 0)
        num_rows = 0
        for member, chunk in self._rows(columns, dtypes):
            frame = {
                "session": self._sessions(chunk, integer),
                "item": as_ids(chunk[names.item], integer[names.item]),
            }
            if names.time is None:
                time = np.arange(num_rows, num_rows + len(chunk), dtype=np.float64)
                frame["time"] = pd.Series(time, index=chunk.index)
            else:
                frame["time"] = self._times(member, chunk[names.time])
            if names.event_type is not None:
                types = chunk[names.event_type]
                frame["event_type"] = types.astype(str).where(types.notna(), "")
            num_rows += len(chunk)
            yield pd.DataFrame(frame).reset_index(drop=True)

    def _sessions(self, chunk: pd.DataFrame, integer: dict[str, bool]) -> pd.Series:
        if self.names.history is not None:
            return chunk[ROW].astype(np.int64)
        if len(self._session) == 1:
            return as_ids(chunk[self._session[0]], integer[self._session[0]])
        # "|" is doubled, so that ("a|b", "c") and ("a", "b|c") stay different
        parts = [chunk[c].astype(str).str.replace("|", "||", regex=False) for c in self._session]
        return functools.reduce(lambda a, b: a + "|" + b, parts)

    def _rows(
        self, columns: list[str], dtypes: dict[str, Any], **options: Any
    ) -> Iterator[tuple[Member, pd.DataFrame]]:
        """`RawTable.chunks`, one row per event, without the rows that are left out."""
        item, history = self.names.item, self.names.history
        asked = [condition.column for condition in self._conditions]
        extra = asked if history is None else [item, history, *asked]
        dtypes = dtypes if history is None else dtypes | {item: str, history: str}
        dtypes = dict.fromkeys([c.column for c in self._conditions if c.is_text], str) | dtypes
        first = 0
        for member, chunk in self.table.chunks([*columns, *extra], dtypes, **options):
            where = self.table.where(member)
            if history is not None:
                rows = len(chunk)
                chunk = self._with_history(chunk, first, where)
                first += rows
            elif item in columns:
                chunk = self._exploded(chunk, member, where)
            for condition in self._conditions:
                chunk = self._left(chunk, condition.holds(chunk[condition.column], where), "where")
            yield member, self._with_ids(chunk, columns, member)

    def _exploded(self, chunk: pd.DataFrame, member: Member, where: RowName) -> pd.DataFrame:
        item = self.names.item
        is_text = member.suffix not in TYPED and len(chunk) > 0
        if is_text and looks_like_list(chunk[item].iloc[0]):
            chunk = chunk.apply(lambda column: parse_lists(column, where))
            if not is_list(chunk[item].iloc[0]):
                raise UserError(
                    f"{where(chunk.index[0])}: '{item}' is a list, but not in every row; store "
                    "either lists or single items"
                )
            self._as_text.update(chunk.columns)
        return explode(chunk, item, where)

    def _with_history(self, chunk: pd.DataFrame, first: int, where: RowName) -> pd.DataFrame:
        """One row per event: each row's history, then its item; `ROW` numbers the original rows."""
        item, history = self.names.item, str(self.names.history)
        chunk = chunk.assign(**{ROW: np.arange(first, first + len(chunk))})
        before = [list(v) if is_list(v) else split_history(v) for v in chunk[history]]
        own = chunk[item].astype(object).where(chunk[item].notna(), None)
        joined = [[*items, one] for items, one in zip(before, own, strict=True)]
        self._as_text.add(item)
        chunk = chunk.drop(columns=history)
        chunk[item] = pd.Series(joined, index=chunk.index, dtype=object)
        return explode(chunk, item, where)

    def _with_ids(self, chunk: pd.DataFrame, columns: list[str], member: Member) -> pd.DataFrame:
        """The rows in which no id is missing."""
        for column in columns:
            if column not in self._session and column != self.names.item:
                continue
            missing = chunk[column].isna().to_numpy()
            if missing.any():
                if "missing_ids" not in self.dropped:
                    where = self.table.where(member)(chunk.index[int(np.argmax(missing))])
                    raise UserError(
                        f"{where}: the id '{column}' is missing; remove or fix that row, or set "
                        "dataset.missing_ids=drop"
                    )
                chunk = self._left(chunk, ~missing, "missing_ids")
        return chunk

    def _left(self, chunk: pd.DataFrame, keep: NDArray[np.bool_], rule: str) -> pd.DataFrame:
        """The rows to keep; counts the others."""
        if keep.all():
            return chunk
        self._as_text.update(self._ids)  # the rows left out may contain text
        self.dropped[rule] += len(keep) - int(np.count_nonzero(keep))
        return chunk[keep]

    def _times(self, member: Member, column: pd.Series) -> pd.Series:
        """Times in seconds, float64."""
        if pd.api.types.is_datetime64_any_dtype(column) and self.time_unit != "iso":
            raise UserError(
                f"{member}: the column '{column.name}' contains dates; set dataset.time_unit=iso"
            )
        times = seconds(column, self.time_unit)
        bad = ~(np.abs(times) <= LATEST_S)  # NaN and infinity too
        if bad.any():
            first = int(np.argmax(bad))
            raise UserError(self._time_message(member, column, first, float(times[first])))
        return pd.Series(times, index=column.index)

    def _time_message(self, member: Member, column: pd.Series, row: int, time_s: float) -> str:
        value = column.iloc[row]
        where = f"{member}, {self.table.line(member, int(column.index[row]))}"
        if pd.isna(value):
            return f"{where}: the time '{column.name}' is missing; remove or fix that row"
        if np.isfinite(time_s):
            when = "after the year 2262" if time_s > 0 else "before the year 1678"
            unit = f" in units of {self.time_unit}; set dataset.time_unit (s, ms, us, ns)"
            placeholder = "; if it is a placeholder, remove or fix that row"
            return (
                f"{where}: '{column.name}' {value} is {when}"
                f"{placeholder if self.time_unit == 'iso' else unit}"
            )
        kind = "an ISO date" if self.time_unit == "iso" else "a number"
        other = "s, ms, us or ns for numbers" if self.time_unit == "iso" else "iso for dates"
        return (
            f"{where}: '{column.name}' is {str(value)!r}, not {kind}; fix that row, "
            f"or set dataset.time_unit ({other})"
        )
