"""What `prepare` asks of a reader."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pandas as pd


class Reader(Protocol):
    """Translates raw files.

    The constructor is `Reader(raw: Path, source: str, **settings)`: the folder `paths.raw`, and
    `dataset.source` to be quoted when files are missing. It touches no file.

    Attributes:
        version, items_version: raised by whoever changes what a reader makes of the same files and
            settings, so that events or items prepared by an older one are prepared again.
        timed: whether events have times of their own, and not their places in the file.
        histories: whether a row is a session of its own, of which only the last event counts.
    """

    version: int = 1
    items_version: int = 1
    timed: bool = True
    histories: bool = False

    def sources(self) -> list[Path]:
        """The raw files of the events; their content decides whether to prepare again.

        Raises:
            UserError: a file is missing; the message says where to get it.
        """

    def item_sources(self) -> list[Path]:
        """The raw files of the items frame; empty where there is none."""

    def events(self) -> Iterator[pd.DataFrame]:
        """Chunks in file order: `session`, `item` (int64 or str), `time`, maybe `event_type`.

        `time` is float64 in seconds since 1970 (whole milliseconds are exact in it), never
        missing. Ids are never missing.

        Raises:
            UserError: unreadable content; the message names file and, where known, the line.
        """

    def dropped(self) -> dict[str, int]:
        """After `events`: how many rows were left out, by the rule whose setting asked for it."""
        return {}

    def items(self) -> pd.DataFrame | None:
        """`item` (unique, same type as in the events) and one column per property.

        A value is a number, a string, a list of strings or integers, or a float32 vector of one
        length per column; missing values are NaN or None.

        With a column `time` (s) the properties are dated: an item may have many rows, and of each
        property its last value before the end of training counts.
        """
