"""The table of a report: for the terminal, in Markdown, CSV and LaTeX."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from p_rnn import printing
from p_rnn.runs.report.rows import ReportRow
from p_rnn.runs.report.significance import LEVEL, Difference, corrected_for, differences
from p_rnn.settings.errors import UserError

Array = NDArray[Any]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReportTable:
    """Attributes:
    frame: cells as text, one line per row of the report.
    metrics: the columns of metrics (higher is better).
    legend: a sentence that explains the marks; empty without tests.
    notes: one line per test.
    """

    frame: pd.DataFrame
    metrics: list[str]
    legend: str = ""
    notes: list[str] = field(default_factory=list)


def metrics_of(rows: Sequence[ReportRow], cutoffs: Sequence[int] | None) -> list[str]:
    """Recall and MRR at the cutoffs; by default at the largest that all rows have."""
    if cutoffs is None:
        common = set.intersection(
            *({int(k) for k in row.first.settings["evaluation.cutoffs"]} for row in rows)
        )
        cutoffs = [max(common)] if common else []
    return [f"{kind}@{k}" for k in cutoffs for kind in ("recall", "mrr")]


def make_table(
    rows: Sequence[ReportRow], metrics: Sequence[str], against: ReportRow | None
) -> ReportTable:
    """One line per row; marks show significant differences to `against`, the row of the data."""
    marks, legend, notes = _marks(rows, metrics, against)
    lines = []
    for n, row in enumerate(rows):
        run = row.first
        seconds = np.mean([r.metrics["seconds"]["total"] for r in row.runs])
        best = dict.fromkeys(str(r.metrics["best_epoch"]) for r in row.runs)
        lines.append(
            {
                "data set": run.dataset,
                "model": run.model,
                "strategy": run.strategy,
                "loss": run.loss,
                "settings": ", ".join(row.settings),
                **{f"valid {m}": _cell(row, m, "valid") for m in metrics[:1]},
                **{m: _cell(row, m, "test") + marks.get((n, m), "") for m in metrics},
                **{f"cold {m}": _cell_of(row.cold(m)) for m in metrics[:1]},
                "seeds": str(len(row.runs)),
                "parameters": f"{run.metrics['parameters']:,}",
                "updates": f"{np.mean([r.metrics['updates'] for r in row.runs]):,.0f}",
                "seconds": f"{seconds:,.0f}",
                "s/epoch": _seconds_per_epoch(row),
                "best epoch": "/".join(best),
            }
        )
    frame = pd.DataFrame(lines, dtype=str)
    if not any(frame["s/epoch"]):  # of models that count
        frame = frame.drop(columns="s/epoch")
    if not any(frame["settings"]):
        frame = frame.drop(columns="settings")
    if set(frame["seeds"]) == {"1"}:
        frame = frame.drop(columns="seeds")
    cold = f"cold {metrics[0]}" if metrics else ""
    if cold in frame and not any(frame[cold]):
        frame = frame.drop(columns=cold)
    return ReportTable(frame, [f"valid {metrics[0]}", *metrics, cold], legend, notes)


def _seconds_per_epoch(row: ReportRow) -> str:
    """The median of the epochs of all seeds, without validation."""
    seconds = [e["seconds"] for run in row.runs for e in run.metrics["history"] if "seconds" in e]
    return f"{np.median(seconds):,.1f}" if seconds else ""


def _marks(
    rows: Sequence[ReportRow], metrics: Sequence[str], against: ReportRow | None
) -> tuple[dict[tuple[int, str], str], str, list[str]]:
    """{(index of the row, metric): mark}, a sentence that explains them, and a note per test."""
    if against is None:
        return {}, "", []
    rivals = [
        n
        for n, row in enumerate(rows)
        if row is not against and row.first.data == against.first.data
    ]
    if not _has_ranks(against):
        return {}, "", []
    rivals = [n for n in rivals if _has_ranks(rows[n])]
    if not rivals:
        return {}, "", []
    found = differences([rows[n] for n in rivals], against, metrics)
    tests = {(rivals[k], metric): test for (k, metric), test in found.items()}
    corrected = corrected_for(tests)
    marks, notes = {}, []
    for pair, test in tests.items():
        n, metric = pair
        if corrected[pair] < LEVEL:
            marks[pair] = " +" if test.mean > 0 else " -"
        notes.append(_note(rows[n], against, metric, test, corrected[pair]))
    legend = (
        f"+ and -: better and worse than {against.name} (paired bootstrap over sessions, "
        f"averaged over seeds, p < {LEVEL} after Holm's correction for the {len(tests)} tests)"
    )
    return marks, legend, notes


def _has_ranks(row: ReportRow) -> bool:
    """Whether the ranks of all runs of a row can be read; if not, says so."""
    try:
        for run in row.runs:
            run.check_ranks()
    except UserError as error:
        log.warning("warning: %s is not tested: %s", row.label, error)
        return False
    return True


def _note(row: ReportRow, against: ReportRow, metric: str, test: Difference, p: float) -> str:
    return (
        f"{row.name} - {against.name}, {metric}: {test.mean:+.4f} "
        f"[{test.low:+.4f}, {test.high:+.4f}], p {p:.3f}"
    )


def _cell(row: ReportRow, metric: str, split: str) -> str:
    return _cell_of(row.values(metric, split))


def _cell_of(values: Array) -> str:
    if np.isnan(values).any():
        return ""
    spread = f" ± {values.std(ddof=1):.4f}" if len(values) > 1 else ""
    return f"{values.mean():.4f}{spread}"


INTERVALS = "differences on test with 95 % intervals, not corrected:"


def as_text(table: ReportTable) -> str:
    """For a terminal: first what all rows have in common, then the columns that differ."""
    frame, common = _varying(table)
    parts = [printing.wrapped(common)] if common else []
    parts.append(printing.as_text(frame))
    if table.legend:
        parts += ["", printing.wrapped(table.legend), INTERVALS]
        parts += map(printing.wrapped, table.notes)
    return "\n".join(parts)


def as_markdown(table: ReportTable) -> str:
    """In Markdown, with all columns."""
    notes = [table.legend, INTERVALS, *table.notes] if table.legend else []
    below = ["", *(f"- {note}" for note in notes)] if notes else []
    return "\n".join([printing.as_markdown(table.frame), *below])


def as_latex(table: ReportTable) -> str:
    """In LaTeX: columns that differ, best values in bold, and the rest in the caption."""
    frame, common = _varying(table)
    frame = frame.map(lambda cell: re.sub(r" ([+-])$", r"^\1", cell))
    legend = table.legend.replace("+ and -:", "^+ and ^-:")
    said = [common[:1].upper() + common[1:], "Best values in bold", legend]
    caption = " ".join(f"{sentence}." for sentence in said if sentence)
    best = [name for name in table.metrics if name in frame]
    lines = [f"% {note}" for note in ([INTERVALS, *table.notes] if table.notes else [])]
    return "\n".join([printing.as_latex(frame, caption, best), *lines])


def _varying(table: ReportTable) -> tuple[pd.DataFrame, str]:
    """The columns that differ (and all metrics), and the others as a text."""
    frame = table.frame
    same = [
        name
        for name in frame.columns
        if len(frame) > 1 and name not in table.metrics and frame[name].nunique() == 1
    ]
    words = [f"{name} {frame[name].iloc[0]}" for name in same if frame[name].iloc[0]]
    return frame.drop(columns=same), ", ".join(words)


def as_csv(rows: Sequence[ReportRow], metrics: Sequence[str]) -> str:
    """The unrounded figures of each run."""
    lines = []
    for row in rows:
        settings = " ".join(f"{k}={v}" for k, v in {**row.protocol, **row.varied}.items())
        for run in row.runs:
            lines.append(
                {
                    "dataset": run.dataset,
                    "model": run.model,
                    "strategy": run.strategy,
                    "loss": run.loss,
                    "settings": settings,
                    "seed": run.settings["seed"],
                    **{
                        f"{split} {metric}": run.metrics.get(split, {}).get(metric, "")
                        for split in ("valid", "test")
                        for metric in metrics
                    },
                    "parameters": run.metrics["parameters"],
                    "updates": run.metrics["updates"],
                    "seconds": run.metrics["seconds"]["total"],
                    "best_epoch": run.metrics["best_epoch"],
                    "folder": run.folder,
                }
            )
    return pd.DataFrame(lines).to_csv(index=False)
