"""Hashes of raw files: right after every change, and each file is read once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from p_rnn.data import file_hashes as module
from p_rnn.data.file_hashes import NAME, SMALL_BYTES, file_hashes
from p_rnn.settings.sections import PathsConfig

BIG = b"a" * SMALL_BYTES
LONG_AGO_NS = 1_500_000_000_000_000_000


class Counter:
    def __init__(self) -> None:
        self.real, self.calls = module._hash, 0

    def __call__(self, path: Path) -> str:
        self.calls += 1
        return self.real(path)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """Counts the files that are read, in a process that knows nothing yet."""
    counter = Counter()
    monkeypatch.setattr(module, "_hash", counter)
    monkeypatch.setattr(module, "_known", {})
    return counter


@pytest.fixture
def paths(tmp_path: Path) -> PathsConfig:
    (tmp_path / "raw").mkdir()
    return PathsConfig(str(tmp_path / "raw"), str(tmp_path / "prepared"))


def write(paths: PathsConfig, content: bytes, mtime_ns: int | None = LONG_AGO_NS) -> Path:
    path = Path(paths.raw) / "sub" / "e.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    if mtime_ns is not None:
        os.utime(path, ns=(mtime_ns, mtime_ns))
    return path


def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_known", {})


def right(path: Path, paths: PathsConfig) -> bool:
    expected = {"sub/e.csv": hashlib.sha256(path.read_bytes()).hexdigest()}
    return file_hashes([path], paths) == expected


def test_a_file_is_read_once(
    paths: PathsConfig, hashed: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(paths, BIG)
    assert right(path, paths)
    assert right(path, paths)
    assert hashed.calls == 1
    new_process(monkeypatch)
    assert right(path, paths)
    assert hashed.calls == 1
    assert [entry.name for entry in Path(paths.prepared).iterdir()] == [NAME]


def test_another_size_or_time_is_another_content(
    paths: PathsConfig, hashed: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert right(write(paths, BIG), paths)
    assert right(write(paths, b"b" + BIG), paths)
    assert right(write(paths, BIG.replace(b"a", b"c"), LONG_AGO_NS + 1), paths)
    new_process(monkeypatch)
    assert right(write(paths, BIG.replace(b"a", b"d"), LONG_AGO_NS + 2), paths)
    assert hashed.calls == 4


def test_small_and_fresh_files_are_read_each_time(paths: PathsConfig, hashed: Counter) -> None:
    for content, mtime_ns in ((BIG[1:], LONG_AGO_NS), (BIG, None)):
        path = write(paths, content, mtime_ns)
        before = hashed.calls
        assert right(path, paths)
        assert right(path, paths)
        assert hashed.calls == before + 2
    assert not Path(paths.prepared).exists()


def test_another_file_of_the_same_size_and_time(
    paths: PathsConfig, hashed: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert right(write(paths, BIG), paths)
    assert right(write(paths, BIG.replace(b"a", b"b")), paths)
    new_process(monkeypatch)
    assert right(write(paths, BIG.replace(b"a", b"c")), paths)
    assert hashed.calls == 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda cache, path: cache.write_text("{"),
        lambda cache, path: cache.write_bytes(b"\xff"),
        lambda cache, path: cache.write_text("[1]"),
        lambda cache, path: cache.write_text(json.dumps({str(path): 7})),
        lambda cache, path: cache.write_text(
            json.dumps({str(path): [len(BIG), LONG_AGO_NS, "none"]})
        ),
        lambda cache, path: (cache.unlink(), cache.mkdir()),
    ],
)
def test_a_damaged_cache_is_ignored(
    paths: PathsConfig,
    hashed: Counter,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path, Path], object],
) -> None:
    path = write(paths, BIG)
    assert right(path, paths)
    damage(Path(paths.prepared) / NAME, path)
    new_process(monkeypatch)
    assert right(path, paths)
    assert hashed.calls == 2


def test_a_place_that_cannot_be_written(paths: PathsConfig, hashed: Counter) -> None:
    path = write(paths, BIG)
    Path(paths.prepared).touch()
    assert right(path, paths)
    assert hashed.calls == 1
