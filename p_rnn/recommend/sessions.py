"""Sessions as somebody gives them, and the states of several sessions side by side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from p_rnn.evaluation.ranking import State
from p_rnn.settings.errors import UserError

Array = NDArray[Any]
TOGETHER = 256  # sessions read and scored side by side
NAMED = 5  # ids that a message names


def batches(states: list[State]) -> Iterator[tuple[list[int], State]]:
    """The states [1, ...] of sessions, side by side where their shapes allow it.

    Yields:
        (numbers of the sessions, their state [b, ...]), at most `TOGETHER` of them.
    """
    alike: dict[Any, list[int]] = {}
    for number, state in enumerate(states):
        alike.setdefault(tuple(x.shape for x in state), []).append(number)
    for numbers in alike.values():
        for lo in range(0, len(numbers), TOGETHER):
            rows = numbers[lo : lo + TOGETHER]
            parts = zip(*(states[row] for row in rows), strict=True)
            yield rows, tuple(torch.cat(part) for part in parts)


def unbatched(state: State) -> list[State]:
    """[b, ...] -> b states [1, ...] of their own, so that none keeps the memory of all."""
    rows = range(len(state[0]))
    return [tuple(part[row : row + 1].clone() for part in state) for row in rows]


def listed(ids: Any, what: str = "a session") -> list[Any]:
    """The elements of a list, array, column or generator."""
    values = ids.tolist() if hasattr(ids, "tolist") else ids
    unordered = isinstance(values, (str, bytes, dict, set, frozenset, pd.DataFrame))
    if unordered or not hasattr(values, "__iter__"):
        given = f"{ids!r:.60}".splitlines()[0]
        raise UserError(f"{what} must be a list of item ids, such as ['a', 'b'], not {given}")
    return list(values)


def check_k(k: Any) -> None:
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise UserError(f"k={k!r:.60} must be a whole number from 1")


def refuse_unknown(raw: list[Any], known: Array, why: str) -> None:
    bad = [each for each, ok in zip(raw, known, strict=True) if not ok]
    if bad:
        more = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        names = ", ".join(f"'{each}'" for each in bad[:NAMED])
        raise UserError(f"{why}: {names}{more}")
