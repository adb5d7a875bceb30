"""Results as a table for people."""

from __future__ import annotations

from typing import Any

from p_rnn import printing
from p_rnn.settings.sections import EvaluationConfig


def describe(results: dict[str, dict[str, Any]], settings: EvaluationConfig) -> str:
    """A block per split, a row per ranker: recall at every cutoff, MRR and NDCG at the largest.

    Args:
        results: {split: {ranker: result of `summarise`}}.
    """
    last = max(settings.cutoffs)
    columns = [f"recall@{k}" for k in sorted(settings.cutoffs)] + [f"mrr@{last}", f"ndcg@{last}"]
    lines = []
    against = f", ranked against the {settings.most_popular} most popular items"
    for split, rankers in results.items():
        targets = next(iter(rankers.values()))["targets"]
        title = f"{split}: {targets:,} targets, {settings.ties} ties"
        lines += ["", title + (against if settings.most_popular else "")]
        cells = [
            [name, *(f"{result['metrics'][column]:.4f}" for column in columns)]
            for name, result in rankers.items()
        ]
        lines.append(printing.as_text(printing.table(["", *columns], cells)))
    return "\n".join(lines)
