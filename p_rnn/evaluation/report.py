"""Results as tables for people."""

from __future__ import annotations

from typing import Any

from p_rnn import printing
from p_rnn.evaluation.beyond import KINDS
from p_rnn.evaluation.metrics import of_cold
from p_rnn.settings.sections import EvaluationConfig


def describe(results: dict[str, dict[str, Any]], settings: EvaluationConfig) -> str:
    """A block per split, a row per ranker: recall at every cutoff, MRR and NDCG at the largest.

    Where cold items are kept, also the recall of cold targets at the largest cutoff, blank where
    there are none. A second table has what was measured beyond accuracy, at the largest cutoff.

    Args:
        results: {split: {ranker: result of `summarise`}}.
    """
    last = max(settings.cutoffs)
    columns = [f"recall@{k}" for k in sorted(settings.cutoffs)] + [f"mrr@{last}", f"ndcg@{last}"]
    cold = [f"cold recall@{last}"] if settings.cold_items == "keep" else []
    lines = []
    for split, rankers in results.items():
        targets = next(iter(rankers.values()))["targets"]
        lines += ["", printing.wrapped(f"{split}: {targets:,} targets, {_protocol(settings)}")]
        cells = [
            [
                name,
                *(f"{result['metrics'][column]:.4f}" for column in columns),
                *(_cold(result, f"recall@{last}") for _ in cold),
            ]
            for name, result in rankers.items()
        ]
        lines.append(printing.as_text(printing.table(["", *columns, *cold], cells)))
        if settings.beyond_accuracy:
            lines += ["", _beyond(rankers, last)]
    return "\n".join(lines)


def _protocol(settings: EvaluationConfig) -> str:
    """Who is ranked against whom, in words."""
    words = [f"{settings.ties} ties"]
    words.append("cold items " + ("ranked" if settings.cold_items == "keep" else "left out"))
    if settings.exclude_seen:
        words.append("seen items left out")
    if settings.most_popular:
        words.append(f"ranked against the {settings.most_popular:,} most popular items")
    return ", ".join(words)


def _cold(result: dict[str, Any], metric: str) -> str:
    found = of_cold(result["by_support"], metric)
    return "" if found is None else f"{found:.4f}"


def _beyond(rankers: dict[str, Any], cutoff: int) -> str:
    columns = {f"{kind}@{cutoff}": form for kind, form in KINDS.items()}
    cells = [
        [name, *(format(result["beyond_accuracy"][x], form) for x, form in columns.items())]
        for name, result in rankers.items()
    ]
    return printing.as_text(printing.table(["", *columns], cells))
