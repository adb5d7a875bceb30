"""Writes a report: table.txt, table.md, table.csv, table.tex and the pictures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from p_rnn.files import full_disk_named, write_text
from p_rnn.runs.report.beyond import beyond_table
from p_rnn.runs.report.pictures import draw_all
from p_rnn.runs.report.rows import ReportRow, best_rows, rows_of
from p_rnn.runs.report.runs import find_runs
from p_rnn.runs.report.table import as_csv, as_latex, as_markdown, as_text, make_table, metrics_of
from p_rnn.settings.errors import FullDisk, UserError

log = logging.getLogger(__name__)


def write_report(
    places: Sequence[Path],
    folder: Path,
    against: str | None = None,
    cutoffs: Sequence[int] | None = None,
    best: bool = False,
    inside: Path | None = None,
) -> str:
    """Write a report on all runs in some folders; return the table for the terminal.

    Args:
        against: the row that others are tested against, by words that only its label has.
        best: of rows that differ only in their settings, take only the best on validation.
        inside: the row of `against` is one of the runs in this folder.

    Raises:
        UserError: nothing to report, unknown metrics, no such row.
    """
    rows = rows_of(find_runs(places))
    metrics = metrics_of(rows, cutoffs)
    for row in rows:
        for metric in metrics:
            if metric not in row.first.metrics["test"]:
                raise UserError(
                    f"{row.first.folder} has no {metric}; known: "
                    f"{', '.join(row.first.metrics['test'])} (--cutoffs)"
                )
    if not metrics:
        raise UserError("the runs have no cutoff in common; report them separately")
    if best:
        chooses = rows[0].first.settings["early_stopping.metric"]  # as in training and search
        rows = best_rows(rows, chooses or metrics[0])
    chosen = {} if against is None else _row(rows, against, inside)
    folder.mkdir(parents=True, exist_ok=True)
    tables, shown = [], []  # what is shown for people has a second table where it was measured
    for data in dict.fromkeys(row.first.data for row in rows):
        own = [row for row in rows if row.first.data == data]
        tables.append(make_table(own, metrics, chosen.get(data)))
        beyond = beyond_table(own, metrics)
        shown += [tables[-1], *([beyond] if beyond else [])]
    text = "\n\n".join(map(as_text, shown))
    write_text(folder / "table.txt", text + "\n")
    write_text(folder / "table.md", "\n\n".join(map(as_markdown, shown)) + "\n")
    write_text(folder / "table.tex", "\n\n".join(map(as_latex, tables)) + "\n")
    write_text(folder / "table.csv", as_csv(rows, metrics))
    try:
        with full_disk_named(folder):
            draw_all(rows, metrics[0], folder)
    except FullDisk:
        raise
    except UserError as error:
        log.warning("%s", error)
    return text


def _row(rows: Sequence[ReportRow], words: str, inside: Path | None) -> dict[str, ReportRow]:
    """For each data set (`Run.data`), the row whose label has these words, of runs in a folder."""
    wanted = words.split()
    labels = ", ".join(f"'{row.label}'" for row in rows)
    named = words if inside is None else f"{inside.name} {words}".strip()
    fitting: dict[str, list[ReportRow]] = {}
    for row in rows:
        here = inside is None or inside in row.first.folder.parents
        if here and set(wanted) <= set(row.label.split()):
            fitting.setdefault(row.first.data, []).append(row)
    found = {}
    for data, own in fitting.items():
        exact = [row for row in own if set(row.name.split()) <= set(wanted)]
        if len(own) > 1 and len(exact) != 1:
            raise UserError(f"--against '{named}' fits several rows of: {labels}")
        found[data] = exact[0] if exact else own[0]
    if not found:
        raise UserError(f"--against '{named}' fits none of: {labels}")
    return found
