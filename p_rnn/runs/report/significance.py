"""Tests of significance: paired bootstrap over sessions, averaged over seeds, Holm-corrected."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p_rnn.runs.report.rows import ReportRow
from p_rnn.settings.errors import UserError

Array = NDArray[Any]
SAMPLES = 5000  # at least
LEVEL = 0.05
AT_A_TIME = 2**22  # session draws in memory at a time


@dataclass(frozen=True)
class Difference:
    """A metric of A minus that of B.

    Attributes:
        low, high: bounds of the 95 % interval; `p`: two-sided, before correction.
    """

    mean: float
    low: float
    high: float
    p: float


def gains(metric: str) -> Callable[[Array], Array]:
    """The function from ranks to their contributions to "recall@K", "mrr@K" or "ndcg@K".

    Raises:
        UserError: an unknown metric.
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


def of_row(row: ReportRow, metric: str) -> Array:
    """Contribution [M] of each target to the metric, averaged over the runs of a row.

    Raises:
        UserError: the runs have different targets.
    """
    gain = gains(metric)
    first = row.first.ranks
    total = np.zeros(len(first.rank))
    for run in row.runs:
        _same_targets(run.ranks, first, run.folder, row.first.folder)
        total += gain(run.ranks.rank)
    mean: Array = total / len(row.runs)
    return mean


def differences(
    rows: Sequence[ReportRow], against: ReportRow, metrics: Sequence[str], seed: int = 0
) -> dict[tuple[int, str], Difference]:
    """{(index of the row, metric): its difference to `against`}.

    Sessions are drawn with replacement, because the targets of a session are not independent; all
    comparisons use the same draws.

    Raises:
        UserError: the rows have different targets.
    """
    if not rows:
        return {}
    base = against.first
    for row in rows:
        _same_targets(row.first.ranks, base.ranks, row.first.folder, base.folder)
    _, place = np.unique(base.ranks.session, return_inverse=True)
    targets = np.bincount(place).astype(float)
    of_base = {metric: of_row(against, metric) for metric in metrics}
    pairs = [(n, metric) for n in range(len(rows)) for metric in metrics]
    gained = [np.bincount(place, of_row(rows[n], m) - of_base[m]) for n, m in pairs]
    # Enough samples for Holm's correction to leave a p below LEVEL, whatever the number of tests.
    samples = max(SAMPLES, round(4 * len(pairs) / LEVEL))
    drawn = bootstrap(np.stack(gained, axis=1), targets, samples, seed)
    found = {}
    for pair, total, values in zip(pairs, gained, drawn.T, strict=True):
        low, high = np.quantile(values, [LEVEL / 2, 1 - LEVEL / 2])
        below, above = (values <= 0).sum(), (values >= 0).sum()
        p = min(1.0, 2 * (1 + min(below, above)) / (1 + samples))
        mean = total.sum() / targets.sum()
        found[pair] = Difference(float(mean), float(low), float(high), float(p))
    return found


def bootstrap(gained: Array, targets: Array, samples: int, seed: int) -> Array:
    """Bootstrap means over M sessions drawn with replacement: sum of gained / sum of targets.

    Args:
        gained: [M, T] per session, for T comparisons; `targets`: [M].

    Returns:
        [samples, T]
    """
    rng = np.random.default_rng(seed)
    count = len(gained)
    both = np.column_stack([gained, targets])
    found = []
    step = max(1, AT_A_TIME // count)
    for lo in range(0, samples, step):
        many = min(step, samples - lo)
        drawn = rng.integers(count, size=(many, count)) + count * np.arange(many)[:, None]
        times = np.bincount(drawn.ravel(), minlength=many * count).reshape(many, count)
        sums = times.astype(np.float64) @ both
        found.append(sums[:, :-1] / sums[:, -1:])
    return np.concatenate(found)


def holm(p: Sequence[float]) -> list[float]:
    """p-values after Holm's correction, in the same order (Scand. J. Statistics 1979)."""
    order = np.argsort(p, kind="stable")
    corrected = [0.0] * len(p)
    highest = 0.0
    for rank, k in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[k]))
        corrected[k] = highest
    return corrected


def corrected_for(tests: Mapping[tuple[int, str], Difference]) -> dict[tuple[int, str], float]:
    """The p-value of each test after Holm's correction for all of them."""
    return dict(zip(tests, holm([test.p for test in tests.values()]), strict=True))


def _same_targets(a: Any, b: Any, folder: Any, other: Any) -> None:
    same = len(a.rank) == len(b.rank) and all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for name in ("session", "position", "item")
    )
    if not same:
        raise UserError(
            f"{folder} and {other} were tested on different targets, so they cannot be compared "
            "target by target; compare runs of the same protocol"
        )
