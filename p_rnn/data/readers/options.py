"""Settings that several readers share: the names of columns, and the item table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Optional

from p_rnn.settings.declare import about, choice, setting

# ruff: noqa: UP045  (OmegaConf reads Optional on every Python that we support)


@dataclass
class ColumnsConfig:
    """Names of the columns of an event table."""

    session: Any = setting(
        "session", "session or visitor id; a list: columns that identify it together"
    )
    item: str = setting("item", "item id")
    time: Optional[str] = setting("time", "time of the event; null: rows are in time order")
    event_type: Optional[str] = setting(None, "event type; null: none")
    history: Optional[str] = setting(
        None, "list of the items before `item`; then each row is a session", later=True
    )


@dataclass
class ItemTableConfig:
    """An item table: one column of item ids, the others are properties."""

    path: Optional[str] = setting(None, "relative to paths.raw; null: none")
    item: str = setting("item", "column of item ids")
    columns: Optional[list[str]] = setting(None, "the properties; null: all other columns")
    list_separator: Optional[str] = setting(None, "separator of the values in list_columns")
    list_columns: Optional[list[str]] = setting(None, "properties with several values")
    on_conflict: Optional[str] = choice(
        None, "error", "last", later=True, help="if an item has different rows; null: error"
    )
    separator: Optional[str] = setting(None, "null: as in the events", later=True)
    quoting: Optional[str] = choice(
        None, "double", "backslash", "none", later=True, help="null: as in the events"
    )
    encoding: Optional[str] = setting(None, "null: as in the events", later=True)
    names: Optional[list[str]] = setting(
        None, "names of the columns; null: the first line has them", later=True
    )


Path = Annotated[str, about("file, folder, zip or pattern of the events, relative to paths.raw")]
Columns = Annotated[ColumnsConfig, about("names of the columns")]
Names = Annotated[list[str] | None, about("names of the columns, for text files without a header")]
Separator = Annotated[
    str | None, about("separator of columns; null: a comma for .csv, a tab for .tsv")
]
Quoting = Annotated[
    str | None,
    about("how quotes are escaped; null: double", options=("double", "backslash", "none")),
]
Encoding = Annotated[str | None, about("encoding of text files; null: utf-8")]
TimeUnit = Annotated[
    str, about("unit of times that are numbers; iso: dates", options=("s", "ms", "us", "ns", "iso"))
]
MissingIds = Annotated[
    str | None, about("what to do with rows without an id; null: error", options=("error", "drop"))
]
Where = Annotated[str | None, about("condition on rows to keep, such as 'rating >= 4'")]
ItemTable = Annotated[ItemTableConfig | None, about("item properties", items=True)]
