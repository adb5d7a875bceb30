"""Means over the seeds of studies, for the pictures and tables of the documentation.

python docs/results/collect.py multirun/paper_week multirun/paper_beauty > docs/results/paper.csv
python docs/results/collect.py --against id_only multirun/globo ... > docs/results/comparison.csv

A row is named after its folder; a variant is its own row. With --against, the name of a strategy is
a word of the row, figures are rounded as in docs/results.md, and "better" and "worse" mark what
differs from that row (paired bootstrap over sessions, p < .05 after Holm's correction).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

from p_rnn.runs.report.rows import ReportRow, rows_of
from p_rnn.runs.report.runs import find_runs
from p_rnn.runs.report.significance import LEVEL, corrected_for, differences
from p_rnn.settings.errors import UserError

METRICS = ("recall@20", "mrr@20")


def rows_of_study(folder: Path) -> list[ReportRow]:
    """The rows of the last report of a study, in its order."""
    table = folder / "report" / "table.csv"
    if not table.exists():
        raise UserError(f"{folder} holds no report of a study: {table} is missing")
    places = [Path(text).parts[-2:] for text in pd.read_csv(table)["folder"]]
    return rows_of(find_runs(folder.joinpath(*parts) for parts in places))


def names(row: ReportRow) -> tuple[str, str]:
    """The folder of a row in its study, and what makes it a variant there."""
    place = row.first.folder
    words = [w for w in place.name.split(",") if "=" in w and not w.startswith("seed=")]
    return place.parent.name, " ".join(words)


def label(row: ReportRow) -> str:
    """The same as words of a table: `parallel residual`."""
    folder, variant = names(row)
    if row.first.strategy and folder.endswith(f"_{row.first.strategy}"):
        folder = f"{row.first.model} {row.first.strategy}"
    return f"{folder} {variant.removeprefix('strategy=')}".strip()


def means(rows: list[ReportRow]) -> pd.DataFrame:
    """One line per row and variant."""
    lines = []
    for row in rows:
        folder, variant = names(row)
        line: dict[str, object] = {"dataset": row.first.dataset, "row": folder, "variant": variant}
        for metric in METRICS:
            values = pd.Series(row.values(metric))
            line |= {metric: round(values.mean(), 4), f"{metric}_std": round(values.std(), 4)}
        lines.append({**line, "seeds": len(row.runs)})
    return pd.DataFrame(lines)


def compared(rows: list[ReportRow], words: str) -> pd.DataFrame:
    """One line per row, with marks of what differs from the row of this label."""
    base = next((row for row in rows if label(row) == words), None)
    if base is None:
        raise UserError(f"--against '{words}': take one of {', '.join(map(label, rows))}")
    others = [row for row in rows if row is not base]
    tests = differences(others, base, METRICS)
    marks = {
        (label(others[n]), metric): "better" if tests[n, metric].mean > 0 else "worse"
        for (n, metric), p in corrected_for(tests).items()
        if p < LEVEL
    }
    lines = []
    for row in rows:
        line = {"dataset": row.first.dataset, "row": label(row)}
        for metric in METRICS:
            values = pd.Series(row.values(metric))
            digits = 4 if values.mean() < 0.2 else 3
            line[metric] = shown(values.mean(), digits)
            line[f"{metric}_std"] = shown(values.std(), digits) if len(values) > 1 else ""
            line[f"{metric}_vs_{words}"] = marks.get((label(row), metric), "")
        counts = not row.first.metrics["updates"]
        lines.append(
            {**line, "seeds": "" if counts else " ".join(str(r.settings["seed"]) for r in row.runs)}
        )
    return pd.DataFrame(lines)


def shown(value: float, digits: int, sign: str = "-") -> str:
    """Without the zero before the point, as .012; with sign="+", +.012."""
    return f"{value:{sign}.{digits}f}".replace("0.", ".", 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="+", type=Path)
    parser.add_argument("--against", help="a row that the others are tested against")
    args = parser.parse_args()
    try:
        found = [rows_of_study(study) for study in args.studies]
        tables = [compared(r, args.against) if args.against else means(r) for r in found]
    except UserError as error:
        sys.exit(str(error))
    pd.concat(tables).to_csv(sys.stdout, index=False)


if __name__ == "__main__":
    main()
