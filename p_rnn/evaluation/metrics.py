"""Recall@K, MRR@K and NDCG@K of ranks, overall and by group."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Lower bounds of the groups in the breakdowns.
POSITION_GROUPS = (1, 2, 3, 5, 10, 20)
SUPPORT_GROUPS = (0, 1, 5, 10, 50, 100, 500, 1000, 10_000)


def metrics(ranks: Array, cutoffs: list[int]) -> dict[str, float]:
    """Means over targets with one relevant item each; `ranks` [M] are from 1, inf = not ranked.

    recall@K = share of ranks <= K; mrr@K = mean of 1 / rank; ndcg@K = mean of 1 / log2(1 + rank),
    where ranks above K contribute 0.
    """
    result = {}
    for k in cutoffs:
        hit = ranks <= k
        result[f"recall@{k}"] = float(hit.mean())
        result[f"mrr@{k}"] = float(np.where(hit, 1 / ranks, 0).mean())
        result[f"ndcg@{k}"] = float(np.where(hit, 1 / np.log2(1 + ranks), 0).mean())
    return result


def of_cold(by_support: list[dict[str, Any]], metric: str) -> float | None:
    """A metric of the cold targets in a breakdown by support; None if there are none."""
    return next((row.get(metric) for row in by_support if row["to"] == 0), None)


def breakdown(
    ranks: Array, values: Array, bounds: tuple[int, ...], cutoffs: list[int]
) -> list[dict[str, Any]]:
    """Metrics of each group of targets, by `values` [M] in [bound, next bound).

    Returns:
        Rows {"from", "to" (inclusive, None = open), "targets", metrics...}, without empty groups.
    """
    rows = []
    for low, high in zip(bounds, (*bounds[1:], None), strict=True):
        inside = values >= low
        if high is not None:
            inside &= values < high
        if inside.any():
            label = {"from": low, "to": None if high is None else high - 1}
            rows.append({**label, "targets": int(inside.sum()), **metrics(ranks[inside], cutoffs)})
    return rows
