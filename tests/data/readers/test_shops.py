"""The readers of three public releases, on small files in their original layouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from p_rnn.data.features import BagFeature
from p_rnn.data.item_table import last_values
from p_rnn.data.prepare import prepare
from p_rnn.data.readers.diginetica import DigineticaReader
from p_rnn.data.readers.retailrocket import RetailRocketReader
from p_rnn.data.readers.yoochoose import YoochooseReader
from p_rnn.runs.comparison import load_features
from p_rnn.settings.errors import UserError
from p_rnn.settings.hydra_glue import load_config
from p_rnn.settings.resolve import resolve

ROCKET = {
    "events.csv": "timestamp,visitorid,event,itemid,transactionid\n"
    "1433221332117,257597,view,355908,\n"
    "1433224214164,992329,addtocart,248676,\n"
    "1433221999827,111016,transaction,318965,4000\n",
    "item_properties_part1.csv": "timestamp,itemid,property,value\n"
    "1435460400000,355908,categoryid,1338\n"
    "1441508400000,248676,888,1116713 960601 n277.200\n"
    "1439089200000,318965,790,n360.000\n",
    "item_properties_part2.csv": "timestamp,itemid,property,value\n"
    "1436065200000,355908,categoryid,1400\n"
    "1436065200000,248676,categoryid,1338\n"
    "1436065200000,318965,available,0\n",
    "category_tree.csv": "categoryid,parentid\n1016,213\n1338,1016\n1400,1400\n213,\n",
}
DIGINETICA = {
    "train-item-views.csv": "sessionId;userId;itemId;timeframe;eventdate\n"
    "1;NA;81766;526309;2016-05-09\n"
    "1;7;31331;1031018;2016-05-09\n"
    "2;NA;32118;243569;2016-05-10\n",
    "products.csv": "itemId;pricelog2;product.name.tokens\n81766;10;4875,776,56689\n31331;;\n",
    "product-categories.csv": "itemId;categoryId\n81766;1096\n32118;16\n",
}
YOOCHOOSE = {
    "yoochoose-clicks.dat": "1,2014-04-07T10:51:09.277Z,214536502,0\n"
    "1,2014-04-07T10:54:09.868Z,214536500,S\n"
    "2,2014-04-07T13:56:37.614Z,214662742,2089294838\n"
}
READERS: dict[str, tuple[dict[str, str], Any]] = {
    "retailrocket": (ROCKET, RetailRocketReader),
    "diginetica": (DIGINETICA, DigineticaReader),
    "yoochoose": (YOOCHOOSE, YoochooseReader),
}


def write(raw: Path, name: str, changes: dict[str, str] | None = None, **settings: Any) -> Any:
    files, reader = READERS[name]
    (raw / name).mkdir(exist_ok=True)
    for file, text in {**files, **(changes or {})}.items():
        (raw / name / file).write_text(text)
    return reader(raw, "the moon", **settings)


def rows(frame: pd.DataFrame, *columns: str) -> list[list[Any]]:
    """Values, with None for all that is missing."""
    return [
        [None if np.ndim(v) == 0 and pd.isna(v) else v for v in row]
        for row in frame[list(columns)].astype(object).to_numpy().tolist()
    ]


def test_retailrocket(tmp_path: Path) -> None:
    reader = write(tmp_path, "retailrocket", properties=["888"])
    events = pd.concat(list(reader.events()))
    assert rows(events, "session", "item", "time", "event_type") == [
        [257597, 355908, 1433221332.117, "view"],
        [992329, 248676, 1433224214.164, "addtocart"],
        [111016, 318965, 1433221999.827, "transaction"],
    ]
    columns = ("item", "time", "category", "categories", "property_888")
    assert rows(reader.items(), *columns) == [
        [355908, 1435460400.0, "1338", ["213", "1016", "1338"], None],
        [248676, 1441508400.0, None, None, ["1116713", "960601", "n277.200"]],
        [355908, 1436065200.0, "1400", ["1400"], None],  # the circle ends where it closes
        [248676, 1436065200.0, "1338", ["213", "1016", "1338"], None],
    ]
    assert [path.name for path in reader.item_sources()] == list(ROCKET)[1:]


def test_diginetica(tmp_path: Path) -> None:
    reader = write(tmp_path, "diginetica")
    events = pd.concat(list(reader.events()))
    day = 1462752000  # 2016-05-09 in UTC
    assert rows(events, "session", "item", "time") == [
        [1, 81766, day + 526.309],
        [1, 31331, day + 1031.018],
        [2, 32118, day + 86_400 + 243.569],
    ]
    items = reader.items().sort_values("item")
    assert rows(items, "item", "name", "price_log2", "category") == [
        [31331, None, None, None],
        [32118, None, None, "16"],
        [81766, ["4875", "776", "56689"], 10, "1096"],
    ]


def test_yoochoose(tmp_path: Path) -> None:
    reader = write(tmp_path, "yoochoose")
    events = pd.concat(list(reader.events()))
    assert rows(events, "session", "item", "time") == [
        [1, 214536502, 1396867869.277],
        [1, 214536500, 1396868049.868],
        [2, 214662742, 1396878997.614],
    ]
    assert reader.items() is None


BAD = [
    ("retailrocket", "events.csv", "x,5,view,6,\n", ["events.csv, line 5", "'x'"]),
    (
        "diginetica",
        "train-item-views.csv",
        "3;NA;x;5;2016-05-09\n",
        ["train-item-views.csv, line 5: 'itemId' is 'x', not an integer"],
    ),
    ("diginetica", "train-item-views.csv", "3;NA;4;5;noon\n", ["line 5", "not a date"]),
    ("diginetica", "train-item-views.csv", "3;NA;4;;2016-05-09\n", ["'timeframe' is missing"]),
    ("yoochoose", "yoochoose-clicks.dat", "3,noon,4,0\n", ["line 4: 'time' is 'noon'"]),
    (
        "yoochoose",
        "yoochoose-clicks.dat",
        "3,2014-04-07T10:51:09.277Z,,0\n",
        ["line 4: 'item' is missing"],
    ),
]


@pytest.mark.parametrize(("name", "file", "line", "parts"), BAD)
def test_bad_events(tmp_path: Path, name: str, file: str, line: str, parts: list[str]) -> None:
    reader = write(tmp_path, name, {file: READERS[name][0][file] + line})
    with pytest.raises(UserError) as caught:
        list(reader.events())
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_bad_properties(tmp_path: Path) -> None:
    reader = write(tmp_path, "retailrocket", properties=["11"])
    with pytest.raises(UserError, match="no item has the property '11'"):
        reader.items()
    part = "item_properties_part2.csv"
    for line, words in (
        ("noon,1,categoryid,1\n", "line 5: 'timestamp' is 'noon'"),
        ("5,x,categoryid,1\n", "line 5: 'itemid' is 'x'"),
    ):
        reader = write(tmp_path, "retailrocket", {part: ROCKET[part] + line})
        with pytest.raises(UserError, match=words):
            reader.items()


@pytest.mark.parametrize("name", list(READERS))
def test_missing_files(tmp_path: Path, name: str) -> None:
    reader = READERS[name][1](tmp_path, "the moon")
    with pytest.raises(UserError, match="is missing: get it from the moon"):
        reader.sources()


def test_last_values_before_the_end() -> None:
    frame = pd.DataFrame(
        {
            "item": [1, 1, 1, 2, 2, 3, 1],
            "time": [5.0, 9.0, 7.0, 11.0, np.nan, 8.0, 7.0],
            "a": ["old", "later", None, "too late", "undated", None, "same time"],
            "b": [[1], None, [2], None, None, None, None],
        }
    )
    assert rows(last_values(frame, 8.0), "item", "a", "b") == [
        [1, "same time", [2]],
        [2, "undated", None],
        [3, None, None],
    ]


def test_a_whole_shop(tmp_path: Path) -> None:
    """From the files to features: what an item was before the test, not what it became."""
    start_ms, hour_ms = 1433000000000, 3_600_000
    lines = ["timestamp,visitorid,event,itemid,transactionid"]
    for n in range(200):
        for step in range(3):
            time = start_ms + n * 3 * hour_ms + step * 60_000
            lines.append(f"{time},{n % 7},view,{(n + step * step) % 10},")
            lines.append(f"{time + 1},{n % 7},addtocart,{(n + 1) % 10},")
    middle, late = start_ms + 5 * hour_ms, start_ms + 199 * 3 * hour_ms
    properties = ["timestamp,itemid,property,value"]
    properties += [f"{middle},{k},categoryid,{1338 if k < 5 else 1016}" for k in range(10)]
    changes = {
        "events.csv": "\n".join(lines) + "\n",
        "item_properties_part1.csv": "\n".join(properties) + "\n",
        "item_properties_part2.csv": f"timestamp,itemid,property,value\n{late},0,categoryid,213\n",
    }
    write(tmp_path, "retailrocket", changes)
    paths = [f"paths.raw={tmp_path}", f"paths.prepared={tmp_path}/prepared"]
    config = resolve(load_config("dataset=retailrocket", "model=parallel", *paths))
    dataset = prepare(config.dataset, config.paths)
    assert dataset.num_items == 10
    features = load_features(config, dataset)
    category, path = features["category"], features["categories"]
    assert isinstance(category, BagFeature)
    assert isinstance(path, BagFeature)
    of = {int(i): category.tokens[category.offsets[k]] for k, i in enumerate(dataset.item_ids)}
    assert len(set(of.values())) == 2
    assert of[0] == of[4] != of[5]  # the last value came too late
    sizes = dict(zip(dataset.item_ids.tolist(), np.diff(path.offsets).tolist(), strict=True))
    assert (sizes[0], sizes[9]) == (3, 2)
    write(tmp_path, "diginetica")
    items = resolve(load_config("dataset=diginetica", "model=parallel", *paths)).dataset
    assert list(items.features) == ["category", "name", "price"]
