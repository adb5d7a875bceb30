"""The sessions of a file: read with the format of the data set that a model was trained on."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from p_rnn.data.codes import as_stored
from p_rnn.data.events import EventLog, collect
from p_rnn.data.readers.columns import TYPED
from p_rnn.data.readers.files import Member, find_members
from p_rnn.data.readers.options import ColumnsConfig
from p_rnn.data.readers.table import TableReader
from p_rnn.data.readers.tabular import TABLE_SUFFIXES, RawTable
from p_rnn.data.readers.text import SEPARATORS, TextFormat, tidy
from p_rnn.data.rules import keep_event_types
from p_rnn.settings.commands import RecommendConfig, SessionColumns
from p_rnn.settings.dataset_rules import reader_settings
from p_rnn.settings.errors import UserError
from p_rnn.settings.registry import suggest
from p_rnn.settings.sections import DatasetConfig

Array = NDArray[Any]
TEXT = ("separator", "quoting", "encoding", "names")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SessionFile:
    """S sessions in order of first appearance; ids as they are in the file.

    Attributes:
        ids: [S] of the sessions, int64 or text.
        item: int32 [E] codes into `item_ids`, session after session, in time order.
        offsets: int64 [S+1], where each session starts in `item`.
        item_ids: [U], int64 or text.
        other_types: events left out, because the model was trained on other types of events;
            `emptied`: sessions that had only such events.
    """

    ids: Array
    item: Array
    offsets: Array
    item_ids: Array
    other_types: int
    emptied: int

    def __len__(self) -> int:
        return len(self.ids)

    def sessions(self) -> Iterator[list[Any]]:
        """The item ids of one session after the other."""
        for lo, hi in zip(self.offsets, self.offsets[1:], strict=False):
            yield self.item_ids[self.item[lo:hi]].tolist()


def members_of(path: str) -> list[Member]:
    """The files behind `sessions=path`: a file, a folder, a zip or a pattern.

    Raises:
        UserError: there is none.
    """
    if not set("*?[") & set(path) and not Path(path).exists():
        raise UserError(f"sessions={path}: no such file or folder")
    return find_members(Path(), path, "", TABLE_SUFFIXES, "sessions")


def read_session_file(config: RecommendConfig, dataset: DatasetConfig) -> SessionFile:
    """Read `config.sessions`; what is not given about its format is that of the data set.

    The memory is that of a few numbers per event.

    Raises:
        UserError: no such file or column, or a row that cannot be read.
    """
    assert config.sessions is not None
    members = members_of(config.sessions)
    try:
        reader = _reader(config, dataset, members)
        events = collect({"train": reader}, config.sessions)
        own = replace(events, histories=False)
        if events.kind is not None and dataset.event_types is not None:
            own = _of_types(own, dataset.event_types, config.sessions)
    except UserError as error:  # which names settings of a data set
        text = str(error).replace("dataset.path", "sessions")
        own_settings = "|".join(("columns", "time_unit", "missing_ids", *TEXT))
        raise UserError(re.sub(rf"\bdataset\.(?={own_settings})", "", text)) from None
    return _sessions(own, len(events) - len(own))


def _of_types(events: EventLog, trained: list[str], path: str) -> EventLog:
    """The events of the types that the model was trained on; the file may lack some of them."""
    there = [kind for kind in trained if kind in events.kinds]
    if not there:
        raise UserError(
            f"{path}: the model was trained on events of type {', '.join(trained)}, and all events "
            f"here are {', '.join(events.kinds)}; rename the types in the file, or leave out their "
            "column"
        )
    return keep_event_types(events, there)


def _sessions(events: EventLog, other_types: int) -> SessionFile:
    offsets = events.offsets()
    ids = as_stored(events.session_ids[events.session[offsets[:-1]]])
    emptied = len(events.session_ids) - len(ids)
    return SessionFile(ids, events.item, offsets, events.item_ids, other_types, emptied)


# --- the format ---------------------------------------------------------------------------------


def _reader(
    config: RecommendConfig, dataset: DatasetConfig, members: Sequence[Member]
) -> TableReader:
    trained = _settings_of(dataset)
    text = _text_settings(config, trained, members)
    unit = config.time_unit or trained.get("time_unit") or "s"
    columns = trained.get("columns")
    if not isinstance(columns, ColumnsConfig):
        columns = ColumnsConfig()
    columns, text = _columns(config.columns, columns, text, members)
    return TableReader(
        Path(),
        "",
        path=str(config.sessions),
        columns=columns,
        time_unit=unit,
        missing_ids=config.missing_ids or trained.get("missing_ids"),
        **text,
    )


def _settings_of(dataset: DatasetConfig) -> dict[str, Any]:
    """The settings of the data set's reader, if it reads columns by their names."""
    if dataset.reader not in ("table", "frame"):
        return {}
    return reader_settings(dataset)[1]


def _text_settings(
    config: RecommendConfig, trained: dict[str, Any], members: Sequence[Member]
) -> dict[str, Any]:
    """How text is read: as it is given; or as in the data set, if that is the same kind of file."""
    given = {name: getattr(config, name) for name in TEXT}
    suffix = members[0].suffix
    theirs = Member(Path(trained.get("path") or "")).suffix
    same = suffix == theirs or theirs not in (*SEPARATORS, *TYPED)
    if suffix in TYPED or not same:
        return given
    return {name: trained.get(name) if v is None else v for name, v in given.items()}


def _columns(
    given: SessionColumns,
    trained: ColumnsConfig,
    text: dict[str, Any],
    members: Sequence[Member],
) -> tuple[ColumnsConfig, dict[str, Any]]:
    """The columns to read, and how text is read.

    Raises:
        UserError: a column that is missing.
    """
    session = trained.session if given.session is None else given.session
    item = given.item or trained.item
    time = given.time or trained.time
    history = trained.history if given.session is None else None
    made = replace(trained, session=session, item=item, time=time, history=history)
    parts = session if isinstance(session, list) else [session]
    needed = {"item": [item], "history" if history else "session": [history] if history else parts}
    needed = {key: [str(name) for name in names] for key, names in needed.items()}
    if given.time:
        needed["time"] = [given.time]
    fmt = TextFormat(tidy(text["separator"]), text["quoting"], text["encoding"])
    table = RawTable(members, fmt)
    first = table.columns()
    wanted = {name for names in needed.values() for name in names}
    if text["names"] is not None and wanted <= set(first):
        text = {**text, "names": None}  # this file has a header, though that of training had none
    known = first if text["names"] is None else list(text["names"])
    counted = text["names"] is None and all(name.isdecimal() for name in wanted)
    if counted and members[0].suffix not in TYPED:
        known = [str(k) for k in range(len(first))]
    for key, names in needed.items():
        for name in names:
            if name not in known:
                advice = table.guess(members[0]) or f"set columns.{key}=..."
                raise UserError(
                    f"{members[0]} has no column '{name}' (columns.{key})"
                    f"{suggest(name, known)}; {advice}"
                )
    if time is not None and time not in known:
        log.info("%s has no column '%s': events are read in file order", members[0], time)
        made = replace(made, time=None)
    if trained.event_type not in known:
        made = replace(made, event_type=None)
    return made, text
