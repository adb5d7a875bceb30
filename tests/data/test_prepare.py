"""From a CSV to arrays on disk: content, re-use, damage, full disks, and two at the same time."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest

from p_rnn.data import prepare as module
from p_rnn.data.dataset import Dataset, Sessions, open_dataset
from p_rnn.data.prepare import describe, prepare
from p_rnn.data.readers.options import ColumnsConfig, ItemTableConfig
from p_rnn.settings.errors import UserError
from p_rnn.settings.hydra_glue import load_config
from p_rnn.settings.sections import DatasetConfig, PathsConfig
from tests.conftest import random_log

RULES = DatasetConfig.of(
    name="shop",
    path="clicks.csv",
    columns=ColumnsConfig(),
    item_table=ItemTableConfig(path="items.csv"),
    min_item_support=2,
    test_days=2.0,
)


@pytest.fixture
def paths(tmp_path: Path) -> PathsConfig:
    raw = tmp_path / "raw"
    raw.mkdir()
    frame = random_log(seed=3, num_sessions=120, num_items=40)
    frame["item"] = "i" + frame["item"].astype(str)
    frame.sample(frac=1, random_state=0).to_csv(raw / "clicks.csv", index=False)
    items = pd.DataFrame({"item": [f"i{k}" for k in range(45)], "price": np.arange(45) / 2})
    items.to_csv(raw / "items.csv", index=False)
    return PathsConfig(str(raw), str(tmp_path / "prepared"))


def folders(paths: PathsConfig) -> list[str]:
    """All that stands in the prepared folder, temporaries included."""
    place = Path(paths.prepared)
    return sorted(entry.name for entry in place.iterdir()) if place.exists() else []


def lists(sessions: Sessions) -> list[list[int]]:
    bounds = sessions.offsets.tolist()
    return [sessions.items[a:b].tolist() for a, b in pairwise(bounds)]


def no_reading(*_: Any) -> Any:
    raise AssertionError("the events were read again")


def refused(run: Callable[[], Any], *parts: str) -> None:
    with pytest.raises(UserError) as error:
        run()
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


def test_arrays_equal_plain_python(paths: PathsConfig) -> None:
    dataset = prepare(RULES, paths)
    frame = pd.read_csv(Path(paths.raw) / "clicks.csv")
    sessions: dict[int, list[Any]] = {}
    for session, item, time in frame.itertuples(index=False):
        sessions.setdefault(session, []).append((time, item))
    sessions = {s: sorted(rows, key=lambda row: row[0]) for s, rows in sessions.items()}
    size = -1
    while size != sum(map(len, sessions.values())):
        size = sum(map(len, sessions.values()))
        sessions = {s: rows for s, rows in sessions.items() if len(rows) >= 2}
        events = [item for rows in sessions.values() for _, item in rows]
        sessions = {
            s: [row for row in rows if events.count(row[1]) >= 2] for s, rows in sessions.items()
        }
    rest = sorted(sessions.items(), key=lambda pair: pair[1][0][0])
    expected = {}
    for name in ("test", "valid"):
        cut = rest[-1][1][0][0] - 2 * 86_400
        expected[name] = [pair for pair in rest if pair[1][0][0] > cut]
        rest = [pair for pair in rest if pair[1][0][0] <= cut]
    expected["train"] = rest

    assert dataset.splits == ["train", "valid", "test"]
    for name, pairs in expected.items():
        stored = dataset.sessions(name)
        found = [[dataset.item_ids[i] for i in row] for row in lists(stored)]
        assert found == [[item for _, item in rows] for _, rows in pairs]
        assert stored.times.tolist() == [time for _, rows in pairs for time, _ in rows]
        ids = np.load(dataset.folder / name / "session_ids.npy")
        assert ids.tolist() == [session for session, _ in pairs]
        assert (stored.items.dtype, stored.offsets.dtype) == (np.int32, np.int64)
        assert stored.times.dtype == np.int64
        for array in (stored.items, stored.offsets, stored.times):
            assert isinstance(array, np.memmap)
            assert not array.flags.writeable
        counts = dataset.manifest["splits"][name]
        assert counts == {"events": len(stored.items), "sessions": len(pairs)}
    assert dataset.num_items == len({item for rows in sessions.values() for _, item in rows})
    for word in ("min_item_support", "train", f"{dataset.num_train_items}"):
        assert word in describe(dataset.manifest)


def test_item_properties_are_in_index_order(paths: PathsConfig) -> None:
    dataset = prepare(RULES, paths)
    (folder,) = dataset.folder.glob("items-*")
    price = np.load(folder / "price.npy")
    assert price.tolist() == [int(item[1:]) / 2 for item in dataset.item_ids]


def test_the_same_settings_are_not_prepared_twice(
    paths: PathsConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare(RULES, paths)
    before = {file: file.stat().st_mtime_ns for file in first.folder.rglob("*")}
    monkeypatch.setattr(module, "collect", no_reading)
    assert prepare(RULES, paths).folder == first.folder
    # A label and the way to the files are no rules.
    again = prepare(replace(RULES, source="elsewhere", straddling="whole"), paths)
    assert again.folder == first.folder
    assert {file: file.stat().st_mtime_ns for file in first.folder.rglob("*")} == before


@pytest.mark.parametrize(
    "change",
    [
        {"min_item_support": 3},
        {"drop_repeats": True},
        {"test_days": 1.5},
        {"validation": False},
        {"straddling": "truncate"},
        {"max_session_length": 11},
        {"duplicates": "keep"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_rule_makes_another_folder(paths: PathsConfig, change: dict[str, Any]) -> None:
    one, two = prepare(RULES, paths), prepare(replace(RULES, **change), paths)
    assert one.folder != two.folder
    assert len(folders(paths)) == 2


def test_changed_files(paths: PathsConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    one = prepare(RULES, paths)
    items = Path(paths.raw) / "items.csv"
    items.write_text(items.read_text().replace("i1,0.5", "i1,99"))
    with monkeypatch.context() as patch:
        patch.setattr(module, "collect", no_reading)
        assert prepare(RULES, paths).folder == one.folder
    assert len(list(one.folder.glob("items-*"))) == 2
    prepare(RULES.but(item_table=ItemTableConfig(path="items.csv", columns=["price"])), paths)
    assert len(list(one.folder.glob("items-*"))) == 3

    with (Path(paths.raw) / "clicks.csv").open("a") as file:
        file.write("0,i0,999\n")
    assert prepare(RULES, paths).folder != one.folder
    assert len(folders(paths)) == 2


def full_disk(number: int | None, after: int) -> Callable[..., None]:
    """np.save until the disk is full, after some files; NumPy itself leaves `errno` empty."""
    real, calls = np.save, [0]

    def save(*args: Any, **kwargs: Any) -> None:
        calls[0] += 1
        if calls[0] <= after:
            real(*args, **kwargs)
        elif number is None:
            raise OSError("100000 requested and 8176 written")
        else:
            raise OSError(number, "No space left on device")

    return save


@pytest.mark.parametrize("after", [0, 3])
def test_a_full_disk_leaves_nothing_behind(
    paths: PathsConfig, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    monkeypatch.setattr(np, "save", full_disk(errno.ENOSPC, after))
    refused(lambda: prepare(RULES, paths), "disk is full", paths.prepared, "paths.prepared")
    assert folders(paths) == []
    monkeypatch.undo()
    prepare(RULES, paths)


def test_a_disk_that_fills_up_within_an_array(
    paths: PathsConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(np, "save", full_disk(None, after=5))
    refused(lambda: prepare(RULES, paths), "disk is full", "paths.prepared")


def test_any_failure_leaves_nothing_behind(
    paths: PathsConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in (KeyboardInterrupt(), RuntimeError("bug"), UserError("no")):
        monkeypatch.setattr(module, "write_manifest", Mock(side_effect=error))
        with pytest.raises(type(error)):
            prepare(RULES, paths)
        assert folders(paths) == []


def test_a_failure_in_the_item_table_keeps_the_events(
    paths: PathsConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = prepare(RULES.but(item_table=None), paths)
    assert not list(one.folder.glob("items-*"))
    monkeypatch.setattr(np, "save", full_disk(errno.ENOSPC, after=0))
    refused(lambda: prepare(RULES, paths), "disk is full")
    assert open_dataset(one.folder).folder == one.folder
    assert [entry.name for entry in one.folder.iterdir() if entry.name.startswith(".")] == []


def test_an_unusable_place_is_refused_in_one_line(paths: PathsConfig) -> None:
    file = Path(paths.raw) / "file"
    file.touch()
    refused(lambda: prepare(RULES, PathsConfig(paths.raw, f"{file}/sub")), "paths.prepared")


def test_a_file_in_place_of_the_prepared_folder_is_refused(paths: PathsConfig) -> None:
    file = Path(paths.raw) / "file"
    file.touch()
    refused(lambda: prepare(RULES, PathsConfig(paths.raw, str(file))), "paths.prepared")


def edit_manifest(folder: Path, **changes: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "foreign": (lambda f: (shutil.rmtree(f), f.mkdir(), (f / "notes.txt").touch()), "damaged"),
    "other kind": (lambda f: edit_manifest(f, format="cats"), "not a prepared data set"),
    "version": (lambda f: edit_manifest(f, format_version=999), "format version 999"),
    "no JSON": (lambda f: (f / "manifest.json").write_text("{"), "damaged"),
    "JSON list": (lambda f: (f / "manifest.json").write_text("[]"), "damaged"),
    "no UTF-8": (lambda f: (f / "manifest.json").write_bytes(b"\xff"), "damaged"),
    "no array": (lambda f: (f / "test" / "times.npy").unlink(), "damaged"),
    "empty array": (lambda f: (f / "train" / "items.npy").write_bytes(b""), "damaged"),
    "short array": (
        lambda f: np.save(f / "train" / "items.npy", np.zeros(3, dtype=np.int32)),
        "train/items.npy",
    ),
    "bytes missing": (
        lambda f: (f / "train" / "items.npy").write_bytes(
            (f / "train" / "items.npy").read_bytes()[:-40]
        ),
        "damaged",
    ),
    "ids": (lambda f: np.save(f / "item_ids.npy", np.arange(2)), "item_ids"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_refused_by_name(paths: PathsConfig, damage: str) -> None:
    folder = prepare(RULES, paths).folder
    harm, says = DAMAGES[damage]
    harm(folder)
    refused(lambda: prepare(RULES, paths), str(folder), "delete", says)


def test_two_that_prepare_at_the_same_time_both_succeed(
    paths: PathsConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the writing of one, another one prepares the same from beginning to end."""
    other: list[Dataset] = []

    def meanwhile(name: str) -> None:
        real = getattr(module, name)

        def write(*args: Any) -> Any:
            monkeypatch.setattr(module, name, real)
            other.append(prepare(RULES, paths))
            return real(*args)

        monkeypatch.setattr(module, name, write)

    meanwhile("_write_events")
    mine = prepare(RULES, paths)
    shutil.rmtree(next(mine.folder.glob("items-*")))
    meanwhile("write_item_table")
    prepare(RULES, paths)
    assert [x.folder for x in other] == [mine.folder] * 2
    assert folders(paths) == [mine.folder.name]
    assert len(list(mine.folder.glob("*items-*"))) == 1
    open_dataset(mine.folder)


def test_training_sessions_of_a_split_by_time(paths: PathsConfig) -> None:
    dataset = prepare(RULES, paths)
    train, known = dataset.training_sessions(with_validation=False)
    assert lists(train) == lists(dataset.sessions("train"))
    assert known == dataset.num_train_items
    both, seen = dataset.training_sessions(with_validation=True)
    assert lists(both) == lists(dataset.sessions("train")) + lists(dataset.sessions("valid"))
    starts = both.times[both.offsets[:-1]]
    assert (np.diff(starts) >= 0).all()
    assert seen == len(set(both.items.tolist())) == both.items.max() + 1


def leave_one_out(paths: PathsConfig, **rules: Any) -> tuple[Dataset, list[list[str]]]:
    """A prepared data set and what it should train on with validation: all but the last event."""
    own = replace(RULES, split="leave_one_out", test_days=None, min_item_support=None)
    dataset = prepare(own.but(min_session_length=None, item_table=None, **rules), paths)
    frame = pd.read_csv(Path(paths.raw) / "clicks.csv")
    cut, gap = [], rules.get("session_gap_s", np.inf)
    for _, rows in frame.groupby("session", sort=False):
        rows = rows.sort_values("time", kind="stable")
        pieces = (rows["time"].diff() > gap).cumsum()
        cut += [piece for _, piece in rows.groupby(pieces)]
    cut.sort(key=lambda rows: rows["time"].iloc[0])
    items = [rows["item"].tolist() for rows in cut]
    return dataset, [row[:-1] if len(row) >= 3 else row for row in items]


def test_training_sessions_of_leave_one_out(paths: PathsConfig) -> None:
    dataset, expected = leave_one_out(paths)
    both, seen = dataset.training_sessions(with_validation=True)
    assert [[dataset.item_ids[i] for i in row] for row in lists(both)] == expected
    assert {len(row) for row in expected} >= {1, 2, 3}
    assert seen == len(set(both.items.tolist())) == both.items.max() + 1
    assert (np.diff(both.times[both.offsets[:-1]]) >= 0).all()


def test_training_sessions_of_leave_one_out_after_cutting_a_stream(paths: PathsConfig) -> None:
    path = Path(paths.raw) / "clicks.csv"
    frame = pd.read_csv(path)
    frame["session"] %= 10  # ten visitors
    frame.to_csv(path, index=False)
    dataset, expected = leave_one_out(paths, session_gap_s=600.0, duplicates="keep")
    both, _ = dataset.training_sessions(with_validation=True)
    found = [[dataset.item_ids[i] for i in row] for row in lists(both)]
    assert sorted(found) == sorted(expected)


def test_reference_counts_of_real_data(raw_data: Path, tmp_path: Path) -> None:
    """Counts of an independent implementation, with cold items dropped from the test."""
    config = load_config(
        "dataset=retailrocket_week",
        "dataset.min_item_support=1",
        "dataset.validation=false",
        f"paths.raw={raw_data}",
        f"paths.prepared={tmp_path}",
    )
    dataset = prepare(config.dataset, config.paths)
    train = dataset.sessions("train")
    assert (train.num_events, train.num_sessions) == (43_053, 13_604)
    assert dataset.num_train_items == 13_265
    warm = [
        [i for i in row if i < dataset.num_train_items] for row in lists(dataset.sessions("test"))
    ]
    warm = [row for row in warm if len(row) >= 2]
    counts = (sum(map(len, warm)), len(warm), sum(len(row) - 1 for row in warm))
    assert counts == (2_156, 693, 1_463)
