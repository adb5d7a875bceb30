"""Reader of the RetailRocket release: events, dated item properties, a category tree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd

from p_rnn.data.readers import options
from p_rnn.data.readers.base import Reader
from p_rnn.data.readers.columns import refuse_where, seconds
from p_rnn.data.readers.event_table import EventTable
from p_rnn.data.readers.files import Member, locate
from p_rnn.data.readers.options import ColumnsConfig
from p_rnn.data.readers.tabular import RawTable
from p_rnn.data.readers.text import TextFormat
from p_rnn.settings.declare import about
from p_rnn.settings.errors import UserError

Properties = Annotated[list[str] | None, about("more item properties to read", items=True)]
COLUMNS = ColumnsConfig("visitorid", "itemid", "timestamp", "event")
PROPERTIES = ("item_properties_part1.csv", "item_properties_part2.csv")
CATEGORY = "categoryid"
LAYOUT = TextFormat(fixed=True)


class RetailRocketReader(Reader):
    """`events.csv`, `item_properties_part1.csv` and `_part2.csv`, `category_tree.csv`.

    A session is a visitor; `dataset.session_gap_s` splits it into visits. The properties are dated,
    so the items frame has a column `time` (see `Reader.items`).
    """

    def __init__(
        self,
        raw: Path,
        source: str,
        *,
        path: options.Path = "retailrocket",
        properties: Properties = None,
    ) -> None:
        """
        Args:
            path: the folder, relative to `raw`.
            properties: names of properties to read in addition to the category, such as "790" (the
                release has hashed most names to numbers).
        """
        self._raw, self._source, self._path = raw, source, path
        self._properties = properties or []

    def sources(self) -> list[Path]:
        return [self._file("events.csv")]

    def item_sources(self) -> list[Path]:
        return [self._file(name) for name in (*PROPERTIES, "category_tree.csv")]

    def events(self) -> Iterator[pd.DataFrame]:
        return self._events.chunks()

    def items(self) -> pd.DataFrame:
        """One row per property value: `item`, `time` and the column of that property.

        `category` (str); `categories`: the path from the root of the tree to the category (list of
        str); `property_<name>` (list of str).

        Raises:
            UserError: a bad value, or a property that no item has; the message names the file.
        """
        wanted = [CATEGORY, *self._properties]
        tree, parts, found = self._tree(), [], set[str]()
        table = RawTable([Member(self._file(name)) for name in PROPERTIES], LAYOUT)
        texts: dict[str, Any] = {"property": str, "value": str}
        for member, chunk in table.chunks(["timestamp", "itemid", "property", "value"], texts):
            chosen = chunk[chunk["property"].isin(wanted)]
            found.update(chosen["property"].unique())
            frame = pd.DataFrame({"item": self._ids(member, table, chosen["itemid"])})
            frame["time"] = self._times(member, table, chosen["timestamp"])
            value, of = chosen["value"], chosen["property"]
            category = of == CATEGORY
            frame["category"] = value.where(category, None)
            frame["categories"] = _lists(value, category, lambda v: _path(v, tree))
            for name in self._properties:
                frame[f"property_{name}"] = _lists(value, (of == name) & value.notna(), str.split)
            parts.append(frame)
        for name in wanted:
            if name not in found:
                raise UserError(
                    f"{self._raw / self._path}: no item has the property '{name}'; check "
                    "dataset.properties, and whether both item_properties files are complete"
                )
        return pd.concat(parts, ignore_index=True)

    @cached_property
    def _events(self) -> EventTable:
        return EventTable(RawTable([Member(self._file("events.csv"))], LAYOUT), COLUMNS, "ms")

    def _tree(self) -> dict[str, str]:
        """{category: its parent}, without the roots."""
        table = RawTable([Member(self._file("category_tree.csv"))], LAYOUT)
        texts: dict[str, Any] = {"categoryid": str, "parentid": str}
        tree: dict[str, str] = {}
        for _, chunk in table.chunks(list(texts), texts):
            below = chunk[chunk["parentid"].notna()]
            tree.update(zip(below["categoryid"], below["parentid"], strict=True))
        return tree

    def _ids(self, member: Member, table: RawTable, ids: pd.Series) -> pd.Series:
        if self._events.integer_ids[COLUMNS.item] is not pd.api.types.is_integer_dtype(ids):
            bad = pd.to_numeric(ids, errors="coerce").isna().to_numpy()
            refuse_where(ids, bad, table.where(member), "an integer as in events.csv")
        return ids

    def _times(self, member: Member, table: RawTable, column: pd.Series) -> pd.Series:
        times = seconds(column, "ms")
        refuse_where(column, np.isnan(times), table.where(member), "a number")
        return pd.Series(times, index=column.index)

    def _file(self, name: str) -> Path:
        return locate(self._raw, f"{self._path}/{name}", self._source)


def _lists(values: pd.Series, chosen: pd.Series, make: Callable[[str], list[str]]) -> pd.Series:
    """`make(value)` for each chosen value, None for the others."""
    made = [make(v) if own else None for v, own in zip(values, chosen, strict=True)]
    return pd.Series(made, index=values.index, dtype=object)


def _path(category: str, tree: dict[str, str]) -> list[str]:
    """The path from the root to a category; in a cycle, from where it closes."""
    path = [category]
    while (above := tree.get(path[-1])) is not None and above not in path:
        path.append(above)
    return path[::-1]
