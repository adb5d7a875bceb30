"""Files and folders appear whole or not at all."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from p_rnn import files
from p_rnn.files import folder_written_whole, written_whole


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_under_its_name_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with written_whole(path) as temporary:
        assert temporary.parent == tmp_path  # renaming works within one file system only
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("written", [False, True])
def test_an_exception_keeps_the_old_file_and_leaves_nothing(
    tmp_path: Path, error: type[BaseException], written: bool
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write() -> None:
        with written_whole(path) as temporary:
            if written:
                temporary.write_text("half of the")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_file_that_is_not_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), written_whole(tmp_path / "a.txt"):
        pass
    assert names(tmp_path) == []


def test_numpy_keeps_the_temporary_name(tmp_path: Path) -> None:
    with written_whole(tmp_path / "a.npz") as temporary:
        np.savez(temporary, x=np.arange(3))
    assert names(tmp_path) == ["a.npz"]
    with np.load(tmp_path / "a.npz") as file:
        assert file["x"].tolist() == [0, 1, 2]


def test_the_mode_of_a_file_is_the_usual_one(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    with written_whole(tmp_path / "a.txt") as temporary:
        temporary.write_text("")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_concurrent_writers_of_a_file_never_mix(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    contents = [f"{number}\n" * 5_000 for number in range(4)]
    seen: set[str] = set()

    def write(content: str) -> None:
        for _ in range(20):
            with written_whole(path) as temporary:
                temporary.write_text(content)
            seen.add(path.read_text())

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen <= set(contents)
    assert len(seen) > 0
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_appears_under_its_name_at_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there" / "data"
    with folder_written_whole(folder) as temporary:
        assert temporary.parent == folder.parent
        (temporary / "a").write_text("whole")
        assert not folder.exists()
    assert (folder / "a").read_text() == "whole"
    assert names(folder.parent) == ["data"]
    assert folder.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_leaves_no_folder(tmp_path: Path, error: type[BaseException]) -> None:
    def write() -> None:
        with folder_written_whole(tmp_path / "data") as temporary:
            (temporary / "a").write_text("half of the")
            raise error

    with pytest.raises(error):
        write()
    assert names(tmp_path) == []


def test_of_concurrent_writers_of_a_folder_the_first_one_wins(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with folder_written_whole(folder) as slow:
        (slow / "a").write_text("slow")
        with folder_written_whole(folder) as quick:
            (quick / "a").write_text("quick")
    assert (folder / "a").read_text() == "quick"
    assert names(tmp_path) == ["data"]


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError), folder_written_whole(tmp_path / "file" / "data"):
        pytest.fail("there is no place to write to")
    assert names(tmp_path) == ["file"]


def test_temporary_files_of_the_dead_are_removed(tmp_path: Path) -> None:
    mark = files._place()
    dead = subprocess.Popen(["true"])
    dead.wait()
    for name in (
        f".a-{mark}-{dead.pid}-01234567.pt",
        f".data-{mark}-{dead.pid}-01234567/x",
        f".a-{mark}-{os.getpid()}-01234567.pt",  # being written
        f".a-fedcba98-{dead.pid}-01234567.pt",  # of another machine
        f".old-fedcba98-{dead.pid}-01234567.pt",
        ".a-1-2.pt",  # not ours
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    week_ago = time.time() - 8 * 86_400
    os.utime(tmp_path / f".old-fedcba98-{dead.pid}-01234567.pt", (week_ago, week_ago))
    with written_whole(tmp_path / "b.txt") as temporary:
        temporary.write_text("")
    assert names(tmp_path) == [
        ".a-1-2.pt",
        *sorted(
            [f".a-{mark}-{os.getpid()}-01234567.pt", f".a-fedcba98-{dead.pid}-01234567.pt"],
        ),
        "b.txt",
    ]


def test_the_content_is_on_the_disk_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(files, "flush", lambda path: done.append(path.name))
    replace, rename = Path.replace, Path.rename
    monkeypatch.setattr(Path, "replace", lambda *p: (done.append("named"), replace(*p)))
    monkeypatch.setattr(Path, "rename", lambda *p: (done.append("named"), rename(*p)))
    with written_whole(tmp_path / "a.txt") as temporary:
        temporary.write_text("")
    assert done == [temporary.name, "named", tmp_path.name]
    done.clear()
    with folder_written_whole(tmp_path / "data") as folder:
        (folder / "x").write_text("")
    assert done == ["x", folder.name, "named", tmp_path.name]
