"""Ways to damage files, and what must come of it: one line that names the file, or no difference.

A trial damages one file, runs something that reads it, and puts the file back.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

from p_rnn.settings.errors import UserError

Harm = Callable[[Path], Any]
LIMIT_S = 60


@dataclass
class Tally:
    """Attributes:
    wrong: what each damage did that was neither refused in one line nor harmless.
    """

    tried: int = 0
    refused: int = 0
    harmless: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.tried} tried: {self.refused} refused, {self.harmless} harmless, "
            f"{len(self.wrong)} wrong"
        )


def tried(
    tally: Tally, label: str, path: Path, harm: Harm, run: Callable[[], Any], right: Any
) -> None:
    """One trial.

    Args:
        run: reads the file and returns what it has made of it; `right`: that of the whole file.
    """
    with put_back(path):
        before = _content(path)
        harm(path)
        if _content(path) == before:
            return  # nothing was changed
        tally.tried += 1
        try:
            with limited():
                found = run()
        except UserError as error:
            text = str(error)
            # The file, or the folder that it stands in.
            names = {path.name, path.parent.name, path.parent.parent.name}
            if "\n" in text or not any(name in text for name in names):
                tally.wrong.append(f"{label}: refused without its name: {text!r}")
            else:
                tally.refused += 1
        except BaseException as error:
            tally.wrong.append(f"{label}: {type(error).__name__}: {str(error)[:100]!r}")
        else:
            if found == right:
                tally.harmless += 1
            else:
                tally.wrong.append(f"{label}: taken in silence")


@contextmanager
def put_back(path: Path) -> Iterator[None]:
    """The file as it was, after the block."""
    aside = path.with_name(f"{path.name}.aside")
    shutil.copy2(path, aside)
    try:
        yield
    finally:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        aside.replace(path)


@contextmanager
def limited() -> Iterator[None]:
    """Ends what takes too long."""

    def late(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"more than {LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


# --- damages of any file ------------------------------------------------------------------------


def cut(share: float, more: int = 0) -> Harm:
    def harm(path: Path) -> None:
        os.truncate(path, max(int(path.stat().st_size * share) + more, 0))

    return harm


def flip(place: float, bit: int) -> Harm:
    """Flip a bit at a share of the length."""

    def harm(path: Path) -> None:
        data = bytearray(path.read_bytes())
        if data:
            data[int(place * len(data))] ^= 1 << bit
        path.write_bytes(data)

    return harm


def zeroed(place: float) -> Harm:
    def harm(path: Path) -> None:
        data = bytearray(path.read_bytes())
        low = int(place * len(data))
        data[low : low + 512] = bytes(len(data[low : low + 512]))
        path.write_bytes(data)

    return harm


def replaced(write: Callable[[Path], Any]) -> Harm:
    """Something else in its place."""

    def harm(path: Path) -> None:
        path.unlink()
        write(path)

    return harm


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(2**24))


def _npy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.arange(7))


def _npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, x=np.arange(7))


ANY: dict[str, Harm] = {
    **{f"cut at {share}": cut(share) for share in (0, 0.01, 0.1, 0.5, 0.9, 0.99)},
    "last byte": cut(1, -1),
    "first zeros": zeroed(0),
    "middle zeros": zeroed(0.5),
    "folder": replaced(Path.mkdir),
    "pipe": replaced(os.mkfifo),
    "link to itself": replaced(lambda path: path.symlink_to(path)),
    "gone": replaced(lambda path: None),
    "text": replaced(lambda path: path.write_text("hello\n")),
    "JSON list": replaced(lambda path: path.write_text("[]")),
    "nested JSON": replaced(lambda path: path.write_text("[" * 100_000)),
    "pickle": replaced(lambda path: path.write_bytes(pickle.dumps({"a": 1}))),
    "pickled class": replaced(lambda path: path.write_bytes(pickle.dumps(Path("a")))),
    "bare tensor": replaced(lambda path: torch.save(torch.zeros(3), path)),
    "torch dict": replaced(lambda path: torch.save({"model": torch.zeros(3)}, path)),
    "torch object": replaced(lambda path: torch.save({"a": Path("a")}, path)),
    "old torch": replaced(
        lambda path: torch.save({"a": 1}, path, _use_new_zipfile_serialization=False)
    ),
    "zip": replaced(_zip),
    "npy": replaced(_npy),
    "npz": replaced(_npz),
}


def flips(count: int, seed: int) -> dict[str, Harm]:
    rng = np.random.default_rng(seed)
    places = rng.random(count)
    return {f"bit at {place:.4f}": flip(place, int(rng.integers(8))) for place in [*places, 0.9999]}


# --- of arrays ----------------------------------------------------------------------------------


def stored(change: Callable[[Any], Any]) -> Harm:
    """Another array, whole in itself."""

    def harm(path: Path) -> None:
        array = change(np.array(np.load(path)))
        path.unlink()
        np.save(path, array)

    return harm


def _set(at: int, value: Any) -> Callable[[Any], Any]:
    def change(array: Any) -> Any:
        flat = array.reshape(-1)
        if flat.dtype.kind in "iuf" and len(flat):
            flat[at] = value
        return array

    return change


ARRAY: dict[str, Harm] = {
    "huge": stored(_set(-1, 10**4)),
    "negative": stored(_set(0, -3)),
    "one more": stored(lambda a: a + 1 if a.dtype.kind in "if" else a),
    "reversed": stored(lambda a: a[::-1].copy()),
    "shorter": stored(lambda a: a[:-1]),
    "longer": stored(lambda a: np.concatenate([a, a[-1:]])),
    "other type": stored(lambda a: a.astype(np.float64) if a.dtype.kind in "if" else a),
    "two dimensions": stored(lambda a: a[None]),
    "swapped values": stored(lambda a: np.concatenate([a[1:2], a[:1], a[2:]])),
    "objects": stored(lambda a: a.astype(object)),
}


# --- of JSON ------------------------------------------------------------------------------------


def json_edits(path: Path) -> dict[str, Harm]:
    """Each number one more, and each key gone."""
    harms: dict[str, Harm] = {}
    for keys, value in list(_leaves(json.loads(path.read_text()))):
        if isinstance(value, int | float) and not isinstance(value, bool):
            harms[f"number {'.'.join(map(str, keys))}"] = _edit(keys, value + 1)
        if isinstance(keys[-1], str):
            harms[f"no {'.'.join(map(str, keys))}"] = _edit(keys, None)
    return harms


def _leaves(node: Any, keys: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if keys:
        yield keys, node
    if isinstance(node, dict | list) and len(keys) < 3:
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _leaves(value, (*keys, key))


def _edit(keys: tuple[Any, ...], value: Any) -> Harm:
    def harm(path: Path) -> None:
        tree = node = json.loads(path.read_text())
        for key in keys[:-1]:
            node = node[key]
        if value is None:
            del node[keys[-1]]
        else:
            node[keys[-1]] = value
        path.write_text(json.dumps(tree))

    return harm
