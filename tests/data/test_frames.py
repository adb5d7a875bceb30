"""Data sets from pandas frames: the same arrays as from files, and messages that name the place."""

from __future__ import annotations

import datetime
import gc
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from p_rnn.data.features import prepare_features
from p_rnn.data.frames import Dataset
from p_rnn.data.prepare import prepare
from p_rnn.data.readers.frame import content_hash
from p_rnn.settings.errors import UserError
from p_rnn.settings.sections import DatasetConfig, PathsConfig
from tests.conftest import random_log

RULES: dict[str, Any] = {"min_item_support": 1, "test_days": 2.0}
KINDS = {"tags": "tags", "colour": "category", "size": "number", "image": "vector"}


def wares(text: bool = False) -> pd.DataFrame:
    """One row per item of `random_log`: text, numbers, lists, vectors, with gaps."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"sku": range(30)})
    frame["colour"] = [None if k % 7 == 0 else ["red", "green", "blue"][k % 3] for k in range(30)]
    frame["size"] = [np.nan if k == 3 else k / 8 for k in range(30)]
    frame["stock"] = rng.integers(0, 9, 30)
    frame["tags"] = [None if k == 5 else [f"t{k % 4}", f"u{k % 5}"] for k in range(30)]
    frame["image"] = list(rng.integers(1, 99, (30, 3)) / 8)
    return frame.assign(sku=[f"A{k}" for k in range(30)]) if text else frame


def log(text: bool = False) -> pd.DataFrame:
    frame = random_log(seed=1).rename(columns={"item": "sku", "session": "visit", "time": "at"})
    frame["kind"] = ["buy" if k % 5 == 0 else "view" for k in range(len(frame))]
    return frame.assign(sku="A" + frame["sku"].astype(str)) if text else frame


def of_frame(
    folder: Path, events: pd.DataFrame, items: pd.DataFrame | None = None, **given: Any
) -> Dataset:
    names = {"session": "visit", "item": "sku", "time": "at", "event_type": "kind"}
    return Dataset.from_frame(events, items, folder=folder, **{**names, **RULES, **given})


def files(folder: Path) -> dict[str, bytes]:
    """All arrays and texts below a prepared folder but manifests; without fingerprints in names."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "manifest.json":
            parts = [part.split("-")[0] for part in path.relative_to(folder).parts]
            found["/".join(parts)] = path.read_bytes()
    return found


def of_files(place: Path, events: pd.DataFrame, items: pd.DataFrame, **rules: Any) -> Any:
    """The same through CSV files and the reader `table`, with all features fitted."""
    events.to_csv(place / "clicks.csv", index=False)
    lists = items.assign(
        tags=["" if tags is None else "|".join(tags) for tags in items["tags"]],
        image=[json.dumps(list(vector)) for vector in items["image"]],
    )
    lists.to_csv(place / "items.csv", index=False)
    config = DatasetConfig.of(
        path="clicks.csv",
        columns={"session": "visit", "item": "sku", "time": "at", "event_type": "kind"},
        item_table={
            "path": "items.csv",
            "item": "sku",
            "list_columns": ["tags"],
            "list_separator": "|",
        },
        **RULES | rules,
    )
    paths = PathsConfig(str(place), str(place / "prepared"))
    prepared = prepare(config, paths)
    prepare_features(config, paths, prepared, None)
    return prepared


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"min_item_support": 30, "drop_repeats": True, "event_types": ["view"]},
        {"split": "leave_one_out", "test_days": None},
        {"session_gap_s": 40, "straddling": "truncate"},
        {"validation": False, "max_session_length": 5, "long_sessions": "split"},
    ],
)
def test_the_same_arrays_as_through_files(
    tmp_path: Path, text: bool, rules: dict[str, Any]
) -> None:
    events, items = log(text), wares(text)
    through = of_files(tmp_path, events, items, **rules)
    data = of_frame(tmp_path / "own", events, items, **rules)
    prepare_features(data.config, data.paths, data.prepared, None)
    found, expected = files(data.prepared.folder), files(through.folder)
    assert found == expected
    assert len(found) > 15
    assert data.prepared.manifest["rules"] == through.manifest["rules"]
    assert data.item_ids.dtype.kind == ("U" if text else "i")
    assert data.splits == through.manifest["splits"]
    assert data.features == ["colour", "size", "stock", "tags", "image"]


def test_times_as_people_have_them(tmp_path: Path) -> None:
    seconds = log()
    dates = pd.to_datetime(seconds["at"], unit="s")
    zone = datetime.timezone(datetime.timedelta(hours=2))
    expected = files(of_frame(tmp_path / "0", seconds).prepared.folder)
    as_objects = [None if pd.isna(x) else x.to_pydatetime() for x in dates]
    for number, times in enumerate(
        [
            seconds["at"].astype(float),
            seconds["at"].astype("Int64"),
            dates,
            dates.astype("datetime64[ms]"),
            dates.dt.tz_localize("UTC").dt.tz_convert("Europe/Budapest"),
            dates.dt.strftime("%Y-%m-%d %H:%M:%S"),
            dates.dt.tz_localize("UTC").dt.tz_convert(zone).astype(str),
            pd.Series(as_objects, dtype=object),
        ],
        start=1,
    ):
        data = of_frame(tmp_path / str(number), seconds.assign(at=times))
        assert files(data.prepared.folder) == expected, number
    in_ms = of_frame(tmp_path / "ms", seconds.assign(at=seconds["at"] * 1000), time_unit="ms")
    assert files(in_ms.prepared.folder) == expected


def test_ids_as_people_have_them(tmp_path: Path) -> None:
    numbers = log()
    expected = files(of_frame(tmp_path / "0", numbers).prepared.folder)
    for number, sku in enumerate(
        [
            numbers["sku"].astype(float),  # as where one was missing
            numbers["sku"].astype("Int64"),
            numbers["sku"].astype("int32"),
            numbers["sku"].astype("category"),
            numbers["sku"].astype(object),
        ],
        start=1,
    ):
        data = of_frame(tmp_path / str(number), numbers.assign(sku=sku))
        assert files(data.prepared.folder) == expected, number
    text = of_frame(tmp_path / "text", numbers.assign(sku=numbers["sku"].astype(str)))
    assert text.item_ids.dtype.kind == "U"  # text stays text, even where it is a number


def test_rows_without_an_id(tmp_path: Path) -> None:
    events = log()
    events["sku"] = events["sku"].where(events.index != 4)
    with pytest.raises(
        UserError, match=r"^events, iloc\[4\]: the id 'sku' is missing;.* set missing"
    ):
        of_frame(tmp_path / "a", events)
    data = of_frame(tmp_path / "b", events, missing_ids="drop")
    assert data.item_ids.dtype.kind == "i"
    rows = {line.split()[0]: line.split()[1] for line in data.describe().splitlines()}
    assert rows["missing_ids"] == "-1"


def test_sessions_of_several_columns_and_rows_in_time_order(tmp_path: Path) -> None:
    events = log().drop(columns=["at", "kind"]).assign(shop="a|b")
    data = of_frame(
        tmp_path,
        events,
        session=["shop", "visit"],
        time=None,
        event_type=None,
        split="leave_one_out",
        test_days=None,
    )
    first = np.load(data.prepared.folder / "train" / "session_ids.npy")[0]
    assert first == "a||b|0"
    assert set(data.splits) == {"train", "valid", "test"}


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([True, False, None] * 10, "number", [1.0, 0.0, np.nan]),
        (pd.array([True, False, None] * 10), "number", [1.0, 0.0, np.nan]),
        (pd.array([1, 2, None] * 10, dtype="Int64"), "number", [1.0, 2.0, np.nan]),
        (pd.Categorical(["x", "y", None] * 10), "text", ["x", "y", None]),
        ([{"a"}, ("b", "c"), []] * 10, "text", [["a"], ["b", "c"], None]),
        ([[1, 2], np.array([3]), None] * 10, "text", [[1, 2], [3], None]),
        ([[1, 0.5], np.array([3.0, 4.0]), None] * 10, "vector", [[1, 0.5], [3, 4], [np.nan] * 2]),
        (pd.to_datetime(["2020-01-01", "2020-01-02", None] * 10), "number", [1577836800.0]),
        (pd.array([2**60, 2**60 + 1, None] * 10, dtype="Int64"), "text", [2**60, 2**60 + 1, None]),
    ],
)
def test_cells_as_people_have_them(
    tmp_path: Path, values: Any, kind: str, expected: list[Any]
) -> None:
    items = pd.DataFrame({"sku": range(30), "x": pd.Series(values)})
    data = of_frame(tmp_path, log(), items)
    (table,) = data.prepared.folder.glob("items-*")
    assert json.loads((table / "manifest.json").read_text())["properties"]["x"]["kind"] == kind
    order = np.argsort(data.item_ids)[: len(expected)]
    if kind == "text":
        lines = (table / "x.jsonl").read_text().splitlines()
        assert [json.loads(lines[at]) for at in order] == expected
    else:
        np.testing.assert_array_equal(np.load(table / "x.npy")[order], np.array(expected))


def test_frames_stay_as_they_are(tmp_path: Path) -> None:
    events, items = log().sample(frac=1, random_state=1), wares().set_index(pd.Index(range(5, 35)))
    before = events.copy(deep=True), items.copy(deep=True)
    tags = [list(tags or []) for tags in items["tags"]]
    data = of_frame(tmp_path, events, items, features=KINDS)
    prepare_features(data.config, data.paths, data.prepared, None)
    pd.testing.assert_frame_equal(events, before[0])
    pd.testing.assert_frame_equal(items, before[1])
    assert [list(each or []) for each in items["tags"]] == tags


def test_chosen_features(tmp_path: Path) -> None:
    items = wares().assign(title="a long title", odd=[{"no": "property"}] * 30)
    assert of_frame(tmp_path, log(), items, features=["tags", "size"]).features == ["tags", "size"]
    data = of_frame(
        tmp_path,
        log(),
        items,
        features={"words": {"kind": "hashed", "columns": ["tags"], "num_buckets": 8}, "size": None},
    )
    made = prepare_features(data.config, data.paths, data.prepared, None)
    assert {name: type(each).__name__ for name, each in made.items()} == {
        "words": "BagFeature",
        "size": "DenseFeature",
    }
    assert of_frame(tmp_path, log(), items, features=[]).features == []
    assert of_frame(tmp_path, log()).features == []


def test_what_is_prepared_is_found_again(tmp_path: Path) -> None:
    first = of_frame(tmp_path, log(), wares())
    again = of_frame(tmp_path, log().set_index(pd.Index(range(5, 5 + len(log())))), wares())
    assert again.prepared.folder == first.prepared.folder
    other = of_frame(tmp_path, log(), wares().assign(size=1.0))
    assert other.prepared.folder == first.prepared.folder
    assert len(list(first.prepared.folder.glob("items-*"))) == 2
    late = log()
    late.loc[3, "at"] += 1
    assert of_frame(tmp_path, late).prepared.folder != first.prepared.folder


def test_the_hash_tells_apart() -> None:
    frames = [
        pd.DataFrame({"a": [1, 2]}),
        pd.DataFrame({"a": [2, 1]}),
        pd.DataFrame({"b": [1, 2]}),
        pd.DataFrame({"a": [1.0, 2.0]}),
        pd.DataFrame({"a": ["1", "2"]}),
        pd.DataFrame({"a": [["1"], ["2"]]}),
        pd.DataFrame({"a": [["1", "2"], []]}),
        pd.DataFrame({"a": [np.array([1.0]), None]}),
        pd.DataFrame({"a": [np.array([1.5]), None]}),
        pd.DataFrame({"a": [1, 2, 3]}),
    ]
    assert len({content_hash(frame) for frame in frames}) == len(frames)
    assert content_hash(frames[0]) == content_hash(frames[0].set_index(pd.Index([7, 8])))


def test_a_temporary_folder_goes_with_the_data_set(tmp_path: Path) -> None:
    data = of_frame(None, log())  # type: ignore[arg-type]
    place = Path(data.paths.prepared)
    assert place.is_dir()
    assert place.is_absolute()
    del data
    gc.collect()
    assert not place.exists()


def test_a_readable_repr(tmp_path: Path) -> None:
    data = of_frame(tmp_path, log(), wares(), name="shop")
    splits = ", ".join(f"{name} {n['sessions']:,}" for name, n in data.splits.items())
    sessions = sum(n["sessions"] for n in data.splits.values())
    assert repr(data) == (
        f"Dataset 'shop': {data.num_events:,} events, {sessions} sessions, {data.num_items} items; "
        f"{splits}; features: colour, size, stock, tags, image"
    )
    assert data.num_events == sum(n["events"] for n in data.splits.values())


BAD_EVENTS: list[tuple[Any, dict[str, Any], str]] = [
    (
        lambda e: e.drop(columns="sku"),
        {},
        r"^events: column 'sku' is missing; it has visit, at, kind$",
    ),
    (
        lambda e: e.set_index("sku"),
        {},
        r"^events: 'sku' is the index; pass events\.reset_index\(\)",
    ),
    (lambda e: e[:0], {}, "^events: the frame has no rows$"),
    (lambda e: e.to_dict(), {}, "^events must be a pandas DataFrame, not dict$"),
    (lambda e: pd.concat([e, e["sku"]], axis=1), {}, "^events: there are several columns 'sku'"),
    (lambda e: e, {"time": "sku"}, "^events: the columns .* must all be different"),
    (lambda e: e.assign(sku=e["sku"] + 0.5), {}, r"^events, iloc\[0\]: 'sku' is .*\.5, a floating"),
    (lambda e: e.assign(sku=[{}] * len(e)), {}, r"^events, iloc\[0\]: 'sku' is \{\}, neither"),
    (lambda e: e.assign(sku=True), {}, r"^events, iloc\[0\]: 'sku' is True, neither"),
    (
        lambda e: e.assign(at=e["at"].where(e.index != 7)),
        {},
        r"^events, iloc\[7\]: the time 'at' is mis",
    ),
    (
        lambda e: e.assign(at=e["at"].where(e.index != 7, np.inf)),
        {},
        r"^events, iloc\[7\]: 'at' is 'inf'",
    ),
    (lambda e: e.assign(at=e["at"] * 1e9), {}, r"'at' .* is after the year 2262 .*set time_unit"),
    (
        lambda e: e.assign(at="yesterday"),
        {},
        r"^events, iloc\[0\]: 'at' is 'yesterday', not an ISO",
    ),
    (
        lambda e: e.assign(at=pd.to_timedelta(e["at"], "s")),
        {},
        r"^events, iloc\[0\]: 'at' is .*, nei",
    ),
    (
        lambda e: pd.concat([e, e[:3]]),
        {},
        r"3 events are duplicates.*; set duplicates=drop or keep$",
    ),
    (
        lambda e: e,
        {"min_item_suport": 2},
        "no argument 'min_item_suport'; did you mean 'min_item_sup",
    ),
    (
        lambda e: e,
        {"min_item_support": 10**6},
        "^dataset frame: no events are left after min_item_su",
    ),
    (lambda e: e, {"min_item_support": "many"}, "^min_item_support: .*not a whole number"),
    (lambda e: e, {"test_days": None}, "^split=time needs test_days"),
    (lambda e: e, {"split": "given"}, "^split='given' is for files"),
    (lambda e: e, {"event_types": ["sale"]}, "sale"),
    (lambda e: e, {"features": ["tags"]}, "^features: 'tags' needs the frame items, or a file"),
    (
        lambda e: e,
        {"features": "tags"},
        r"^features must be a list or a dict, such as features=\['tags'\]",
    ),
    (lambda e: e, {"name": "a/b"}, "^name='a/b' names a folder"),
]


@pytest.mark.parametrize(("change", "given", "message"), BAD_EVENTS)
def test_what_is_wrong_with_the_events(
    tmp_path: Path, change: Any, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        of_frame(tmp_path, change(log()), **given)
    assert "dataset." not in str(error.value)
    assert "\n" not in str(error.value)


BAD_ITEMS: list[tuple[Any, dict[str, Any], str]] = [
    (lambda i: i.drop(columns="sku"), {}, "^items: column 'sku' is missing; it has colour, size"),
    (lambda i: i, {"features": ["price"]}, "^items: column 'price' is missing; it has sku, colour"),
    (
        lambda i: i.assign(sku=i["sku"].where(i["sku"] != 3)),
        {},
        r"^items, iloc\[3\]: the id 'sku' is missing",
    ),
    (
        lambda i: pd.concat([i, i[:2].assign(size=9)]),
        {},
        "^items: item '0' has several rows .*; keep one$",
    ),
    (
        lambda i: i.assign(sku="A" + i["sku"].astype(str)),
        {},
        "^items: item ids in the events are integers",
    ),
    (lambda i: i.assign(x=[{"a": 1}] * 30), {}, r"^items, iloc\[0\]: 'x' is \{'a': 1\}, neither"),
    (
        lambda i: i.assign(x=[[[1]]] * 30),
        {},
        r"^items, iloc\[0\]: 'x' is .*, a list of other things",
    ),
    (lambda i: i.assign(x=[["a"], "b"] * 15), {}, r"^items, iloc\[1\]: 'x' is b, not a list"),
    (
        lambda i: i.assign(x=[[1.5, 2], [1.5]] * 15),
        {},
        r"^items, iloc\[1\]: 'x' has 1 numbers, but",
    ),
    (lambda i: i.assign(time=1), {}, "^items: a feature cannot come from a column 'time'"),
    (lambda i: i, {"features": {"tags": "words"}}, "kind"),
    (
        lambda i: i,
        {"features": {"tags": {"kin": "tags"}}},
        "^unknown setting 'features.tags.kin'; did you",
    ),
]


@pytest.mark.parametrize(("change", "given", "message"), BAD_ITEMS)
def test_what_is_wrong_with_the_items(
    tmp_path: Path, change: Any, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        of_frame(tmp_path, log(), change(wares()), **given)
    assert "dataset." not in str(error.value)
    assert "\n" not in str(error.value)


def test_nothing_is_left_behind_by_a_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(UserError):
        of_frame(None, log(), min_item_support=10**6)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_data_set_by_name(tmp_path: Path) -> None:
    world = {"num_events": 3000, "num_items": 200}
    place = f"paths.prepared={tmp_path}"
    data = Dataset.from_name("synthetic", place, synthetic=world, min_item_support=3)
    assert data.num_items <= 200
    assert data.config.parameters["synthetic"]["seed"] is not None
    assert data.config.min_item_support == 3
    with pytest.raises(
        UserError, match="unknown dataset 'retailroket'; did you mean 'retailrocket'"
    ):
        Dataset.from_name("retailroket")
    log().to_csv(tmp_path / "clicks.csv", index=False)
    with pytest.raises(UserError, match=r"^dataset\.path must be given"):
        Dataset.from_name("table")
    columns = {"session": "visit", "item": "sku", "time": "at"}
    table = Dataset.from_name(
        "table", place, f"paths.raw={tmp_path}", path="clicks.csv", columns=columns, test_days=2
    )
    assert table.num_items == 30
    with pytest.raises(UserError, match="min_item_suport"):
        Dataset.from_name("synthetic", place, min_item_suport=3)
