"""Damaged and foreign files in the folder of a run, for tests of reports."""

from __future__ import annotations

import copy
import io
import json
import math
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Damage = tuple[str, Callable[[Path], None]]  # a name, and what it does to a file
VALUES: dict[str, Any] = {
    "null": None,
    "text": "0.3",
    "true": True,
    "negative": -0.5,
    "large": 1.5,
    "huge": 10**400,
    "list": [0.1],
    "mapping": {"a": 1},
    "empty text": "",
}
# Places in metrics.json that a report reads.
PLACES = (
    ("test",),
    ("valid",),
    ("test", "recall@20"),
    ("valid", "recall@20"),
    ("parameters",),
    ("updates",),
    ("updates_of_subnets",),
    ("best_epoch",),
    ("seconds",),
    ("seconds", "total"),
    ("history",),
    ("history", 0),
    ("history", 0, "epoch"),
    ("history", 0, "seconds"),
    ("history", 0, "valid"),
    ("history", 0, "valid", "recall@20"),
    ("config",),
    ("config", "seed"),
    ("config", "model"),
    ("config", "model", "name"),
    ("config", "dataset", "name"),
    ("config", "strategy"),
    ("config", "loss"),
    ("config", "evaluation"),
    ("config", "evaluation", "cutoffs"),
    ("dataset",),
    ("dataset", "fingerprint"),
    ("results",),
    ("results", "test"),
    ("results", "test", "MODEL"),
    ("results", "test", "MODEL", "targets"),
    ("results", "test", "MODEL", "metrics", "recall@20"),
    ("results", "test", "MODEL", "by_position"),
    ("results", "test", "MODEL", "by_position", 0),
    ("results", "test", "MODEL", "by_position", 0, "from"),
    ("results", "test", "MODEL", "by_position", 0, "recall@20"),
    ("results", "test", "MODEL", "by_support", 0, "targets"),
)


def damages_of_metrics(metrics: dict[str, Any]) -> Iterator[Damage]:
    """Ways to damage this metrics.json: as bytes, as JSON, and each place that is read."""
    text = json.dumps(metrics, indent=1)
    for share in (0.0, 0.1, 0.5, 0.9, 0.999):
        yield f"cut at {share}", _writes(text[: int(len(text) * share)].encode())
    for name, content in {
        "zeros": b"\0" * len(text),
        "random bytes": np.random.default_rng(0).bytes(2000),
        "not utf-8": text.replace("recall", "r\xe9call").encode("latin-1"),
        "utf-16": text.encode("utf-16"),
        "a byte order mark": b"\xef\xbb\xbf" + text.encode(),
        "two documents": (text + text).encode(),
        "a list": f"[{text}]".encode(),
        "a list of numbers": b"[1, 2]",
        "a number": b"3",
        "a text": b'"metrics"',
        "null": b"null",
        "an empty mapping": b"{}",
        "other keys": b'{"accuracy": 0.5, "loss": 1}',
        "html": b"<html>not found</html>",
        "nested deep": b"[" * 100_000 + b"]" * 100_000,
        "mappings nested deep": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        "a number of 10,000 digits": text.replace('"updates": ', '"updates": 1' + "0" * 10_000, 1),
        "a key twice": ('{"test": {"recall@20": 1.0},' + text[1:]),
        "NaN": _figure(text, "NaN"),
        "Infinity": _figure(text, "Infinity"),
        "1e999": _figure(text, "1e999"),
    }.items():
        yield name, _writes(content if isinstance(content, bytes) else content.encode())
    yield "a folder", lambda path: (path.unlink(), path.mkdir())[1]  # type: ignore[func-returns-value]
    yield "a dangling link", lambda path: (path.unlink(), path.symlink_to("absent"))[1]  # type: ignore[func-returns-value]
    yield "a link to itself", lambda path: (path.unlink(), path.symlink_to(path))[1]  # type: ignore[func-returns-value]
    model = metrics["config"]["model"]["name"]
    for place in PLACES:
        path = [model if key == "MODEL" else key for key in place]
        for word, value in VALUES.items():
            yield f"{'.'.join(map(str, path))}: {word}", _writes(_with(metrics, path, value))
        yield f"{'.'.join(map(str, path))}: missing", _writes(_with(metrics, path, ...))
    for key in ("dataset", "model"):
        for name in ("../../elsewhere", "x" * 3000, "a\0b", "/etc/x"):
            made = _with(metrics, ["config", key, "name"], name)
            yield f"config.{key}.name: {name[:20]!r}", _writes(made)


def _figure(text: str, value: str) -> str:
    at = text.index('"recall@20": ') + len('"recall@20": ')
    return text[:at] + value + text[text.index(",", at) :]


def _with(metrics: dict[str, Any], path: list[Any], value: Any) -> bytes:
    made = copy.deepcopy(metrics)
    node: Any = made
    for key in path[:-1]:
        node = node[key]
    if value is ...:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return json.dumps(made).encode()


def _writes(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


def damages_of_ranks(path: Path) -> Iterator[Damage]:
    """Ways to damage this test_ranks.npz."""
    whole = path.read_bytes()
    for share in (0.0, 0.3, 0.9, 0.999):
        yield f"cut at {share}", _writes(whole[: int(len(whole) * share)])
    for at in range(0, len(whole), max(1, len(whole) // 40)):
        changed = bytearray(whole)
        changed[at] ^= 0xFF
        yield f"byte {at} changed", _writes(bytes(changed))
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    rank = arrays["rank"]
    others: dict[str, dict[str, Any]] = {
        "no rank": {k: x for k, x in arrays.items() if k != "rank"},
        "rank of one less": {**arrays, "rank": rank[1:]},
        "all one less": {k: x[1:] for k, x in arrays.items()},
        "two dimensions": {k: x[:, None] for k, x in arrays.items()},
        "objects": {**arrays, "rank": rank.astype(object)},
        "texts": {**arrays, "rank": rank.astype(str)},
        "ranks of zero": {**arrays, "rank": rank * 0},
        "NaN": {**arrays, "rank": rank * math.nan},
        "better ranks": {**arrays, "rank": np.ones_like(rank)},
        "empty": {k: x[:0] for k, x in arrays.items()},
    }
    for name, content in others.items():
        buffer = io.BytesIO()
        np.savez(buffer, **content)
        yield name, _writes(buffer.getvalue())
    for name, header in {
        "a huge array": "{'descr': '<f4', 'fortran_order': False, 'shape': (10**15,), }",
        "a header that is no mapping": "[1, 2]",
        "a header that is no Python": "{'descr': ",
    }.items():
        yield name, _writes(_zip_of(header.replace("10**15", str(10**15)), arrays))
    yield "a single array", _writes(_npy(rank))
    yield "another zip", _writes(_zip_of("", {}))
    yield "text", _writes(b"rank 1 2 3")
    yield "a folder", lambda path: (path.unlink(), path.mkdir())[1]  # type: ignore[func-returns-value]
    yield "missing", lambda path: path.unlink()


def _npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _zip_of(header: str, arrays: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("session", "position", "item") if header else ():
            array = arrays[name]
            archive.writestr(f"{name}.npy", _npy(array))
        if header:
            line = header.encode().ljust(117) + b"\n"
            head = b"\x93NUMPY\x01\x00" + len(line).to_bytes(2, "little") + line
            archive.writestr("rank.npy", head + b"\0" * 64)
        else:
            archive.writestr("readme.txt", "nothing")
    return buffer.getvalue()
