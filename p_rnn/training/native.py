"""The optimizer's traffic on rows as one pass of compiled C++ (rows.cpp), on a CPU.

With PyTorch's operations a step reads and writes the rows that it touched about ten times. This
needs a C++ compiler; without one, and on other devices, those operations do the same.
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

import torch
from torch import Tensor

log = logging.getLogger(__name__)

EPS = 1e-6  # in Adagrad's root (P)
SOURCE = Path(__file__).with_name("rows.cpp")
# Without the exceptions of square roots, which keep loops from being vectorised. OpenMP's functions
# are those that PyTorch has loaded: a second library would have threads of its own.
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-fPIC")
BUILD_S = 60  # at most


def compiler() -> str | None:
    """A C++ compiler of the kinds that Inductor takes, too."""
    names = (os.environ.get("CXX"), "g++", "clang++")
    return next((name for name in names if name and shutil.which(name)), None)


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """The compiled functions; None where they cannot be had. Takes half a second, once a process."""
    found = compiler()
    if found is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        compiled, linked = f"{folder}/rows.o", f"{folder}/rows.so"
        try:
            for command in (
                [found, *FLAGS, "-c", str(SOURCE), "-o", compiled],
                [found, "-shared", compiled, "-o", linked],
            ):
                subprocess.run(command, check=True, capture_output=True, timeout=BUILD_S)
            loaded = ctypes.CDLL(linked, mode=os.RTLD_NOW)
        except (OSError, subprocess.SubprocessError) as error:
            log.info("without compiled row updates: %s", error)
            return None
    pointers, counts = [ctypes.c_void_p] * 8, [ctypes.c_int64] * 4
    loaded.adagrad_rows.argtypes = [*pointers, *counts, *[ctypes.c_float] * 3]
    loaded.adagrad_rows.restype = None
    return loaded


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


_LIBRARY = torch.library.Library("p_rnn", "DEF")
_LIBRARY.define(
    "adagrad_rows(Tensor(a!) weight, Tensor(b!) acc, Tensor(c!)? velocity, Tensor source, "
    "Tensor rows, Tensor starts, Tensor order, Tensor? weights, float lr, float momentum) -> ()"
)
_LIBRARY.impl("adagrad_rows", adagrad_rows, "CPU")
_LIBRARY.impl("adagrad_rows", lambda *arguments: None, "Meta")
