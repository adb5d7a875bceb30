"""Large logs are sorted and written in blocks, and give the same bytes as at once."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from p_rnn.data import codes, events, splits
from p_rnn.data.codes import Codes, as_stored, packed, plain_ids
from p_rnn.data.events import joined, sorted_order
from p_rnn.data.prepare import prepare
from p_rnn.data.readers import files
from p_rnn.data.readers.text import lines_of
from p_rnn.ragged import save_in_blocks
from p_rnn.settings.errors import UserError
from p_rnn.settings.sections import DatasetConfig, PathsConfig
from tests.conftest import random_log


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("together", [1, 7, 10_000])
def test_the_order_of_blocks_is_that_of_one_sort(
    together: int, parts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "SORTED_TOGETHER", together)
    rng = np.random.default_rng(0)
    for count in (1, 2, 300):
        session = rng.integers(0, 25, count).astype(np.int32)
        time = rng.integers(0, 9, count).astype(np.float64)
        part = rng.integers(0, 3, count).astype(np.int8) if parts else None
        keys = (time, session) if part is None else (time, part, session)
        assert np.array_equal(sorted_order(session, time, part), np.lexsort(keys))


def write(folder: Path, prefix: str, prepared: str) -> list[tuple[str, bytes]]:
    """The files of a data set whose session ids begin with `prefix`."""
    folder.mkdir(exist_ok=True)
    log = random_log(3)
    log["session"] = prefix + log["session"].astype(str)
    log.sample(frac=1, random_state=1).to_csv(folder / "log.csv", index=False)
    config = DatasetConfig.of(
        name="log",
        reader="table",
        path="log.csv",
        columns={"session": "session", "item": "item", "time": "time"},
        test_days=1.0,
    )
    made = prepare(config, PathsConfig(str(folder), str(folder / prepared))).folder
    found = sorted(path for path in made.rglob("*.npy"))
    return [(path.relative_to(made).as_posix(), path.read_bytes()) for path in found]


@pytest.mark.parametrize("prefix", ["visit-", "besuch-ä"])
def test_small_blocks_write_the_same_bytes(
    prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write(tmp_path, prefix, "whole")
    ids = np.load(next((tmp_path / "whole").glob("*/train/session_ids.npy")))
    assert ids.dtype.kind == "U"
    assert set(ids) <= {f"{prefix}{s}" for s in range(200)}
    monkeypatch.setattr(events, "SORTED_TOGETHER", 11)
    monkeypatch.setattr(codes, "BLOCK", 13)
    monkeypatch.setattr(splits, "BLOCK_EVENTS", 17)
    assert write(tmp_path, prefix, "blocks") == whole


def test_a_file_in_blocks_is_that_of_numpy(tmp_path: Path) -> None:
    for values in (np.arange(10, dtype=np.int32), np.array(["a", "bcd"]), np.zeros(0)):
        np.save(tmp_path / "whole.npy", values)
        cuts = [values[:1], values[1:]]
        save_in_blocks(tmp_path / "blocks.npy", values.dtype, len(values), iter(cuts))
        assert (tmp_path / "blocks.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_parts_are_joined_and_freed() -> None:
    parts = [np.arange(3), np.arange(0), np.arange(5)]
    assert joined(parts).tolist() == [0, 1, 2, 0, 1, 2, 3, 4]
    assert parts == []


@pytest.mark.parametrize("column", ["session", "item"])
def test_an_id_of_200_000_characters_is_refused(column: str) -> None:
    with pytest.raises(UserError, match=f"the {column} id 'xxx.* has 200,000 characters"):
        Codes(column).add(pd.Series(["a", "x" * 200_000]))


CHUNKS = {
    "ascii": [["a", "bb", "a"], ["ccc", "bb"], ["a"]],
    "one chunk is not": [["a", "b"], ["ä", "a"], ["b", "c"]],
    "nul": [["a", "a\0"], ["a\0", "b"]],
    "wide": [["a", "x" * 200], ["x" * 200, "x" * 199]],
    "integers": [[5, 3, 5], [-(2**63), 3]],
}


@pytest.mark.parametrize("name", CHUNKS)
def test_codes_are_those_of_pandas(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chunks = CHUNKS[name]
    whole, distinct = pd.factorize(pd.Series([x for chunk in chunks for x in chunk]))
    for hashes in (codes._hashes, lambda ids, width: np.zeros(len(ids), np.uint64)):  # all collide
        monkeypatch.setattr(codes, "_hashes", hashes)
        made = Codes("item")
        for chunk in chunks:
            made.add(pd.Series(chunk))
        found, ids = made.take()
        assert found.dtype == np.int32
        assert found.tolist() == whole.tolist()
        expected = np.array(list(distinct))  # as NumPy stores them
        for kind in "US":
            stored = as_stored(plain_ids(ids, "item", kind))
            assert stored.dtype == expected.dtype
            assert stored.tolist() == expected.tolist()


def test_text_in_ascii_is_packed() -> None:
    small = packed(pd.Index(["a", "bcd"]), "item")
    assert isinstance(small, np.ndarray)
    assert small.dtype == "S3"


@pytest.mark.parametrize("pack", ["gz", "zip"])
def test_a_small_archive_of_gigabytes_is_refused(
    pack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MOST_UNPACKED", 2**20)
    text = b"session,item,time\n" + b"1,1,1\n" * 400_000
    path = tmp_path / f"log.csv.{pack}" if pack == "gz" else tmp_path / "log.zip"
    if pack == "gz":
        path.write_bytes(gzip.compress(text))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("log.csv", text)
    config = DatasetConfig.of(
        name="log",
        reader="table",
        path=path.name,
        columns={"session": "session", "item": "item", "time": "time"},
        test_days=1.0,
    )
    with pytest.raises(UserError, match=r"unpack to more than .* unpack it by hand"):
        prepare(config, PathsConfig(str(tmp_path), str(tmp_path / "prepared")))


def test_lines_are_those_of_the_whole_text() -> None:
    text = b"a\nbc\r\n\n" + b"x" * 50 + b"\rlast"
    for size in (1, 2, 7, 1000):
        blocks = iter([text[low : low + size] for low in range(0, len(text), size)])
        found = list(lines_of(lambda _, blocks=blocks: next(blocks, b"")))
        assert b"".join(found) == text
        assert found == text.splitlines(keepends=True)
