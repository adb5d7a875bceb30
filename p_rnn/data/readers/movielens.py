"""Reader of MovieLens in the layouts in which GroupLens publishes it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd

from p_rnn.data.readers import options
from p_rnn.data.readers.base import Reader
from p_rnn.data.readers.columns import require_integers
from p_rnn.data.readers.download import fetch_folder
from p_rnn.data.readers.files import Member, explained, locate
from p_rnn.data.readers.tabular import RawTable
from p_rnn.data.readers.text import TextFormat
from p_rnn.settings.declare import about
from p_rnn.settings.errors import UserError

Download = Annotated[bool | None, about("download the public files if missing", items=True)]
BASE_URL = "https://files.grouplens.org/datasets/movielens/"
MD5 = {  # of <name>.zip, which unpacks to the folder <name>
    "ml-100k": "0e33842e24a9c977be4e0107933c0723",
    "ml-1m": "c4d9eecfca2ab87c1945afe126590906",
}
# The 19 flags at the end of each line of u.item, in their order.
GENRES_100K = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
TITLE_YEAR = re.compile(r"^(.*\S)\s*\((\d{4})\)\s*$")  # "Toy Story (1995)"


@dataclass(frozen=True)
class Layout:
    """How a release stores ratings and movies."""

    ratings: str
    movies: str
    separator: str  # of ratings; "::" is read as ":" with an empty field between
    fields: tuple[str, ...]  # of ratings


ML_100K = Layout("u.data", "u.item", "\t", ("session", "item", "rating", "time"))
ML_1M = Layout(
    "ratings.dat", "movies.dat", ":", ("session", "_1", "item", "_2", "rating", "_3", "time")
)


class MovieLensReader(Reader):
    """ml-100k (`u.data`, `u.item`) or ml-1m (`ratings.dat`, `movies.dat`), whichever exists.

    Every rating is an event, whatever its value; every user is a session.
    """

    def __init__(
        self, raw: Path, source: str, *, path: options.Path, download: Download = None
    ) -> None:
        """
        Args:
            path: the folder, relative to `raw`.
            download: download the public zip if the folder is missing; then the last part of
                `path` must be ml-100k or ml-1m.
        """
        self._raw, self._source, self._path = raw, source, path
        self._download = bool(download)

    def sources(self) -> list[Path]:
        folder, layout = self._found()
        return [folder / layout.ratings]

    def item_sources(self) -> list[Path]:
        _, layout = self._found()
        return [locate(self._raw, f"{self._path}/{layout.movies}", self._source)]

    def events(self) -> Iterator[pd.DataFrame]:
        """Chunks of `session`, `item` (int64) and `time` (s).

        Raises:
            UserError: a missing or non-numeric value, an empty or damaged file.
        """
        folder, layout = self._found()
        path = folder / layout.ratings
        used = ["session", "item", "time"]
        text = TextFormat(layout.separator, "none", names=layout.fields, fixed=True)
        ratings = RawTable([Member(path)], text)
        for member, chunk in ratings.chunks(used, {}):
            for name in used:
                require_integers(chunk[name], ratings.where(member))
            yield chunk[used].astype({"time": np.float64}).reset_index(drop=True)

    def items(self) -> pd.DataFrame:
        """`title` (str), `year` (NaN if the title has none), `genres` (list of str)."""
        _, layout = self._found()
        path = self.item_sources()[0]
        with explained(str(path)):
            lines = path.read_text(encoding="latin-1").splitlines()
        parse = _movie_100k if layout is ML_100K else _movie_1m
        rows = []
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    rows.append(parse(line))
                except (ValueError, IndexError):
                    raise UserError(
                        f"{path}, line {number} is not a line of {layout.movies}: {line[:60]!r}; "
                        "get a new copy of the file"
                    ) from None
        if not rows:
            raise UserError(f"{path} contains no movies; get a new copy of the file")
        item, title, genres = zip(*rows, strict=True)
        frame = pd.DataFrame({"item": np.array(item, dtype=np.int64)})
        if frame["item"].duplicated().any():
            twice = frame.loc[frame["item"].duplicated(), "item"].iloc[0]
            raise UserError(f"{path}: item '{twice}' has several rows; keep one")
        matches = [TITLE_YEAR.match(t) for t in title]
        names = [m[1] if m else t for m, t in zip(matches, title, strict=True)]
        frame["title"] = pd.Series(names, dtype=str)
        frame["year"] = [float(m[2]) if m else np.nan for m in matches]
        if frame["year"].notna().all():
            frame["year"] = frame["year"].astype(np.int64)
        frame["genres"] = pd.Series(list(genres), dtype=object)
        return frame

    def _found(self) -> tuple[Path, Layout]:
        """The folder and its layout; downloads it if needed."""
        folder = self._raw / self._path
        if self._download and not folder.exists():
            if folder.name not in MD5:
                raise UserError(
                    f"dataset.download has {', '.join(MD5)}, not '{folder.name}' (dataset.path)"
                )
            fetch_folder(f"{BASE_URL}{folder.name}.zip", MD5[folder.name], folder)
        source = self._source
        if not self._download:
            source = f"{source or BASE_URL} (or set dataset.download=true)"
        locate(self._raw, self._path, source)
        for layout in (ML_100K, ML_1M):
            if (folder / layout.ratings).is_file():
                return folder, layout
        raise UserError(
            f"{folder} has neither {ML_100K.ratings} (ml-100k) nor {ML_1M.ratings} (ml-1m); "
            f"get them from {source}"
        )


def _movie_100k(line: str) -> tuple[int, str, list[str] | None]:
    """`id|title|release date|video release|url|19 flags`."""
    fields = line.split("|")
    flags = fields[-len(GENRES_100K) :]
    if len(fields) != 5 + len(GENRES_100K) or not set(flags) <= {"0", "1"}:
        raise ValueError
    genres = [genre for genre, flag in zip(GENRES_100K, flags, strict=True) if flag == "1"]
    return int(fields[0]), fields[1], genres or None


def _movie_1m(line: str) -> tuple[int, str, list[str] | None]:
    """`id::title::genre|genre`."""
    item, title, genres = line.split("::")
    return int(item), title, [genre for genre in genres.split("|") if genre] or None
