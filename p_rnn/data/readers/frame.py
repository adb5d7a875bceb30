"""Reader of pandas frames, which are held in memory while their data set is prepared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd

from p_rnn.data.readers import options
from p_rnn.data.readers.base import Reader
from p_rnn.data.readers.event_table import EventTable
from p_rnn.data.readers.files import Member
from p_rnn.data.readers.properties import match_ids, read_properties, unique_items
from p_rnn.data.readers.tabular import CHUNK_ROWS, RawTable
from p_rnn.settings.declare import about
from p_rnn.settings.errors import UserError

Events = Annotated[str, about("hash of the frame of events, which Dataset.from_frame holds")]
Items = Annotated[str | None, about("hash of the frame of items; null: none", items=True)]

_held: dict[str, pd.DataFrame] = {}  # by content hash


class FrameReader(Reader):
    """Events, and properties of items, in frames that `held` holds.

    Prepared arrays are found by the hash of the content, so the frames are needed only once.
    """

    def __init__(
        self,
        raw: Path,
        source: str,
        *,
        events: Events,
        items: Items = None,
        columns: options.Columns,
        time_unit: options.TimeUnit = "s",
        missing_ids: options.MissingIds = None,
    ) -> None:
        """
        Args:
            source: where the prepared arrays were; quoted when they and the frames are gone.
            events: content hash of the frame of events.
            items: of the frame of items, whose column of ids is called as in the events.
            columns: names of the columns, see `EventTable`.
            time_unit: s, ms, us or ns for numbers, iso for dates.
            missing_ids: "drop" leaves out rows without an id.
        """
        del raw
        self._source, self._hashes = source, {"events": events, "items": items}
        self._columns, self._time_unit, self._missing_ids = columns, time_unit, missing_ids
        self.timed = columns.time is not None
        self.histories = columns.history is not None

    def sources(self) -> list[Path]:
        """None: the hash is a setting."""
        return []

    def item_sources(self) -> list[Path]:
        """None: the hash is a setting."""
        return []

    def dropped(self) -> dict[str, int]:
        return self._events.dropped

    def events(self) -> Iterator[pd.DataFrame]:
        return self._events.chunks()

    def items(self) -> pd.DataFrame | None:
        """The frame of items; a property of text that spells numbers is numbers, as in files.

        Raises:
            UserError: a missing id, or an item with two rows that differ.
        """
        if self._hashes["items"] is None:
            return None
        table = self._table("items")
        item = self._columns.item
        frame = read_properties(table, item, None, missing_ids=self._missing_ids)
        frame = unique_items(frame, "items")
        return match_ids(frame, self._events.integer_ids[item], "items")

    @cached_property
    def _events(self) -> EventTable:
        return EventTable(
            self._table("events"), self._columns, self._time_unit, missing_ids=self._missing_ids
        )

    def _table(self, name: str) -> FrameTable:
        frame = _held.get(str(self._hashes[name]))
        if frame is None:
            raise UserError(
                f"the {name} came from a frame (Dataset.from_frame), not from a file, and what was "
                f"prepared from it is no longer in {self._source or 'its folder'}: call "
                "Dataset.from_frame again, with a folder that stays"
            )
        return FrameTable([FrameMember(Path(name))], frame=frame)


class FrameMember(Member):
    """Stands for a frame in messages; its values have types, like those of a parquet file."""

    @property
    def suffix(self) -> str:
        return ".parquet"


@dataclass(frozen=True)
class FrameTable(RawTable):
    """A frame of columns made by p_rnn.data.readers.cells; its index does not matter."""

    frame: pd.DataFrame = field(default_factory=pd.DataFrame)

    def columns(self) -> list[str]:
        return [str(name) for name in self.frame.columns]

    def chunks(
        self,
        columns: Sequence[str],
        dtypes: dict[str, Any],
        properties: Sequence[str] = (),
        *,
        most_rows: int | None = None,
        plain: bool = False,
    ) -> Iterator[tuple[Member, pd.DataFrame]]:
        """Chunks whose index is the position of a row; types are those of the frame."""
        most = min(CHUNK_ROWS, most_rows or CHUNK_ROWS)
        wanted = self.frame[list(dict.fromkeys(columns))]
        for low in range(0, len(wanted), most):
            chunk = wanted.iloc[low : low + most]
            yield self.members[0], chunk.set_axis(pd.RangeIndex(low, low + len(chunk)))

    def line(self, member: Member, row: int) -> str:
        return place(row)


def place(row: int) -> str:
    """A row in messages, as pandas takes it."""
    return f"iloc[{row}]"


@contextmanager
def held(frames: dict[str, pd.DataFrame]) -> Iterator[None]:
    """Make frames available to readers, by their content hash, as long as the block runs."""
    _held.update(frames)
    try:
        yield
    finally:
        for key in frames:
            _held.pop(key, None)


def content_hash(frame: pd.DataFrame) -> str:
    """A hash of names, types, values and order of the rows; the index does not matter."""
    digest = hashlib.sha256()
    for name in frame.columns:
        column = frame[name]
        digest.update(json.dumps([str(name), str(column.dtype), len(column)]).encode())
        if column.dtype == object:
            digest.update(json.dumps(column.tolist(), default=_as_json).encode())
        else:
            hashes = pd.util.hash_pandas_object(column, index=False)
            digest.update(hashes.to_numpy(dtype=np.uint64).tobytes())
    return digest.hexdigest()[:32]


def _as_json(value: Any) -> Any:
    return [str(value.dtype), value.tolist()] if isinstance(value, np.ndarray) else repr(value)
