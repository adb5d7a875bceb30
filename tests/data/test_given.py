"""Splits that somebody else has made: files of events, of users that go on, of histories."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p_rnn.data.dataset import Dataset, Sessions
from p_rnn.data.prepare import prepare
from p_rnn.runs.experiment import train
from p_rnn.settings.errors import UserError
from p_rnn.settings.hydra_glue import load_config
from p_rnn.settings.resolve import resolve

FILES = ("dataset.path=train.csv", "dataset.valid_path=valid.csv", "dataset.test_path=test.csv")
# u goes on from file to file, v from training to the test, w is in the test alone.
EVENTS = {
    "train.csv": "session,item,time\nu,a,1\nu,b,2\nv,b,5\nv,c,6\nv,a,7\nz,c,8\nz,d,9\n",
    "valid.csv": "session,item,time\nu,c,10\nu,d,11\nx,a,12\nx,b,13\n",
    "test.csv": "session,item,time\nw,d,18\nw,a,19\nu,a,20\nv,e,21\nv,d,22\n",
}


def run(folder: Path, files: dict[str, str], *overrides: str) -> Dataset:
    for name, text in files.items():
        (folder / name).write_text(text)
    paths = (f"paths.raw={folder}", f"paths.prepared={folder / 'prepared'}")
    config = load_config("dataset=given", *paths, *overrides)
    return prepare(config.dataset, config.paths)


def listed(dataset: Dataset, sessions: Sessions) -> list[Any]:
    """(items, events before the first target) of each session."""
    raw = dataset.item_ids[sessions.items]
    ends = sessions.offsets.tolist()
    rows = ["".join(map(str, raw[a:b])) for a, b in pairwise(ends)]
    if sessions.context is None:
        return rows
    return list(zip(rows, sessions.context.tolist(), strict=True))


def test_users_that_go_on_have_their_earlier_events_as_context(tmp_path: Path) -> None:
    dataset = run(tmp_path, EVENTS, *FILES)
    assert listed(dataset, dataset.sessions("train")) == ["ab", "bca", "cd"]
    assert listed(dataset, dataset.sessions("valid")) == [("abcd", 2), ("ab", 1)]
    assert listed(dataset, dataset.sessions("test")) == [("abcda", 4), ("bcaed", 3), ("da", 1)]
    ids = np.load(dataset.folder / "test" / "session_ids.npy")
    assert ids.tolist() == ["u", "v", "w"]
    assert dataset.manifest["rules"][0]["events"] == 16
    both, num_items = dataset.training_sessions(with_validation=True)
    assert listed(dataset, both) == ["abcd", "bca", "cd", "ab"]
    assert num_items == 4


def test_without_validation(tmp_path: Path) -> None:
    files = [FILES[0], FILES[2], "dataset.validation=false"]
    dataset = run(tmp_path, EVENTS, *files)
    assert dataset.splits == ["train", "test"]
    assert listed(dataset, dataset.sessions("test")) == [("aba", 2), ("bcaed", 3), ("da", 1)]


def test_files_without_times_go_on(tmp_path: Path) -> None:
    files = {"train.csv": "1 5 6\n2 6 7\n", "valid.csv": "1 7\n", "test.csv": "1 5\n2 5 6\n3 6 5\n"}
    reader = ["dataset.reader=sequences", "dataset.columns=null"]
    dataset = run(tmp_path, files, *FILES, *reader)
    assert listed(dataset, dataset.sessions("train")) == ["56", "67"]
    assert listed(dataset, dataset.sessions("valid")) == [("567", 2)]
    assert listed(dataset, dataset.sessions("test")) == [("5675", 3), ("6756", 2), ("65", 1)]
    for split in dataset.splits:
        parts = dataset.sessions(split)
        inside = np.setdiff1d(np.arange(1, len(parts.times)), parts.offsets)
        assert (np.diff(parts.times)[inside - 1] > 0).all()
    assert "dates" not in dataset.manifest


HISTORY = ("dataset.columns.history=history", "dataset.columns.time=null")


def test_histories(tmp_path: Path) -> None:
    """Training keeps the longest row of a chain, in whichever order; tests keep every row."""
    head = "history,item\n"
    files = {
        "train.csv": head + "a b c,d\na b,c\na,b\n" + "b,c\nb c,a\n" + "c d,e\n" + "b,c\n",
        "test.csv": head + "a b,c\na,b\nd,e\n",
    }
    settings = [FILES[0], FILES[2], "dataset.validation=false", *HISTORY]
    dataset = run(tmp_path, files, *settings)
    assert listed(dataset, dataset.sessions("train")) == ["abcd", "bca", "cde", "bc"]
    assert listed(dataset, dataset.sessions("test")) == [("abc", 2), ("ab", 1), ("de", 1)]
    rules = {row["rule"]: row for row in dataset.manifest["rules"]}
    assert rules["histories"] == {"rule": "histories", "events": 7, "sessions": 3, "items": 0}
    assert rules["read"]["events"] == 19 + 7


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ([FILES[0], *FILES[2:]], "needs dataset.valid_path, or dataset.validation=false"),
        ([*FILES[:2], "dataset.test_path=null"], "needs dataset.test_path"),
        ([*FILES, "dataset.validation=false"], "valid_path has no effect"),
        ([*FILES, "dataset.min_item_support=5"], "set dataset.min_item_support=null"),
        ([*FILES, "dataset.min_session_length=2"], "set dataset.min_session_length=null"),
        ([*FILES, "dataset.test_days=1"], "test_days has no effect with split=given"),
        ([*FILES, "dataset.columns.history=h"], "set dataset.columns.time=null"),
        (["dataset=table", "dataset.path=x", "dataset.test_path=y"], "without dataset.split=given"),
        (["dataset=table", "dataset.path=x", "dataset.columns.session=[]"], "must be a column"),
    ],
)
def test_settings_that_do_not_fit(overrides: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says) as error:
        resolve(load_config("dataset=given", *overrides))
    assert "\n" not in str(error.value)


def test_a_network_trains_on_given_splits(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, sessions in (("train", 60), ("valid", 15), ("test", 20)):
        rows = [
            f"{name}{s},{(start + k) % 9},{100 * s + k}"
            for s, start in enumerate(rng.integers(0, 9, sessions))
            for k in range(4)
        ]
        (tmp_path / f"{name}.csv").write_text("session,item,time\n" + "\n".join(rows) + "\n")
    paths = (f"paths.raw={tmp_path}", f"paths.prepared={tmp_path / 'prepared'}")
    quick = ("hidden_size=16", "num_epochs=6", "batch_size=8", "tracking.progress=false")
    config = load_config(
        "dataset=given", *FILES, *paths, *quick, "train_on_validation=true", "compile=never"
    )
    metrics = train(config, tmp_path / "run")
    assert metrics["results"]["test"]["id_only"]["targets"] == 60
    assert metrics["test"]["recall@1"] > 0.9  # the next item is the one behind it
