"""Tapes of calls to the compiled functions.

A tape records the calls of a step and the memory that they use, so that the same step on other
inputs takes one call into C++ (`Tape.replay`), as a CUDA graph takes one launch.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import starmap
from typing import Any

import torch
from torch import Tensor

from p_rnn.fast import native
from p_rnn.fast.native import P, loaded

TYPES = (torch.float32, torch.int64, torch.int32, torch.int16)


@dataclass
class Tape:
    """Recorded calls in order, and the memory that they use."""

    calls: list[tuple[str, ctypes.Structure]] = field(default_factory=list)
    structs: list[ctypes.Structure] = field(default_factory=list)
    held: list[Any] = field(default_factory=list)  # tensors and arrays, to keep their memory
    draws: list[tuple[Tensor, torch.Generator]] = field(default_factory=list)
    whole: bool = True  # whether everything that the step did was recorded

    def close(self, inputs: Sequence[Tensor]) -> None:
        """After recording: find the arguments that are the addresses of the inputs."""
        at = {x.data_ptr(): k for k, x in enumerate(inputs)}
        self.places = [
            (struct, name, at[getattr(struct, name)])
            for struct in self.structs
            for name, kind, *_ in struct._fields_
            if kind is P and getattr(struct, name) in at
        ]
        self.array = (native.Call * len(self.calls))(*starmap(entry, self.calls))
        self.address, self.count = ctypes.addressof(self.array), len(self.calls)
        self.rates = [s for s in self.structs if hasattr(s, "lr")]
        self.run, self.threads = loaded().replay, torch.get_num_threads()

    def replay(self, inputs: Sequence[Tensor], lr: float) -> None:
        """Repeat the calls on other inputs, contiguous and of the same shapes."""
        where = [x.data_ptr() for x in inputs]
        for struct, name, k in self.places:
            setattr(struct, name, where[k])
        for struct in self.rates:
            struct.lr = lr
        for words, generator in self.draws:
            words.random_(-(2**63), None, generator=generator)
        self.run(self.address, self.count, self.threads)


_tape: Tape | None = None


@contextmanager
def recorded(tape: Tape) -> Iterator[None]:
    """Record all calls on the tape."""
    global _tape
    _tape = tape
    try:
        yield
    finally:
        _tape = None


def off_tape() -> None:
    """Mark the tape as incomplete: the caller does something that cannot be recorded."""
    if _tape is not None:
        _tape.whole = False


def make(kind: type[ctypes.Structure], tensors: Sequence[Any], *values: float) -> Any:
    """A struct from tensors (or None, or ctypes arrays) and then numbers."""
    addresses: list[int | None] = []
    for x in tensors:
        if isinstance(x, Tensor):
            assert x.is_contiguous() or kind is native.Product
            assert x.dtype in TYPES, f"{x.dtype}"
            addresses.append(x.data_ptr())
        else:
            addresses.append(None if x is None else ctypes.addressof(x))
    made = kind(*addresses, *values)
    if _tape is not None:
        _tape.structs.append(made)
        _tape.held += tensors
    return made


def entry(name: str, struct: ctypes.Structure) -> Any:
    """A function pointer with its arguments, in the form that C++ expects."""
    return native.Call(_address(name), ctypes.addressof(struct))


@lru_cache
def _address(name: str) -> int | None:
    return ctypes.cast(getattr(loaded(), name), P).value


def call(name: str, struct: ctypes.Structure) -> None:
    one = entry(name, struct)
    loaded().replay(ctypes.addressof(one), 1, torch.get_num_threads())
    if _tape is not None:
        _tape.calls.append((name, struct))


def recording() -> Tape | None:
    """The tape that is recording, or None."""
    return _tape
