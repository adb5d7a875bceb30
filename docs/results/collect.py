"""Means over the seeds of studies, for the pictures and tables of the documentation.

python docs/results/collect.py multirun/paper_week multirun/paper_beauty > docs/results/paper.csv

Reads report/table.csv of each study. A row is named after its folder; a variant is its own row.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

METRICS = ("recall@20", "mrr@20")


def collect(study: Path) -> pd.DataFrame:
    """One line per row and variant, in the order of the report."""
    runs = pd.read_csv(study / "report" / "table.csv")
    places = runs["folder"].map(Path)
    runs["row"] = [place.parent.name for place in places]
    words = ([w for w in place.name.split(",") if "=" in w] for place in places)
    runs["variant"] = [" ".join(w for w in own if not w.startswith("seed=")) for own in words]
    groups = runs.groupby(["dataset", "row", "variant"], sort=False)
    columns = {}
    for metric in METRICS:
        columns[metric] = groups[f"test {metric}"].mean().round(4)
        columns[f"{metric}_std"] = groups[f"test {metric}"].std().round(4)
    columns["seeds"] = groups.size()
    return pd.DataFrame(columns).reset_index()


if __name__ == "__main__":
    pd.concat(map(collect, map(Path, sys.argv[1:]))).to_csv(sys.stdout, index=False)
