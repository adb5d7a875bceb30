"""Reader of the clicks on the news portal Globo.com."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from p_rnn.data.readers import options
from p_rnn.data.readers.base import Reader
from p_rnn.data.readers.columns import require_integers
from p_rnn.data.readers.files import Member, files_of, find_members, locate
from p_rnn.data.readers.properties import match_ids, read_properties, unique_items
from p_rnn.data.readers.tabular import RawTable
from p_rnn.data.readers.text import TextFormat
from p_rnn.settings.errors import UserError

CLICK_COLUMNS = {"session": "session_id", "item": "click_article_id", "time": "click_timestamp"}


class GloboReader(Reader):
    """`clicks.zip`, or the folder `clicks` unpacked from it, and `articles_metadata.csv`.

    The clicks are 385 hourly files, of which three columns are read. All ids are integers, so one
    pass over the files is enough.
    """

    def __init__(self, raw: Path, source: str, *, path: options.Path = "globo") -> None:
        self._raw, self._source, self._path = raw, source, path

    def sources(self) -> list[Path]:
        return files_of(self._clicks().members)

    def item_sources(self) -> list[Path]:
        return [locate(self._raw, f"{self._path}/articles_metadata.csv", self._source)]

    def events(self) -> Iterator[pd.DataFrame]:
        """One chunk per hour; milliseconds become seconds.

        Raises:
            UserError: a value that is missing or not an integer; the message names file and line.
        """
        clicks = self._clicks()
        num_rows = 0
        for member, chunk in clicks.chunks(list(CLICK_COLUMNS.values()), {}):
            if chunk.empty:  # then its columns have no useful type
                continue
            num_rows += len(chunk)
            for name in CLICK_COLUMNS.values():
                require_integers(chunk[name], clicks.where(member))
            frame = pd.DataFrame({key: chunk[name] for key, name in CLICK_COLUMNS.items()})
            yield frame.assign(time=frame["time"] / 1000).reset_index(drop=True)
        if num_rows == 0:
            raise UserError(f"{clicks.members[0].path} contains no clicks; get a new copy")

    def items(self) -> pd.DataFrame:
        """`category_id` (str), `created_at` (s), `words_count`; NaN if a field is empty."""
        path = self.item_sources()[0]
        columns = ["category_id", "created_at_ts", "words_count"]
        table = RawTable([Member(path)], TextFormat(fixed=True))
        frame = read_properties(
            table, "article_id", columns, columns[:1], number_columns=columns[1:]
        )
        frame["created_at_ts"] = frame["created_at_ts"] / 1000
        frame = frame.rename(columns={"created_at_ts": "created_at"})
        return match_ids(unique_items(frame, str(path)), integer=True, label=str(path))

    def _clicks(self) -> RawTable:
        folder = locate(self._raw, self._path, self._source)
        unpacked = folder / "clicks"
        name = "clicks" if unpacked.is_dir() else "clicks.zip"
        members = find_members(self._raw, f"{self._path}/{name}", self._source, (".csv",))
        return RawTable(members, TextFormat(fixed=True))
