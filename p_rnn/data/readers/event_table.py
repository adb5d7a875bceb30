"""Columns of an event table: ids of one type over all files, times in seconds."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from p_rnn.config import ColumnsConfig
from p_rnn.data.readers.files import Member
from p_rnn.data.readers.tabular import Table
from p_rnn.errors import UserError

UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}  # per second
LATEST_S = 2**63 / 1e9  # 2262: the end of 64-bit nanoseconds; later times are in another unit
FIRST_ROWS = 10_000  # enough to tell most columns of text from integers
# Integers as a program writes them: "007", "+7" and "7.0" are text, or they would become 7.
INTEGER = r"0|-?[1-9][0-9]{0,18}"


class EventTable:
    """Sessions, items, times (and event types) in a `Table`.

    **Type of ids.** A column of ids is int64 if every value in every file is an integer written
    as programs write it, and str otherwise. One "A7" in the last file makes all ids str, so the
    type must be known before the first chunk is handed out. Where the first rows hold text, it is
    known. Otherwise a pass over the files reads these ids as integers (0.1 s per million events),
    and only where that fails, another one looks at each of them as text (0.8 s). Parquet files
    type their columns: one of text stays text.

    **Order as time.** Without a column of times, the time of an event is its row number over
    all files.
    """

    def __init__(self, table: Table, columns: ColumnsConfig, time_unit: str = "s") -> None:
        self.table = table
        self.names = columns
        self.time_unit = time_unit

    @cached_property
    def integer_ids(self) -> dict[str, bool]:
        """Whether the column of sessions, and that of items, holds integers only.

        Raises:
            UserError: a missing id, no rows, or ids that are floating point numbers.
        """
        integer = self._first_ids()
        columns = [column for column, whole in integer.items() if whole]
        if columns and not self._surely_integers(columns):
            integer.update(self._integers_by_text(columns))
        return integer

    def _first_ids(self) -> dict[str, bool]:
        """Whether the first ids of each column are integers."""
        columns = list(dict.fromkeys([self.names.session, self.names.item]))
        text: dict[str, Any] = dict.fromkeys(columns, str)
        for member, chunk in self.table.chunks(columns, text, most_rows=FIRST_ROWS):
            if len(chunk):
                for column in columns:
                    self._refuse_missing(member, chunk[column])
                return {column: is_integer(chunk[column], member) for column in columns}
        raise UserError(f"{self.table.members[0]} holds no events; check dataset.path")

    def _surely_integers(self, columns: list[str]) -> bool:
        """Whether all ids are integers beyond doubt; no text is made of them, which is slow."""
        try:
            for member, chunk in self.table.chunks(columns, {}, plain=True):
                for ids in (chunk[column] for column in columns):
                    whole = pd.api.types.is_integer_dtype(ids) and is_integer(ids, member)
                    if not whole and len(ids):
                        return False
        except ValueError:  # or a mistake of the user, whom the slow way tells
            return False
        return True

    def _integers_by_text(self, columns: list[str]) -> dict[str, bool]:
        """Whether all ids of each column are integers, told by their spelling."""
        integer = dict.fromkeys(columns, True)
        text: dict[str, Any] = dict.fromkeys(columns, str)
        for member, chunk in self.table.chunks(columns, text):
            for column in columns:
                ids = chunk[column]
                self._refuse_missing(member, ids)
                integer[column] = integer[column] and is_integer(ids, member)
        return integer

    def chunks(self) -> Iterator[pd.DataFrame]:
        """Chunks of `session`, `item` (int64 or str), `time` (s) and maybe `event_type` (str).

        Raises:
            UserError: missing or unreadable values; the message names file and line.
        """
        names = self.names
        integer = self.integer_ids
        dtypes: dict[str, Any] = {c: np.int64 if whole else str for c, whole in integer.items()}
        columns = [names.session, names.item]
        if names.event_type is not None:
            columns.append(names.event_type)
            dtypes.setdefault(names.event_type, str)
        if names.time is not None:
            columns.append(names.time)
            if self.time_unit == "iso":
                dtypes.setdefault(names.time, str)
        num_rows = 0
        for member, chunk in self.table.chunks(columns, dtypes):
            for column in integer:
                self._refuse_missing(member, chunk[column])
            frame = {
                "session": as_ids(chunk[names.session], integer[names.session]),
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

    def _times(self, member: Member, column: pd.Series) -> pd.Series:
        """Times in seconds, float64."""
        if pd.api.types.is_datetime64_any_dtype(column) and self.time_unit != "iso":
            raise UserError(
                f"{member}: the column '{column.name}' holds dates; set dataset.time_unit=iso"
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
            return f"{where}: the time '{column.name}' is missing; remove or mend that row"
        if np.isfinite(time_s):
            return (
                f"{where}: '{column.name}' {value} is after the year 2262 in units of "
                f"{self.time_unit}; set dataset.time_unit (s, ms, us, ns)"
            )
        kind = "an ISO date" if self.time_unit == "iso" else "a number"
        other = "s, ms, us or ns for numbers" if self.time_unit == "iso" else "iso for dates"
        return (
            f"{where}: '{column.name}' is {str(value)!r}, not {kind}; mend that row, "
            f"or set dataset.time_unit ({other})"
        )

    def _refuse_missing(self, member: Member, ids: pd.Series) -> None:
        missing = ids.isna().to_numpy()
        if missing.any():
            line = self.table.line(member, int(ids.index[int(np.argmax(missing))]))
            raise UserError(
                f"{member}, {line}: the id '{ids.name}' is missing; remove or mend that row"
            )


def is_integer(ids: pd.Series, member: Member) -> bool:
    """Whether all ids are integers that int64 holds, in the one way in which programs write them.

    Raises:
        UserError: floating point numbers, from a parquet file.
    """
    if pd.api.types.is_float_dtype(ids):
        raise UserError(
            f"{member}: the ids '{ids.name}' are floating point numbers; store integers or text"
        )
    if pd.api.types.is_integer_dtype(ids):
        return str(ids.dtype).lower() != "uint64"  # hashes above 2^63 would change their sign
    if member.suffix == ".parquet":
        return False
    text = pd.Series(ids.unique(), dtype=str)
    if not bool(text.str.fullmatch(INTEGER).all()):
        return False
    try:
        text.astype(np.int64)
    except (OverflowError, ValueError):
        return False
    return True


def as_ids(ids: pd.Series, integer: bool) -> pd.Series:
    """Ids as int64 or as str."""
    return ids.astype(np.int64) if integer else ids.astype(str)


def seconds(column: pd.Series, unit: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Times as float64 seconds since 1970, correctly rounded; NaN where they are unreadable.

    Integers are split into whole seconds and the rest, since nanoseconds of today exceed the
    2^53 up to which float64 holds every integer.
    """
    if pd.api.types.is_bool_dtype(column):
        return np.full(len(column), np.nan)
    if unit == "iso":
        if pd.api.types.is_numeric_dtype(column):
            return np.full(len(column), np.nan)
        dates = pd.to_datetime(column, utc=True, format="ISO8601", errors="coerce")
        microseconds = dates.dt.as_unit("us").astype(np.int64).to_numpy()
        return np.where(dates.isna(), np.nan, microseconds / 1e6)
    numbers = pd.to_numeric(column, errors="coerce").to_numpy()
    if numbers.dtype.kind != "i":
        return numbers.astype(np.float64) / UNITS[unit]
    whole, rest = np.divmod(numbers.astype(np.int64), UNITS[unit])
    return whole + rest / UNITS[unit]
