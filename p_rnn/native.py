"""The passes over memory that count most, as compiled C++ on a CPU (native.cpp).

The rows that a step touched, which PyTorch's operations read and write about ten times, two losses
(p_rnn/training/fused.py), and the comparison of scores in evaluation. This needs a C++ compiler;
without one, and on other devices, those operations do the same.
"""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger(__name__)

EPS = 1e-6  # in Adagrad's root (P)
SOURCE = Path(__file__).with_name("native.cpp")
# Without the exceptions of square roots, which keep loops from being vectorised. OpenMP's functions
# are those that PyTorch has loaded: a second library would have threads of its own.
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-fPIC")
BUILD_S = 60  # at most
# Of each function: how many pointers, counts and numbers it takes, in this order.
TAKES = {
    "adagrad_rows": (8, 4, 3),
    "count_scores": (5, 2, 0),
    "cross_entropy_forward": (5, 2, 0),
    "cross_entropy_backward": (6, 2, 0),
    "bpr_max_forward": (5, 2, 2),
    "bpr_max_backward": (6, 2, 2),
}


def compiler() -> str | None:
    """A C++ compiler of the kinds that Inductor takes, too."""
    names = (os.environ.get("CXX"), "g++", "clang++")
    return next((name for name in names if name and shutil.which(name)), None)


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """The compiled functions; None where they cannot be had. Half a second, once a process."""
    found = compiler()
    if found is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        compiled, linked = f"{folder}/native.o", f"{folder}/native.so"
        try:
            for command in (
                [found, *FLAGS, "-c", str(SOURCE), "-o", compiled],
                [found, "-shared", compiled, "-o", linked],
            ):
                subprocess.run(command, check=True, capture_output=True, timeout=BUILD_S)
            loaded = ctypes.CDLL(linked, mode=os.RTLD_NOW)
        except (OSError, subprocess.SubprocessError) as error:
            log.info("without compiled passes: %s", error)
            return None
    for name, (pointers, counts, numbers) in TAKES.items():
        function = getattr(loaded, name)
        function.argtypes = [
            *[ctypes.c_void_p] * pointers, *[ctypes.c_int64] * counts, *[ctypes.c_float] * numbers
        ]  # fmt: skip
        function.restype = None
    return loaded


def serves(x: Tensor) -> bool:
    """Whether the compiled functions take such a tensor, and are there."""
    plain = x.device.type == "cpu" and x.dtype == torch.float32 and x.is_contiguous()
    return plain and library() is not None


def adagrad_rows(
    weight: Tensor,
    acc: Tensor,
    velocity: Tensor | None,
    source: Tensor,
    rows: Tensor,
    starts: Tensor,
    order: Tensor,
    weights: Tensor | None,
    lr: float,
    momentum: float,
) -> None:
    """acc += g^2, velocity = momentum * velocity - lr * g / sqrt(acc + 1e-6), weight += velocity.

    On the rows [R] of weight, acc and velocity [N + 1, D] (or [N + 1]), the last of which is the
    scratch row, with the gradients that the plan `rows, starts, order, weights` sums of `source`.
    """
    loaded = library()
    assert loaded is not None
    tensors = (weight, acc, velocity, source, rows, starts, order, weights)
    assert all(x is None or x.is_contiguous() for x in tensors)
    width = weight[0].numel()
    pointers = [None if x is None else x.data_ptr() for x in tensors]
    sizes = (len(rows), len(order), width, len(weight) - 1)
    loaded.adagrad_rows(*pointers, *sizes, lr, momentum, EPS)


def count_scores(block: Tensor, own: Tensor, at_least: Tensor, above: Tensor, bad: Tensor) -> None:
    """Add to int64 [B]: scores of each row of [B, C] that are >= and > own [B]; to [1]: not finite.

    On a CPU, float32, contiguous.
    """
    loaded = library()
    assert loaded is not None
    tensors = (block, own, at_least, above, bad)
    assert all(x.is_contiguous() for x in tensors)
    loaded.count_scores(*(x.data_ptr() for x in tensors), *block.shape)


SCHEMA = (
    "adagrad_rows(Tensor(a!) weight, Tensor(b!) acc, Tensor(c!)? velocity, Tensor source, "
    "Tensor rows, Tensor starts, Tensor order, Tensor? weights, float lr, float momentum) -> ()"
)
# As an operation of PyTorch's, so that a compiled step can call it.
LIBRARY: Any = torch.library.Library("p_rnn", "DEF")  # type: ignore[no-untyped-call]
LIBRARY.define(SCHEMA)
LIBRARY.impl("adagrad_rows", adagrad_rows, "CPU")
LIBRARY.impl("adagrad_rows", lambda *arguments: None, "Meta")
