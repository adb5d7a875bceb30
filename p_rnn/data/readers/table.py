"""Reader of any table of events: CSV, TSV, JSON lines or parquet, in files, folders or zips."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from p_rnn.data.readers import options
from p_rnn.data.readers.base import Reader
from p_rnn.data.readers.columns import TYPED, UNITS
from p_rnn.data.readers.conditions import parse_conditions
from p_rnn.data.readers.event_table import EventTable
from p_rnn.data.readers.files import Member, files_of, find_members
from p_rnn.data.readers.options import ItemTableConfig
from p_rnn.data.readers.properties import match_ids, read_properties, split_lists, unique_items
from p_rnn.data.readers.tabular import TABLE_SUFFIXES, RawTable
from p_rnn.data.readers.text import TextFormat, tidy
from p_rnn.settings.errors import UserError

log = logging.getLogger(__name__)


class TableReader(Reader):
    """Events in one table, with or without an item table.

    A folder, zip or pattern is one table: its .csv, .tsv, .jsonl and .parquet files (plain, .gz,
    .bz2 or .xz) sorted by name. The first line of each text file names the columns, unless `names`
    is given.
    """

    version = 2
    items_version = 2

    def __init__(
        self,
        raw: Path,
        source: str,
        *,
        path: options.Path,
        columns: options.Columns,
        names: options.Names = None,
        separator: options.Separator = None,
        quoting: options.Quoting = None,
        encoding: options.Encoding = None,
        time_unit: options.TimeUnit = "s",
        missing_ids: options.MissingIds = None,
        where: options.Where = None,
        item_table: options.ItemTable = None,
    ) -> None:
        """
        Args:
            raw: the folder `paths.raw`.
            source: where to get the files; quoted when they are missing.
            path: file, folder, zip or pattern of the events, relative to `raw`.
            columns: names of the columns, see `EventTable`; with a null `time`, the order of the
                rows is the time. Numbers, counted from 0, if the files have no header.
            names: names of the columns, if the files have no header.
            separator, quoting, encoding: see `TextFormat`.
            time_unit: s, ms, us or ns for numbers, iso for dates (UTC unless they have an offset).
            missing_ids: "drop" leaves out rows without an id.
            where: a condition on rows, see `parse_conditions`.
            item_table: item properties, unless its path is null. It may be the event table itself,
                since rows that repeat an item with the same values count once.
        """
        self._raw, self._source, self._path = raw, source, path
        self._columns, self._time_unit, self._item_table = columns, time_unit, item_table
        self.timed = self._columns.time is not None
        self.histories = self._columns.history is not None
        self._missing_ids, self._conditions = missing_ids, parse_conditions(where)
        header = None if names is None else tuple(names)
        self._text = TextFormat(tidy(separator), quoting, encoding, header)
        if time_unit not in (*UNITS, "iso"):
            raise UserError(f"dataset.time_unit={time_unit} must be s, ms, us, ns or iso")
        if item_table is None or item_table.path is None:
            plain = ItemTableConfig(item=item_table.item if item_table else "item")
            if item_table not in (None, plain):
                raise UserError("dataset.item_table.path is null, so its settings have no effect")
        elif (item_table.list_separator is None) != (not item_table.list_columns):
            raise UserError(
                "dataset.item_table.list_separator and list_columns need each other: "
                "set both or neither"
            )

    def dropped(self) -> dict[str, int]:
        return self._events.dropped

    def sources(self) -> list[Path]:
        return files_of(self._members(self._path, "dataset.path"))

    def item_sources(self) -> list[Path]:
        table = self._item_table
        if not table or not table.path:
            return []
        return files_of(self._members(table.path, "dataset.item_table.path"))

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
        members = self._members(config.path, "dataset.item_table.path")
        table = _table(members, self._item_text(config), [config.item])
        label = str(self._raw / config.path)
        lists = config.list_columns or []
        frame = read_properties(
            table,
            config.item,
            config.columns,
            lists,
            on_conflict=config.on_conflict or "error",
            missing_ids=self._missing_ids,
        )
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
        members = self._members(self._path, "dataset.path")
        names = self._columns
        session = names.session if isinstance(names.session, list) else [names.session]
        used = [*session, names.item, names.time, names.event_type, names.history]
        used += [condition.column for condition in self._conditions]
        return EventTable(
            _table(members, self._text, [str(name) for name in used if name is not None]),
            names,
            self._time_unit,
            missing_ids=self._missing_ids,
            conditions=self._conditions,
        )

    def _item_text(self, config: ItemTableConfig) -> TextFormat:
        """The format of the item table: that of the events, overridden by its own settings."""
        return TextFormat(
            tidy(config.separator) or self._text.separator,
            config.quoting or self._text.quoting,
            config.encoding or self._text.encoding,
            None if config.names is None else tuple(config.names),
            "dataset.item_table",
        )

    def _members(self, path: str, setting: str) -> list[Member]:
        return find_members(self._raw, path, self._source, TABLE_SUFFIXES, setting)


def _table(members: list[Member], text: TextFormat, used: list[str]) -> RawTable:
    """The table in `members`; `used` are the columns to be read.

    If all of these are numbers, there is no header and columns are counted from 0.

    Raises:
        UserError: settings for text files without any text file; a first line of numbers that may
            be a header or a row.
    """
    typed = [member.suffix == ".parquet" for member in members]
    for name in ("separator", "quoting", "encoding", "names"):
        inert = all(typed) or (
            name in ("separator", "quoting", "names") and all(m.suffix in TYPED for m in members)
        )
        if inert and getattr(text, name) is not None and text.setting == "dataset":
            raise UserError(
                f"dataset.{name} has no effect: {members[0].path} is {members[0].suffix[1:]}; "
                "leave it out"
            )
    table = RawTable(members, text)
    counted = text.names is None and all(name.isdecimal() for name in used)
    if not counted or members[0].suffix in TYPED:
        return table
    first = table.columns()
    if set(used) <= set(first):
        raise UserError(
            f"{members[0]}, line 1 is {','.join(first)[:60]}: if this is a row, set {text.setting}."
            "names=[...]; if it names the columns, rename them to something else than numbers"
        )
    log.info("%s has no header: the columns are counted from 0", members[0])
    return RawTable(members, replace(text, names=()))
