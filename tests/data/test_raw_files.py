"""Raw files that change while they are read, and what is missing in a folder of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from p_rnn.data import prepare as module
from p_rnn.data.prepare import prepare
from p_rnn.data.readers.files import find_members
from p_rnn.data.readers.options import ColumnsConfig, ItemTableConfig
from p_rnn.settings.errors import UserError
from p_rnn.settings.sections import DatasetConfig, PathsConfig
from tests.conftest import random_log

RULES = DatasetConfig.of(name="shop", path="log", columns=ColumnsConfig(), test_days=2.0)
LONG_AGO_NS = 1_500_000_000_000_000_000


@pytest.fixture
def paths(tmp_path: Path) -> PathsConfig:
    raw = tmp_path / "raw"
    (raw / "log").mkdir(parents=True)
    random_log(seed=3).to_csv(raw / "log" / "a.csv", index=False)
    os.utime(raw / "log" / "a.csv", ns=(LONG_AGO_NS, LONG_AGO_NS))
    return PathsConfig(str(raw), str(tmp_path / "prepared"))


def same_time_and_size(path: Path) -> None:
    """As a clock too coarse for the change would show it."""
    before = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES: dict[str, Callable[[Path], Any]] = {
    "cut": lambda path: os.truncate(path, 100),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"0,1,5\n"),
    "written again": lambda path: path.write_bytes(path.read_bytes()),
    "the same time and size": same_time_and_size,
    "replaced": lambda path: shutil.copy2(path, path.with_suffix(".new")).replace(path),
    "gone": Path.unlink,
    "another one came": lambda path: shutil.copy2(path, path.with_name("b.csv")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_log_that_changes_while_it_is_read(
    paths: PathsConfig, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    collect, raw = module.collect, Path(paths.raw)

    def then_changed(*given: Any) -> Any:
        events = collect(*given)
        CHANGES[change](raw / "log" / "a.csv")
        return events

    monkeypatch.setattr(module, "collect", then_changed)
    with pytest.raises(UserError, match=r"[ab]\.csv (changed|came or went) while") as caught:
        prepare(RULES, paths)
    assert "\n" not in str(caught.value)
    place = Path(paths.prepared)
    assert not place.exists() or [path.name for path in place.iterdir() if path.is_dir()] == []


def test_an_item_table_that_changes(paths: PathsConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Path(paths.raw) / "items.csv"
    pd.DataFrame({"item": range(30), "price": 1.5}).to_csv(table, index=False)
    rules = RULES.but(item_table=ItemTableConfig(path="items.csv"))
    reader = module.READERS["table"]
    items = reader.items

    def then_changed(self: Any) -> Any:
        found = items(self)
        table.write_text("item,price\n")
        return found

    monkeypatch.setattr(reader, "items", then_changed)
    with pytest.raises(UserError, match=r"items\.csv changed while it was read"):
        prepare(rules, paths)
    assert not list(Path(paths.prepared).glob("*/items-*"))


def test_what_a_folder_lacks(paths: PathsConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = Path(paths.raw)
    (raw / "log" / ".hidden").symlink_to("nowhere")
    assert len(find_members(raw, "log", "", [".csv"])) == 1
    (raw / "log" / "more").mkdir()
    link = raw / "log" / "more" / "b.csv"
    link.symlink_to("gone.csv")
    with pytest.raises(UserError, match=f"{link} is a link to gone.csv, which is missing"):
        prepare(RULES, paths)
    link.unlink()
    scandir = os.scandir

    def refused(path: Any) -> Any:
        if str(path).endswith("more"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(UserError, match=r"more cannot be listed \(Permission denied\)"):
        prepare(RULES, paths)


def test_a_pipe_is_no_raw_file(paths: PathsConfig) -> None:
    os.mkfifo(Path(paths.raw) / "pipe.csv")
    with pytest.raises(UserError, match=r"pipe\.csv is no file"):
        prepare(RULES.but(path="pipe.csv"), paths)
