"""The most expensive parts of a step, and of evaluation, in C++ for the CPU.

Updates of the rows that a step touched (rows.cpp), the gates of a GRU (gates.cpp), three losses
with their matrix products (losses.cpp), and the comparison of scores in evaluation (rows.cpp). This
needs a C++ compiler; without one, and on other devices, the plain step runs.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import logging
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from p_rnn.files import written_whole

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
# Without the exceptions of square roots, which keep loops from being vectorised. OpenMP's functions
# come from the library that PyTorch has loaded: a second one would start threads of its own.
FLAGS = (
    "-std=gnu++17",
    "-O3",
    "-march=native",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fopenmp",
    "-fPIC",
)
BUILD_S = 120  # longest time to compile a source file
P, N, F = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float


def _struct(name: str, *fields: tuple[type, str]) -> type[ctypes.Structure]:
    """A ctypes mirror of a C++ struct: the field names of each type, in order."""
    layout = [(each, kind) for kind, names in fields for each in names.split()]
    return type(name, (ctypes.Structure,), {"_fields_": layout})


Product = _struct("Product", (P, "a b c"), (N, "m n k a_row a_column b_row c_row turned"))
Gather = _struct("Gather", (P, "table items out"), (N, "count width"))
Pool = _struct("Pool", (P, "table items offsets tokens weights out"), (N, "count width add"))
Times = _struct("Times", (P, "x y out"), (N, "count add"), (F, "scale"))
Mask = _struct("Mask", (P, "words out"), (N, "count dropped"), (F, "scale"))
Offset = _struct(
    "Offset", (P, "bias log_support items out"), (N, "count targets"), (F, "logq alpha")
)
Gates = _struct(
    "Gates",
    (P, "a u c d h mask r z n acted output gradient of_a of_u sum_a sum_u"),
    (N, "batch size"),
)
Loss = _struct(
    "Loss",
    (P, "queries tables widths items offset target scores targets"),
    (N, "terms examples candidates"),
    (P, "kept losses mean of_queries of_rows of_offset"),
    (F, "gradient alpha bpreg"),
)
Reads = _struct("Reads", (P, "items gradient offsets tokens weights"), (N, "count"))
RULE = (F, "lr momentum eps mean_rate square_rate correction decay shrink")
MovedRows = _struct(
    "MovedRows", (P, "weight first second parts slots"), (N, "num_parts width"), RULE
)
Parameter = _struct("Parameter", (P, "weight first second gradient"), (N, "size"))
MovedWhole = _struct("MovedWhole", (P, "parameters"), (N, "count"), RULE)
Counting = _struct("Counting", (P, "block own at_least above bad"), (N, "rows columns"))
Call = _struct("Call", (P, "function arguments"))

# Each function takes one struct.
FUNCTIONS = {
    "product": Product,
    "gather": Gather,
    "pool": Pool,
    "times": Times,
    "mask": Mask,
    "offset": Offset,
    "gates_forward": Gates,
    "gates_backward": Gates,
    "before_gates": Gates,
    "before_output": Gates,
    "before_output_backward": Gates,
    "before_gates_backward": Gates,
    "cross_entropy": Loss,
    "bpr_max": Loss,
    "top1": Loss,
    "adagrad_rows": MovedRows,
    "adagrad_whole": MovedWhole,
    "adam_rows": MovedRows,
    "adam_whole": MovedWhole,
    "count_scores": Counting,
}
SIZES = {
    "product": Product,
    "gather": Gather,
    "pool": Pool,
    "times": Times,
    "mask": Mask,
    "offset": Offset,
    "gates": Gates,
    "loss": Loss,
    "reads": Reads,
    "moved_rows": MovedRows,
    "parameter": Parameter,
    "moved_whole": MovedWhole,
    "counting": Counting,
    "call": Call,
}
COUNTS = {"room_for_scores": 2, "room_for_kept": 1}  # functions of so many integers, returning one


def compiler() -> str | None:
    """The command of a C++ compiler, or None."""
    names = (os.environ.get("CXX"), "g++", "clang++")
    return next((name for name in names if name and shutil.which(name)), None)


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """The compiled functions, or None if they cannot be compiled (seconds, once per machine)."""
    found = compiler()
    if found is None:
        return None
    try:
        loaded = _load(found)
    except (OSError, AttributeError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or b""
        reason = said.decode(errors="replace").strip() or str(error)
        log.warning("%s cannot compile p_rnn's C++, so training is slower: %s", found, reason)
        return None
    return loaded


def _declared(loaded: ctypes.CDLL) -> ctypes.CDLL:
    """Declare the argument types of the functions, after checking the sizes of the structs.

    Raises:
        OSError: the library was not built from these sources.
    """
    for name in FUNCTIONS:
        getattr(loaded, name).argtypes, getattr(loaded, name).restype = (P,), None
    loaded.replay.argtypes, loaded.replay.restype = (P, N, N), None
    for name, count in COUNTS.items():
        getattr(loaded, name).argtypes, getattr(loaded, name).restype = (N,) * count, N
    for name, struct in SIZES.items():
        size = getattr(loaded, f"size_of_{name}")
        size.argtypes, size.restype = (), N
        if size() != ctypes.sizeof(struct):
            raise OSError(
                f"{struct.__name__} has {size()} bytes there, {ctypes.sizeof(struct)} here"
            )
    return loaded


def _load(compiler: str) -> ctypes.CDLL:
    """Load the library, compiled now or before from the same sources for the same CPU."""
    sources = sorted(HERE.glob("*.cpp"))
    # The predefined macros of the compiler identify its version and the instructions of this CPU.
    macros = _run([compiler, *FLAGS, "-dM", "-E", "-x", "c++", os.devnull])
    parts = [macros, *(path.read_bytes() for path in [*sources, *sorted(HERE.glob("*.h"))])]
    key = hashlib.sha256(b"\0".join([repr((compiler, FLAGS)).encode(), *parts])).hexdigest()[:16]
    folder = private_folder()
    if folder is not None:
        for kept in folder.glob(f"native-{key}-*.so"):
            with contextlib.suppress(OSError, AttributeError):
                if _whole(kept):
                    return _declared(ctypes.CDLL(str(kept), mode=os.RTLD_NOW))
                kept.unlink()
    with tempfile.TemporaryDirectory() as place:
        objects = [f"{place}/{path.stem}.o" for path in sources]
        for path, compiled in zip(sources, objects, strict=True):
            _run([compiler, *FLAGS, "-c", str(path), "-o", compiled])
        linked = Path(place) / "native.so"
        _run([compiler, "-shared", *objects, "-o", str(linked)])
        if folder is not None:
            with contextlib.suppress(OSError):
                kept = folder / f"native-{key}-{_checksum(linked)}.so"
                with written_whole(kept) as temporary:
                    shutil.copyfile(linked, temporary)
                    temporary.chmod(0o600)
                return _declared(ctypes.CDLL(str(kept), mode=os.RTLD_NOW))
        return _declared(ctypes.CDLL(str(linked), mode=os.RTLD_NOW))


def _checksum(library: Path) -> str:
    """The end of the name of a library: loading half of one would end the process."""
    return hashlib.sha256(library.read_bytes()).hexdigest()[:16]


def _whole(library: Path) -> bool:
    """Whether a library is as it was compiled, by this user, and nobody else may write to it.

    Raises:
        OSError: it cannot be read.
    """
    status = library.lstat()
    ours = not hasattr(os, "getuid") or (
        status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )
    regular = stat.S_ISREG(status.st_mode)
    return regular and ours and library.stem.rpartition("-")[2] == _checksum(library)


def private_folder() -> Path | None:
    """A cache folder that only this user can write to, because code is loaded from it.

    None if there is no such folder, or if another user owns it or may write to it, or may put
    another one in its place.
    """
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    home = Path(os.path.expanduser("~"))  # noqa: PTH111  (never raises)
    folder = (given if given.is_absolute() else home / ".cache") / "p_rnn"
    if not folder.is_absolute():
        return None
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if hasattr(os, "getuid"):
            if folder.stat().st_uid != os.getuid() or folder.is_symlink():
                return None
            above = folder.parent.stat().st_mode
            if above & stat.S_IWOTH and not above & stat.S_ISVTX:
                return None
            folder.chmod(0o700)
    except OSError:
        return None
    return folder


def _run(command: Sequence[str]) -> bytes:
    return subprocess.run(command, check=True, capture_output=True, timeout=BUILD_S).stdout


def loaded() -> ctypes.CDLL:
    """The library, where `serves` has said that there is one."""
    found = library()
    assert found is not None
    return found


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


def pointers(tensors: Sequence[Tensor | None]) -> ctypes.Array[ctypes.c_void_p]:
    """An array of them."""
    return (P * len(tensors))(*map(pointer, tensors))


def numbers(values: Sequence[int]) -> ctypes.Array[ctypes.c_int64]:
    return (N * len(values))(*values)
