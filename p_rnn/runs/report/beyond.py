"""The table of coverage, popularity and novelty of a report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from p_rnn.evaluation.beyond import KINDS
from p_rnn.runs.report.rows import ReportRow
from p_rnn.runs.report.table import ReportTable


def beyond_table(rows: Sequence[ReportRow], metrics: Sequence[str]) -> ReportTable | None:
    """The figures of the test split at the cutoffs of `metrics`; None where no run has any."""
    cutoffs = dict.fromkeys(metric.partition("@")[2] for metric in metrics)
    columns = {f"{kind}@{k}": form for k in cutoffs for kind, form in KINDS.items()}
    lines = []
    for row in rows:
        run = row.first
        figures = {name: _cell(row, name, form) for name, form in columns.items()}
        if any(figures.values()):
            settings = ", ".join(row.settings)
            told = {"data set": run.dataset, "model": run.model, "strategy": run.strategy}
            lines.append({**told, "loss": run.loss, "settings": settings, **figures})
    return ReportTable(pd.DataFrame(lines, dtype=str), list(columns)) if lines else None


def _cell(row: ReportRow, name: str, form: str) -> str:
    measured = [run.result("test").get("beyond_accuracy", {}) for run in row.runs]
    values = np.array([each[name] for each in measured if name in each])
    if not len(values):
        return ""
    spread = f" ± {format(values.std(ddof=1), form)}" if len(values) > 1 else ""
    return format(values.mean(), form) + spread
