"""Is A better than B? A paired bootstrap over sessions, averaged over seeds, Holm-corrected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p_rnn.errors import UserError
from p_rnn.report.runs import Row

Array = NDArray[Any]
SAMPLES = 2000
LEVEL = 0.05
AT_A_TIME = 2**22  # draws of sessions in memory


@dataclass(frozen=True)
class Difference:
    """A metric of A less that of B.

    Attributes:
        low, high: bounds of the 95 % interval; `p`: two-sided, before correction.
    """

    mean: float
    low: float
    high: float
    p: float


def gains(metric: str) -> Callable[[Array], Array]:
    """What a target's rank adds to "recall@K", "mrr@K" or "ndcg@K".

    Raises:
        UserError: another metric.
    """
    kind, _, cutoff = metric.partition("@")
    value: dict[str, Callable[[Array], Array]] = {
        "recall": np.ones_like,
        "mrr": lambda rank: 1 / rank,
        "ndcg": lambda rank: 1 / np.log2(1 + rank),
    }
    if kind not in value or not cutoff.isdigit():
        raise UserError(f"metric {metric}: take recall@K, mrr@K or ndcg@K")
    return lambda rank: np.where(rank <= int(cutoff), value[kind](rank), 0.0)


def of_row(row: Row, metric: str) -> tuple[Array, Array]:
    """Session [M] and gain [M] of each target, the mean over the runs of a row.

    Raises:
        UserError: runs with different targets.
    """
    gain = gains(metric)
    first = row.first.ranks
    total = np.zeros(len(first.rank))
    for run in row.runs:
        _same_targets(run.ranks, first, run.folder, row.first.folder)
        total += gain(run.ranks.rank)
    return first.session, total / len(row.runs)


def difference(a: Row, b: Row, metric: str, seed: int = 0) -> Difference:
    """How much better A is than B on the targets that both have.

    Sessions are drawn with replacement, as the targets of one session are not independent.

    Raises:
        UserError: the rows have different targets.
    """
    _same_targets(a.first.ranks, b.first.ranks, a.first.folder, b.first.folder)
    session, of_a = of_row(a, metric)
    _, of_b = of_row(b, metric)
    _, place = np.unique(session, return_inverse=True)
    gained = np.bincount(place, of_a - of_b)
    targets = np.bincount(place).astype(float)
    drawn = bootstrap(gained, targets, SAMPLES, seed)
    low, high = np.quantile(drawn, [LEVEL / 2, 1 - LEVEL / 2])
    below, above = (drawn <= 0).sum(), (drawn >= 0).sum()
    p = min(1.0, 2 * (1 + min(below, above)) / (1 + SAMPLES))
    return Difference(float(gained.sum() / targets.sum()), float(low), float(high), float(p))


def bootstrap(gained: Array, targets: Array, samples: int, seed: int) -> Array:
    """sum(gained) / sum(targets) over as many sessions, drawn with replacement, so many times."""
    rng = np.random.default_rng(seed)
    count = len(gained)
    found = []
    step = max(1, AT_A_TIME // count)
    for lo in range(0, samples, step):
        drawn = rng.integers(count, size=(min(step, samples - lo), count))
        found.append(gained[drawn].sum(axis=1) / targets[drawn].sum(axis=1))
    return np.concatenate(found)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's corrected p-values, in the same order (Scand. J. Statistics 1979)."""
    order = np.argsort(p, kind="stable")
    corrected = [0.0] * len(p)
    highest = 0.0
    for rank, k in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[k]))
        corrected[k] = highest
    return corrected


def _same_targets(a: Any, b: Any, folder: Any, other: Any) -> None:
    same = len(a.rank) == len(b.rank) and all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for name in ("session", "position", "item")
    )
    if not same:
        raise UserError(
            f"{folder} and {other} were tested on different targets, so they cannot be compared "
            "target by target; compare runs of one protocol"
        )
