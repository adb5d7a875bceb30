"""The Globo reader on a tiny log and on the real one."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from p_rnn.data.readers.globo import GloboReader
from p_rnn.settings.errors import UserError

HEAD = "user_id,session_id,session_start,session_size,click_article_id,click_timestamp,click_os\n"
HOURS = [
    HEAD + "5,1506828988347444,1506828988000,3,11,1506828988615,2\n"
    "5,1506828988347444,1506828988000,3,12,1506829330533,2\n",
    HEAD,  # an hour without clicks
    HEAD + "7,1506830000000001,1506830000000,2,11,1506830000007,2\n",
]
METADATA = (
    "article_id,category_id,created_at_ts,publisher_id,words_count\n"
    "11,281,1506828000500,0,190\n"
    "12,7,,,\n"
    "13,,1506828000000,0,0\n"
)


def write(raw: Path, hours: list[str] = HOURS, metadata: str = METADATA) -> GloboReader:
    folder = raw / "globo"
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "clicks.zip", "w") as archive:
        for number, text in reversed(list(enumerate(hours))):
            archive.writestr(f"clicks/clicks_hour_{number:03d}.csv", text)
    (folder / "articles_metadata.csv").write_text(metadata)
    return GloboReader(raw, "https://example.org")


def fails(reader: GloboReader, *parts: str, items: bool = False) -> None:
    with pytest.raises(UserError) as caught:
        reader.items() if items else list(reader.events())
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def check_events(reader: GloboReader) -> None:
    events = pd.concat(list(reader.events()), ignore_index=True)
    assert events["session"].tolist() == [1506828988347444, 1506828988347444, 1506830000000001]
    assert events["item"].tolist() == [11, 12, 11]
    assert events["time"].tolist() == [1506828988.615, 1506829330.533, 1506830000.007]
    assert events.dtypes.tolist() == [np.int64, np.int64, np.float64]


def test_events_in_the_order_of_hours(tmp_path: Path) -> None:
    reader = write(tmp_path)
    check_events(reader)
    assert reader.sources() == [tmp_path / "globo" / "clicks.zip"]


def test_unpacked_clicks(tmp_path: Path) -> None:
    write(tmp_path)
    with zipfile.ZipFile(tmp_path / "globo" / "clicks.zip") as archive:
        archive.extractall(tmp_path / "globo")
    (tmp_path / "globo" / "clicks.zip").unlink()
    reader = GloboReader(tmp_path, "")
    check_events(reader)
    assert len(reader.sources()) == 3


def test_items_with_gaps(tmp_path: Path) -> None:
    items = write(tmp_path).items()
    assert list(items.columns) == ["item", "category_id", "created_at", "words_count"]
    assert items["item"].tolist() == [11, 12, 13]
    assert items["category_id"].fillna("?").tolist() == ["281", "7", "?"]
    assert items["created_at"].fillna(-1).tolist() == [1506828000.5, -1, 1506828000.0]
    assert items["words_count"].fillna(-1).tolist() == [190, -1, 0]


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        ("1,2,3,4,11,x,2\n", ["line 3", "'click_timestamp' is 'x', not an integer"]),
        ("1,2,3,4,11,,2\n", ["line 3", "'click_timestamp' is missing"]),
        ("1,,3,4,11,5,2\n", ["line 3", "'session_id' is missing"]),
        ("1,2,3,4,1.5,5,2\n", ["line 3", "'click_article_id' is '1.5', not an integer"]),
    ],
)
def test_bad_clicks(tmp_path: Path, row: str, parts: list[str]) -> None:
    good = HEAD + "1,2,3,4,11,5,2\n"
    fails(write(tmp_path, [HEAD, good + row]), "clicks_hour_001.csv in ", "clicks.zip", *parts)


def test_bad_files(tmp_path: Path) -> None:
    fails(write(tmp_path, [HEAD]), "clicks.zip contains no clicks", "get a new copy")
    fails(write(tmp_path, ["a,b\n1,2\n"]), "no column 'session_id'", "Known: a, b")
    fails(write(tmp_path, []), "clicks.zip contains no .csv file")
    bad = METADATA + "14,3,yesterday,0,1\n"
    fails(write(tmp_path, metadata=bad), "line 5", "'yesterday', not a number", items=True)
    twice = METADATA + "12,8,,,\n"
    fails(write(tmp_path, metadata=twice), "item '12' has several rows", items=True)
    (tmp_path / "globo" / "clicks.zip").write_bytes(b"no zip")
    fails(GloboReader(tmp_path, ""), "clicks.zip is damaged")
    (tmp_path / "globo" / "clicks.zip").unlink()
    fails(GloboReader(tmp_path, "the moon"), "clicks.zip is missing: get it from the moon")


def test_real_globo() -> None:
    raw = os.environ.get("P_RNN_RAW_DATA")
    if not raw:
        pytest.skip("P_RNN_RAW_DATA is not set: globo is not tested")
    reader = GloboReader(Path(raw), "")
    events = pd.concat(list(reader.events()), ignore_index=True)
    items = reader.items()
    assert len(events) == 2_988_181
    assert events["session"].nunique() == 1_048_594
    assert events["item"].nunique() == len(items) == 46_033
    assert events["time"].min() == pd.Timestamp("2017-10-01 03:00:00.026").timestamp()
    assert items.notna().sum().to_dict() == {
        "item": 46_033,
        "category_id": 44_583,
        "created_at": 9_906,
        "words_count": 10_414,
    }
    known = events["item"].map(items.set_index("item")["words_count"]).notna()
    assert known.mean() == pytest.approx(0.96, abs=0.005)
