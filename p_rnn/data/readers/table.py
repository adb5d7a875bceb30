"""Reader of any table of events: CSV, TSV or parquet, in a file, folder or zip."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import pandas as pd

from p_rnn.config import ColumnsConfig, ItemTableConfig
from p_rnn.data.readers.event_table import UNITS, EventTable
from p_rnn.data.readers.files import files_of, list_members, locate
from p_rnn.data.readers.properties import match_ids, read_properties, split_lists, unique_items
from p_rnn.data.readers.tabular import TABLE_SUFFIXES, Table
from p_rnn.errors import UserError


class TableReader:
    """Events in one table, with or without a table of items.

    A folder or zip is one table: its .csv, .tsv and .parquet files (plain or .gz) in the order of
    their names. The first line of each text file names its columns.
    """

    version = 1

    def __init__(
        self,
        raw: Path,
        source: str,
        *,
        path: str,
        columns: ColumnsConfig,
        separator: str | None = None,
        time_unit: str = "s",
        item_table: ItemTableConfig | None = None,
    ) -> None:
        """
        Args:
            raw: the folder `paths.raw`.
            source: where a person gets the files; quoted when they are missing.
            path: file, folder or zip of the events, relative to `raw`.
            columns: names of the columns; a null `time` makes the order of the rows the time.
            separator: one character; None = "," for .csv and a tab for .tsv.
            time_unit: s, ms, us or ns for numbers, iso for dates (UTC unless they say otherwise).
            item_table: properties of items, unless its path is null; it may be the table of the
                events itself, as rows that repeat an item with the same values count once.
        """
        self._raw, self._source, self._path = raw, source, path
        self._columns, self._time_unit, self._item_table = columns, time_unit, item_table
        self._separator = "\t" if separator == "\\t" else separator
        if self._separator is not None and len(self._separator) != 1:
            raise UserError(f"dataset.separator={separator!r} must be one character")
        if time_unit not in (*UNITS, "iso"):
            raise UserError(f"dataset.time_unit={time_unit} must be s, ms, us, ns or iso")
        if item_table is None or item_table.path is None:
            if item_table and (item_table.columns or item_table.list_columns):
                raise UserError("dataset.item_table.path is null, so its columns have no effect")
        elif (item_table.list_separator is None) != (not item_table.list_columns):
            raise UserError(
                "dataset.item_table.list_separator and list_columns need each other: "
                "set both or neither"
            )

    def sources(self) -> list[Path]:
        return files_of(self._table(self._path).members)

    def item_sources(self) -> list[Path]:
        table = self._item_table
        return files_of(self._table(table.path).members) if table and table.path else []

    def events(self) -> Iterator[pd.DataFrame]:
        return self._events.chunks()

    def items(self) -> pd.DataFrame | None:
        """The item table; `list_columns` become lists of strings.

        Raises:
            UserError: a missing column or id, or an item with two rows that differ.
        """
        config = self._item_table
        if config is None or config.path is None:
            return None
        table = self._table(config.path)
        label = str(self._raw / config.path)
        lists = config.list_columns or []
        frame = read_properties(table, config.item, config.columns, lists)
        for column in lists:
            if column not in frame:
                raise UserError(
                    f"dataset.item_table.list_columns: '{column}' is not among the properties "
                    f"{', '.join(frame.columns[1:])} of {label}"
                )
        frame = unique_items(frame, label)
        for column in lists:
            if frame[column].map(lambda v: isinstance(v, str)).any():
                frame[column] = split_lists(frame[column], config.list_separator)
        return match_ids(frame, self._events.integer_ids[self._columns.item], label)

    @cached_property
    def _events(self) -> EventTable:
        return EventTable(self._table(self._path), self._columns, self._time_unit)

    def _table(self, path: str) -> Table:
        found = locate(self._raw, path, self._source)
        table = Table(list_members(found, TABLE_SUFFIXES), self._separator)
        parquet = [m.suffix == ".parquet" for m in table.members]
        if all(parquet) and self._separator is not None and path == self._path:
            raise UserError(f"dataset.separator has no effect: {found} is parquet; leave it out")
        return table
