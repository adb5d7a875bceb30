"""The rows of a report as a table: for the terminal, in Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from p_rnn.runs.report.runs import Row
from p_rnn.runs.report.significance import LEVEL, Difference, differences, holm


@dataclass(frozen=True)
class Table:
    """Attributes:
    header, lines: cells as text; `numbers`: the columns that hold numbers.
    notes: what the marks mean.
    """

    header: list[str]
    lines: list[list[str]]
    numbers: list[bool]
    notes: list[str]


def metrics_of(rows: Sequence[Row], cutoffs: Sequence[int] | None) -> list[str]:
    """The metrics of a report: recall and MRR at the cutoffs, by default the largest common one."""
    if cutoffs is None:
        common = set.intersection(
            *({int(k) for k in row.first.settings["evaluation.cutoffs"]} for row in rows)
        )
        cutoffs = [max(common)] if common else []
    return [f"{kind}@{k}" for k in cutoffs for kind in ("recall", "mrr")]


def make_table(rows: Sequence[Row], metrics: Sequence[str], against: Row | None) -> Table:
    """A line per row; marks say which rows differ from `against` in the tests of its data set."""
    marks, notes = _marks(rows, metrics, against)
    varied = any(row.settings for row in rows)
    several = any(len(row.runs) > 1 for row in rows)
    header = [
        "data set",
        "model",
        "strategy",
        "loss",
        *(["settings"] if varied else []),
        "parameters",
        *(f"valid {m}" for m in metrics[:1]),
        *metrics,
        *(["seeds"] if several else []),
        "updates",
        "seconds",
        "best epoch",
    ]
    lines = []
    for n, row in enumerate(rows):
        run = row.first
        seconds = np.mean([r.metrics["seconds"]["total"] for r in row.runs])
        lines.append(
            [
                run.dataset,
                run.model,
                run.strategy,
                run.loss,
                *([", ".join(row.settings)] if varied else []),
                f"{run.metrics['parameters']:,}",
                *(_cell(row, m, "valid") for m in metrics[:1]),
                *(_cell(row, m, "test") + marks.get((n, m), "") for m in metrics),
                *([str(len(row.runs))] if several else []),
                f"{np.mean([r.metrics['updates'] for r in row.runs]):,.0f}",
                f"{seconds:,.0f}",
                "/".join(dict.fromkeys(str(r.metrics["best_epoch"]) for r in row.runs)),
            ]
        )
    text = {"data set", "model", "strategy", "loss", "settings"}
    return Table(header, lines, [name not in text for name in header], notes)


def _marks(
    rows: Sequence[Row], metrics: Sequence[str], against: Row | None
) -> tuple[dict[tuple[int, str], str], list[str]]:
    """{(number of the row, metric): mark}, and a note on each comparison."""
    if against is None:
        return {}, []
    rivals = [
        n
        for n, row in enumerate(rows)
        if row is not against and row.first.data == against.first.data
    ]
    if not rivals:
        return {}, []
    found = differences([rows[n] for n in rivals], against, metrics)
    tests = {(rivals[k], metric): test for (k, metric), test in found.items()}
    corrected = dict(zip(tests, holm([test.p for test in tests.values()]), strict=True))
    marks, notes = {}, []
    for pair, test in tests.items():
        n, metric = pair
        if corrected[pair] < LEVEL:
            marks[pair] = " +" if test.mean > 0 else " -"
        notes.append(_note(rows[n], against, metric, test, corrected[pair]))
    head = (
        f"+ and -: better and worse than {against.name} (paired bootstrap over sessions, "
        f"averaged over seeds, p < {LEVEL} after Holm's correction for the {len(tests)} tests; "
        f"in brackets 95 % intervals, not corrected)"
    )
    return marks, [head, *notes]


def _note(row: Row, against: Row, metric: str, test: Difference, p: float) -> str:
    return (
        f"{row.name} - {against.name}, {metric}: {test.mean:+.4f} "
        f"[{test.low:+.4f}, {test.high:+.4f}], p {p:.3f}"
    )


def _cell(row: Row, metric: str, split: str) -> str:
    values = row.values(metric, split)
    if np.isnan(values).any():
        return ""
    spread = f" ± {values.std(ddof=1):.4f}" if len(values) > 1 else ""
    return f"{values.mean():.4f}{spread}"


def as_text(table: Table) -> str:
    """For a terminal."""
    columns = list(zip(table.header, *table.lines, strict=True))
    widths = [max(map(len, column)) for column in columns]
    lines = [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, table.numbers, strict=True)
        ).rstrip()
        for line in (table.header, *table.lines)
    ]
    return "\n".join([*lines, *([""] if table.notes else []), *table.notes])


def as_markdown(table: Table) -> str:
    rule = ["---:" if number else "---" for number in table.numbers]
    lines = [f"| {' | '.join(line)} |" for line in (table.header, rule, *table.lines)]
    return "\n".join([*lines, *([""] if table.notes else []), *(f"- {n}" for n in table.notes)])


def as_csv(rows: Sequence[Row], metrics: Sequence[str]) -> str:
    """The figures of each run, not rounded."""
    file = io.StringIO()
    writer = csv.writer(file)
    splits = ("valid", "test")
    writer.writerow(
        [
            "dataset",
            "model",
            "strategy",
            "loss",
            "settings",
            "seed",
            *(f"{s} {m}" for s in splits for m in metrics),
            "parameters",
            "updates",
            "seconds",
            "best_epoch",
            "folder",
        ]
    )
    for row in rows:
        settings = " ".join(f"{k}={v}" for k, v in {**row.protocol, **row.varied}.items())
        for run in row.runs:
            figures = [run.metrics.get(s, {}).get(m, "") for s in splits for m in metrics]
            about: list[Any] = [run.metrics[k] for k in ("parameters", "updates")]
            writer.writerow(
                [
                    run.dataset,
                    run.model,
                    run.strategy,
                    run.loss,
                    settings,
                    run.settings["seed"],
                    *figures,
                    *about,
                    run.metrics["seconds"]["total"],
                    run.metrics["best_epoch"],
                    run.folder,
                ]
            )
    return file.getvalue()


def as_latex(table: Table) -> str:
    """A tabular for the package booktabs."""
    columns = "".join("r" if number else "l" for number in table.numbers)
    lines = [f"\\begin{{tabular}}{{{columns}}}", "\\toprule", _latex(table.header), "\\midrule"]
    lines += [*map(_latex, table.lines), "\\bottomrule", "\\end{tabular}"]
    return "\n".join([*lines, *(f"% {note}" for note in table.notes)])


def _latex(cells: Sequence[str]) -> str:
    escaped = [re.sub(r"([_%&#$])", r"\\\1", c).replace("±", "$\\pm$") for c in cells]
    return f"{' & '.join(escaped)} \\\\"
