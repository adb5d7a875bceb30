"""The event log in memory: columns of codes, sorted by session and time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from p_rnn.data.readers import Reader
from p_rnn.errors import UserError

Array = NDArray[Any]


@dataclass(frozen=True)
class EventLog:
    """E events, grouped by session, in time order within each; equal times keep file order.

    Attributes:
        session: int32 [E], non-decreasing codes into `session_ids`.
        item: int32 [E], codes into `item_ids`.
        time: float64 [E], seconds since 1970.
        kind: int32 [E], codes into `kinds`, or None where the reader gives no event types.
        session_ids: raw id per session code; `item_ids`: raw id per item code.
    """

    session: Array
    item: Array
    time: Array
    kind: Array | None
    session_ids: Array
    item_ids: Array
    kinds: list[str]

    def __len__(self) -> int:
        return len(self.item)

    def keep(self, mask: Array) -> EventLog:
        """The events where `mask` (bool [E]) is true; codes keep their meaning."""
        if mask.all():
            return self
        kind = None if self.kind is None else self.kind[mask]
        return replace(
            self, session=self.session[mask], item=self.item[mask], time=self.time[mask], kind=kind
        )

    def offsets(self) -> Array:
        """int64 [S+1]: events of the s-th session present are offsets[s]..offsets[s+1]."""
        starts = np.flatnonzero(self.is_first())
        return np.append(starts, len(self)).astype(np.int64)

    def is_first(self) -> Array:
        """bool [E]: the first event of its session."""
        first = np.ones(len(self), dtype=bool)
        np.not_equal(self.session[1:], self.session[:-1], out=first[1:])
        return first

    def counts(self) -> dict[str, int]:
        """Numbers of events, sessions and items present."""
        return {
            "events": len(self),
            "sessions": int(self.is_first().sum()) if len(self) else 0,
            "items": int(np.count_nonzero(np.bincount(self.item))) if len(self) else 0,
        }


class _Codes:
    """Numbers raw ids in order of first appearance, chunk by chunk."""

    def __init__(self) -> None:
        self.table: dict[Any, int] = {}

    def encode(self, values: pd.Series[Any]) -> Array:
        codes, uniques = pd.factorize(values)
        table = self.table
        # Python only per distinct id of a chunk, never per event.
        number = [table.setdefault(u, len(table)) for u in uniques.tolist()]
        return np.asarray(number, dtype=np.int32)[codes]

    def ids(self) -> Array:
        return np.array(list(self.table))


def collect(reader: Reader, name: str) -> EventLog:
    """Read all events of a reader.

    Raises:
        UserError: no events, or a time that is not finite.
    """
    sessions, items, kinds = _Codes(), _Codes(), _Codes()
    columns: dict[str, list[Array]] = {"session": [], "item": [], "time": [], "kind": []}
    for chunk in reader.events():
        columns["session"].append(sessions.encode(chunk["session"]))
        columns["item"].append(items.encode(chunk["item"]))
        columns["time"].append(chunk["time"].to_numpy(dtype=np.float64, copy=True))
        if "event_type" in chunk:
            columns["kind"].append(kinds.encode(chunk["event_type"].astype(str)))
    if not sum(map(len, columns["item"])):
        raise UserError(f"dataset {name} has no events: its files hold no rows")
    joined = {key: np.concatenate(parts) for key, parts in columns.items() if parts}
    columns.clear()
    if not np.isfinite(joined["time"]).all():
        row = int(np.flatnonzero(~np.isfinite(joined["time"]))[0])
        raise UserError(f"dataset {name}: event {row + 1} has no valid time")
    # lexsort is stable: events of equal time keep file order.
    order = np.lexsort((joined["time"], joined["session"]))
    joined = {key: values[order] for key, values in joined.items()}
    return EventLog(
        session=joined["session"],
        item=joined["item"],
        time=joined["time"],
        kind=joined.get("kind"),
        session_ids=sessions.ids(),
        item_ids=items.ids(),
        kinds=[str(kind) for kind in kinds.table],
    )
