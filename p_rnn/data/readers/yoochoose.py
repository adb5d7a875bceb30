"""Reader of the clicks of the RecSys Challenge 2015 (Yoochoose)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from p_rnn.data.readers import options
from p_rnn.data.readers.base import Reader
from p_rnn.data.readers.columns import refuse_where, require_integers, seconds
from p_rnn.data.readers.files import Member, locate
from p_rnn.data.readers.tabular import RawTable
from p_rnn.data.readers.text import TextFormat

NAMES = ("session", "time", "item", "category")


class YoochooseReader(Reader):
    """`yoochoose-clicks.dat`: session, ISO time, item, category; no header.

    The category is that of the page of the click, not of the item, and is ignored; items have no
    properties.
    """

    def __init__(self, raw: Path, source: str, *, path: options.Path = "yoochoose") -> None:
        """`path`: the folder, relative to `raw`."""
        self._raw, self._source, self._path = raw, source, path

    def sources(self) -> list[Path]:
        return [locate(self._raw, f"{self._path}/yoochoose-clicks.dat", self._source)]

    def item_sources(self) -> list[Path]:
        return []

    def items(self) -> None:
        return None

    def events(self) -> Iterator[pd.DataFrame]:
        """Chunks of `session`, `item` (int64) and `time` (s).

        Raises:
            UserError: a missing or unreadable value; the message names file and line.
        """
        (path,) = self.sources()
        clicks = RawTable([Member(path)], TextFormat(",", "none", names=NAMES, fixed=True))
        for member, chunk in clicks.chunks(NAMES[:3], {"time": str}):
            where = clicks.where(member)
            times = seconds(chunk["time"], "iso")
            refuse_where(chunk["time"], np.isnan(times), where, "an ISO date")
            for name in ("session", "item"):
                require_integers(chunk[name], where)
            events = chunk[["session", "item"]].assign(time=times)
            yield events.reset_index(drop=True)
