"""The interface of readers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pandas as pd


class Reader(Protocol):
    """Translates raw files.

    The constructor is `Reader(raw: Path, source: str, **settings)`: `raw` is the folder
    `paths.raw`, and `source` (`dataset.source`) is quoted when files are missing. The constructor
    does not touch files.

    Attributes:
        version, items_version: to be increased when the same files and settings give other events
            or items, so that data prepared by an older version are prepared again.
        timed: whether events have timestamps; otherwise their time is their position in the file.
        histories: whether each row is a session of its own, of which only the last event counts.
    """

    version: int = 1
    items_version: int = 1
    timed: bool = True
    histories: bool = False

    def sources(self) -> list[Path]:
        """The raw files of the events; the data are prepared again when their content changes.

        Raises:
            UserError: a file is missing; the message says where to get it.
        """

    def item_sources(self) -> list[Path]:
        """The raw files of the items frame; empty if there is none."""

    def events(self) -> Iterator[pd.DataFrame]:
        """Chunks in file order: `session`, `item` (int64 or str), `time` and `event_type`.

        `time` is float64 in seconds since 1970 (precise to the millisecond). `event_type` is
        optional. Ids and times are never missing.

        Raises:
            UserError: unreadable content; the message names file and, where known, the line.
        """

    def dropped(self) -> dict[str, int]:
        """After `events`: the number of rows left out, by the name of the setting."""
        return {}

    def items(self) -> pd.DataFrame | None:
        """`item` (unique, same type as in the events) and one column per property.

        A value is a number, a string, a list of strings or integers, or a float32 vector (of the
        same length for all items); missing values are NaN or None.

        With a column `time` (s) the properties are dated: an item may have many rows, and the last
        value of each property up to the end of training counts.
        """
