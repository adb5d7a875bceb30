"""The reader of the original MovieLens releases on tiny copies of their layouts."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from p_rnn.data.readers.movielens import MovieLensReader
from p_rnn.settings.errors import UserError

DATA = "196\t242\t3\t881250949\n186\t2\t3\t891717742\n196\t2\t1\t881250949\n"
FLAGS = "|0|0|0|1|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0"
ITEM = (
    f"2|Caf\xe9 (The) (1995)|01-Jan-1995||http://us.imdb.com/x{FLAGS}\n"
    f"242|unknown||||1{FLAGS[2:].replace('1', '0')}\n"
)
RATINGS = "1::1193::5::978300760\n1::661::3::978302109\n2::1193::4::978298413\n"
MOVIES = "1193::Toy: A Story (1995)::Animation|Children's\n661::Caf\xe9 (1996)::Drama\n"


def write(
    raw: Path, ratings: str | None = None, movies: str | None = None, one_m: bool = False
) -> MovieLensReader:
    """A folder in the layout of ml-100k or ml-1m, and its reader."""
    folder = raw / "ml"
    folder.mkdir(exist_ok=True)
    names = ("ratings.dat", "movies.dat") if one_m else ("u.data", "u.item")
    defaults = (RATINGS, MOVIES) if one_m else (DATA, ITEM)
    for name, text, default in zip(names, (ratings, movies), defaults, strict=True):
        (folder / name).write_text(default if text is None else text, encoding="latin-1")
    return MovieLensReader(raw, "https://example.org", path="ml")


def fails(reader: MovieLensReader, *parts: str, items: bool = False) -> None:
    with pytest.raises(UserError) as caught:
        reader.items() if items else list(reader.events())
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_100k(tmp_path: Path) -> None:
    reader = write(tmp_path)
    events, items = pd.concat(list(reader.events())), reader.items()
    assert list(events.columns) == ["session", "item", "time"]
    assert events.dtypes.tolist() == [np.int64, np.int64, np.float64]
    assert events.to_numpy().tolist() == [
        [196, 242, 881250949],
        [186, 2, 891717742],
        [196, 2, 881250949],
    ]
    assert items["item"].tolist() == [2, 242]
    assert items["title"].tolist() == ["Caf\xe9 (The)", "unknown"]
    assert items["year"].fillna(-1).tolist() == [1995, -1]
    assert items["genres"].tolist() == [["Animation", "Children's", "Comedy"], ["unknown"]]
    assert reader.sources() == [tmp_path / "ml" / "u.data"]
    assert reader.item_sources() == [tmp_path / "ml" / "u.item"]


def test_1m(tmp_path: Path) -> None:
    reader = write(tmp_path, one_m=True)
    events, items = pd.concat(list(reader.events())), reader.items()
    assert events.to_numpy().tolist() == [
        [1, 1193, 978300760],
        [1, 661, 978302109],
        [2, 1193, 978298413],
    ]
    assert events.dtypes.tolist() == [np.int64, np.int64, np.float64]
    assert items["item"].tolist() == [1193, 661]
    assert items["title"].tolist() == ["Toy: A Story", "Caf\xe9"]
    assert items["year"].tolist() == [1995, 1996]
    assert items["year"].dtype == np.int64
    assert items["genres"].tolist() == [["Animation", "Children's"], ["Drama"]]
    assert reader.sources() == [tmp_path / "ml" / "ratings.dat"]


@pytest.mark.parametrize(
    ("one_m", "ratings", "parts"),
    [
        (False, DATA + "1\t2\t3\tnoon\n", ["u.data, line 4", "'time' is 'noon'"]),
        (False, DATA + "1\t2\n", ["u.data, line 4", "'time' is missing"]),
        (False, DATA + "\n\t2\t3\t4\n", ["u.data, line 5", "'session' is missing"]),
        (False, DATA + "1\t2\t3\t4\t5\n", ["u.data, line 4 has 5 fields"]),
        (False, "", ["u.data is empty"]),
        (True, RATINGS + "1::x::3::4\n", ["ratings.dat, line 4", "'item' is 'x'"]),
        (True, RATINGS + "1::2::3\n", ["ratings.dat, line 4", "'time' is missing"]),
    ],
)
def test_bad_ratings(tmp_path: Path, one_m: bool, ratings: str, parts: list[str]) -> None:
    fails(write(tmp_path, ratings, one_m=one_m), *parts)


@pytest.mark.parametrize(
    ("one_m", "movies", "parts"),
    [
        (False, ITEM + "3|Title|x\n", ["u.item, line 3 is not a line of u.item", "'3|Title|x'"]),
        (False, ITEM + ITEM, ["u.item: item '2' has several rows"]),
        (False, "\n", ["u.item contains no movies"]),
        (True, MOVIES + "x::Title::Drama\n", ["movies.dat, line 3 is not a line of movies.dat"]),
    ],
)
def test_bad_movies(tmp_path: Path, one_m: bool, movies: str, parts: list[str]) -> None:
    fails(write(tmp_path, movies=movies, one_m=one_m), *parts, items=True)


def test_missing_files(tmp_path: Path) -> None:
    reader = MovieLensReader(tmp_path, "the moon", path="ml-1m")
    fails(reader, "ml-1m is missing: get it from the moon", "dataset.download=true")
    (tmp_path / "ml-1m").mkdir()
    fails(reader, "neither u.data (ml-100k) nor ratings.dat (ml-1m)", "the moon")
    write(tmp_path)
    (tmp_path / "ml" / "u.item").unlink()
    fails(MovieLensReader(tmp_path, "the moon", path="ml"), "u.item is missing", items=True)


@pytest.mark.parametrize(
    ("path", "counts"),
    [
        ("movielens/ml-100k", (100_000, 943, 1_682, 1_682)),
        ("movielens/ml-1m", (1_000_209, 6_040, 3_706, 3_883)),
    ],
)
def test_real_movielens(path: str, counts: tuple[int, int, int, int]) -> None:
    raw = os.environ.get("P_RNN_RAW_DATA")
    if not raw or not (Path(raw) / path).is_dir():
        pytest.skip(f"P_RNN_RAW_DATA is not set, or has no {path}: the release is not tested")
    reader = MovieLensReader(Path(raw), "", path=path)
    events, items = pd.concat(list(reader.events())), reader.items()
    users, rated = events["session"].nunique(), events["item"].nunique()
    assert (len(events), users, rated, len(items)) == counts
