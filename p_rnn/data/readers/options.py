"""Settings that several readers share: how columns are called, and what an item table is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Optional

from p_rnn.settings.declare import about, choice, setting

# ruff: noqa: UP045  (OmegaConf reads Optional on every Python that we support)


@dataclass
class ColumnsConfig:
    """Names of the columns of an event table."""

    session: Any = setting(
        "session", "of the session or visitor; a list: columns whose values name it together"
    )
    item: str = setting("item", "of the item id")
    time: Optional[str] = setting("time", "null: the order of the rows is the order in time")
    event_type: Optional[str] = setting(None, "of the event's type; null: there is none")
    history: Optional[str] = setting(
        None, "of a list of the items before `item`: a row is a session", later=True
    )


@dataclass
class ItemTableConfig:
    """A table of items: one column of item ids, the others are properties."""

    path: Optional[str] = setting(None, "relative to paths.raw; null: there is none")
    item: str = setting("item", "column of item ids")
    columns: Optional[list[str]] = setting(None, "the properties; null: all other columns")
    list_separator: Optional[str] = setting(None, "splits the values of list_columns")
    list_columns: Optional[list[str]] = setting(None, "properties of several values")
    on_conflict: Optional[str] = choice(
        None, "error", "last", later=True, help="several rows of an item that disagree; null: error"
    )
    separator: Optional[str] = setting(None, "null: as the events", later=True)
    quoting: Optional[str] = choice(
        None, "double", "backslash", "none", later=True, help="null: as the events"
    )
    encoding: Optional[str] = setting(None, "null: as the events", later=True)
    names: Optional[list[str]] = setting(
        None, "of the columns; null: the first line has them", later=True
    )


Path = Annotated[str, about("file, folder, zip or pattern of the events, relative to paths.raw")]
Columns = Annotated[ColumnsConfig, about("how the columns are called")]
Names = Annotated[list[str] | None, about("of the columns of text files without a header")]
Separator = Annotated[str | None, about("null: a comma for .csv, a tab for .tsv")]
Quoting = Annotated[
    str | None,
    about("how quotes are written; null: double", options=("double", "backslash", "none")),
]
Encoding = Annotated[str | None, about("of text files; null: utf-8")]
TimeUnit = Annotated[
    str, about("of numbers, or iso for dates", options=("s", "ms", "us", "ns", "iso"))
]
MissingIds = Annotated[
    str | None, about("rows without an id; null: error", options=("error", "drop"))
]
Where = Annotated[str | None, about("keep only these rows, as 'rating >= 4'")]
ItemTable = Annotated[ItemTableConfig | None, about("properties of items", items=True)]
