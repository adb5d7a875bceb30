"""The passes over memory that count most, as compiled C++ on a CPU.

The rows that a step touched (rows.cpp), which PyTorch's operations read and write about ten times,
two losses with their matrix products (losses.cpp, called by p_rnn/training/fused.py), and the
comparison of scores in evaluation (rows.cpp). This needs a C++ compiler; without one, and on other
devices, PyTorch's operations do the same.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger(__name__)

EPS = 1e-6  # in Adagrad's root (P)
HERE = Path(__file__).parent
# Without the exceptions of square roots, which keep loops from being vectorised. OpenMP's functions
# are those that PyTorch has loaded: a second library would have threads of its own.
FLAGS = (
    "-std=gnu++17",
    "-O3",
    "-march=native",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fopenmp",
    "-fPIC",
)
BUILD_S = 120  # of a source, at most
# Of each function: how many pointers, counts and numbers it takes, in this order.
TAKES = {
    "adagrad_rows": (9, 4, 3),
    "count_scores": (5, 2, 0),
    "cross_entropy_forward": (3, 0, 0),
    "cross_entropy_backward": (6, 0, 0),
    "bpr_max_forward": (3, 0, 2),
    "bpr_max_backward": (6, 0, 2),
}


def compiler() -> str | None:
    """A C++ compiler of the kinds that Inductor takes, too."""
    names = (os.environ.get("CXX"), "g++", "clang++")
    return next((name for name in names if name and shutil.which(name)), None)


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """The compiled functions; None where they cannot be had. A few seconds, once a machine."""
    found = compiler()
    if found is None:
        return None
    try:
        loaded = _load(found)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or b""
        reason = said.decode(errors="replace").strip() or str(error)
        log.warning("%s cannot compile p_rnn/native, so training is slower: %s", found, reason)
        return None
    for name, (pointers, counts, numbers) in TAKES.items():
        function = getattr(loaded, name)
        function.argtypes = [
            *[ctypes.c_void_p] * pointers, *[ctypes.c_int64] * counts, *[ctypes.c_float] * numbers
        ]  # fmt: skip
        function.restype = None
    return loaded


def _load(compiler: str) -> ctypes.CDLL:
    """Compile, or take what was compiled before of the same sources, by the same compiler, for such
    a CPU."""
    sources = sorted(HERE.glob("*.cpp"))
    # The compiler's own macros name its version and the instructions of this CPU.
    macros = _run([compiler, *FLAGS, "-dM", "-E", "-x", "c++", os.devnull])
    parts = [macros, *(path.read_bytes() for path in [*sources, *sorted(HERE.glob("*.h"))])]
    key = hashlib.sha256(b"\0".join([repr((compiler, FLAGS)).encode(), *parts])).hexdigest()[:16]
    kept = _cache() / f"native-{key}.so"
    with contextlib.suppress(OSError):  # not there, not to be read, or damaged
        return ctypes.CDLL(str(kept), mode=os.RTLD_NOW)
    with tempfile.TemporaryDirectory() as folder:
        objects = [f"{folder}/{path.stem}.o" for path in sources]
        for path, compiled in zip(sources, objects, strict=True):
            _run([compiler, *FLAGS, "-c", str(path), "-o", compiled])
        linked = Path(folder) / "native.so"
        _run([compiler, "-shared", *objects, "-o", str(linked)])
        with contextlib.suppress(OSError):
            _keep(linked, kept)
            return ctypes.CDLL(str(kept), mode=os.RTLD_NOW)
        return ctypes.CDLL(str(linked), mode=os.RTLD_NOW)


def _cache() -> Path:
    """Where files that can be made again are kept; nothing can be where no folder is known."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    home = Path(os.path.expanduser("~"))  # noqa: PTH111  (never raises)
    folder = given if given.is_absolute() else home / ".cache"
    return (folder if folder.is_absolute() else Path(os.devnull)) / "p_rnn"


def _keep(made: Path, kept: Path) -> None:
    """Copy a file, whole or not at all."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    partial = kept.with_suffix(f".{os.getpid()}")
    try:
        shutil.copyfile(made, partial)
        partial.replace(kept)
    finally:
        partial.unlink(missing_ok=True)


def _run(command: Sequence[str]) -> bytes:
    return subprocess.run(command, check=True, capture_output=True, timeout=BUILD_S).stdout


def serves(*tensors: Tensor) -> bool:
    """Whether the compiled functions take such tensors of numbers, and are there."""
    plain = all(
        x.device.type == "cpu" and x.dtype == torch.float32 and x.is_contiguous() for x in tensors
    )
    return plain and library() is not None


def pointer(x: Tensor | None) -> int | None:
    """Where the numbers of a tensor lie, that must lie without gaps."""
    assert x is None or x.is_contiguous()
    return None if x is None else x.data_ptr()


def pointers(tensors: Sequence[Tensor | None]) -> Any:
    """An array of them."""
    return (ctypes.c_void_p * len(tensors))(*map(pointer, tensors))


def sizes(values: Sequence[int]) -> Any:
    return (ctypes.c_int64 * len(values))(*values)


def adagrad_rows(
    weight: Tensor,
    acc: Tensor,
    velocity: Tensor | None,
    sources: Sequence[Tensor],
    rows: Tensor,
    starts: Tensor,
    order: Tensor,
    weights: Tensor | None,
    lr: float,
    momentum: float,
) -> None:
    """acc += g^2, velocity = momentum * velocity - lr * g / sqrt(acc + 1e-6), weight += velocity.

    On the rows [R] of weight, acc and velocity [N + 1, D] (or [N + 1]), the last of which is the
    scratch row, with the gradients that the plan `rows, starts, order, weights` sums of `sources`
    [M_k, D] below each other.
    """
    loaded = library()
    assert loaded is not None
    width = weight[0].numel()
    ends = [0]
    for source in sources:
        ends.append(ends[-1] + len(source))
    loaded.adagrad_rows(
        *map(pointer, (weight, acc, velocity)), pointers(sources), sizes(ends[1:]),
        *map(pointer, (rows, starts, order, weights)),
        len(rows), len(order), width, len(weight) - 1, lr, momentum, EPS,
    )  # fmt: skip


def count_scores(block: Tensor, own: Tensor, at_least: Tensor, above: Tensor, bad: Tensor) -> None:
    """Add to int64 [B]: scores of each row of [B, C] that are >= and > own [B]; to [1]: not finite.

    On a CPU, float32, contiguous.
    """
    loaded = library()
    assert loaded is not None
    loaded.count_scores(*map(pointer, (block, own, at_least, above, bad)), *block.shape)


SCHEMA = (
    "adagrad_rows(Tensor(a!) weight, Tensor(b!) acc, Tensor(c!)? velocity, Tensor[] sources, "
    "Tensor rows, Tensor starts, Tensor order, Tensor? weights, float lr, float momentum) -> ()"
)
# As an operation of PyTorch's, so that a compiled step can call it.
LIBRARY: Any = torch.library.Library("p_rnn", "DEF")  # type: ignore[no-untyped-call]
LIBRARY.define(SCHEMA)
LIBRARY.impl("adagrad_rows", adagrad_rows, "CPU")
LIBRARY.impl("adagrad_rows", lambda *arguments: None, "Meta")
