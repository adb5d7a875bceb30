"""Reads whole sessions with a ranker, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]
State = tuple[Tensor, ...]


class Reads(Protocol):
    """The part of a `Ranker` that reads items."""

    def begin(self, batch: int) -> State: ...

    def step(self, items: Tensor, state: State, active: Tensor) -> State: ...


@torch.no_grad()
def read_sessions(
    ranker: Reads, sessions: Sequence[Array], device: torch.device | str = "cpu"
) -> State:
    """The state after B sessions of item indices that the ranker can read, int64 each."""
    state = ranker.begin(len(sessions))
    lengths = np.array([len(session) for session in sessions])
    items = padded(sessions, 0)
    for t in range(items.shape[1]):
        inputs = torch.from_numpy(items[:, t]).to(device)
        active = torch.from_numpy(lengths > t).to(device)
        state = ranker.step(inputs, state, active)
    return state


def padded(rows: Sequence[Array], value: int) -> Array:
    """int64 [B, T]."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    rectangle = np.full((len(rows), int(lengths.max(initial=0))), value, dtype=np.int64)
    rectangle[np.arange(rectangle.shape[1]) < lengths[:, None]] = np.concatenate(
        [np.zeros(0, dtype=np.int64), *rows]
    )
    return rectangle
