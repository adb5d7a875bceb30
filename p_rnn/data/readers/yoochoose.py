"""Reader of the clicks of the RecSys Challenge 2015 (Yoochoose)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from p_rnn.data.readers.event_table import seconds
from p_rnn.data.readers.files import locate
from p_rnn.data.readers.tabular import headless
from p_rnn.errors import UserError

NAMES = ["session", "time", "item", "category"]


class YoochooseReader:
    """`yoochoose-clicks.dat`: session, ISO time, item, category; no header.

    The category is that of the page of the click, not of the item, and is left out; items have no
    properties.
    """

    version = 1

    def __init__(self, raw: Path, source: str, *, path: str = "yoochoose") -> None:
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
        for chunk in headless(path, NAMES, NAMES[:3], ",", {"time": str}):
            times = seconds(chunk["time"], "iso")
            _require(path, chunk["time"], np.isnan(times), "an ISO date")
            for name in ("session", "item"):
                numbers = pd.to_numeric(chunk[name], errors="coerce").to_numpy(np.float64)
                _require(path, chunk[name], ~(numbers == np.floor(numbers)), "an integer")
            yield pd.DataFrame({
                "session": chunk["session"].astype(np.int64),
                "item": chunk["item"].astype(np.int64),
                "time": times,
            }).reset_index(drop=True)  # fmt: skip


def _require(
    path: Path, column: pd.Series, bad: np.ndarray[tuple[int], np.dtype[np.bool_]], kind: str
) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        value = column.iloc[row]
        what = "is missing" if pd.isna(value) else f"is {str(value)!r}, not {kind}"
        raise UserError(
            f"{path}, line {int(column.index[row]) + 1}: the {column.name} {what}; get the file "
            "again"
        )
