"""The tables of the paper's claims in docs/paper.md and docs/results.md, in Markdown.

python docs/results/claims.py multirun/paper_week multirun/paper_synthetic ...

Differences of test recall@20 and mrr@20 with 95 % intervals (paired bootstrap over sessions,
averaged over seeds); bold: p < .05 after Holm's correction for all tests against the same row.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from collect import METRICS, label, rows_of_study, shown

from p_rnn.runs.report.rows import ReportRow
from p_rnn.runs.report.significance import LEVEL, corrected_for, differences
from p_rnn.settings.errors import UserError

UPDATES = " num_epochs=10"  # of the paper study: as many updates of each subnet
PASSES = " num_epochs=5"  # as many passes over the data
CLAIMS = (  # the claim, the row, the row it is compared with
    ("features alone are worse than ids", "feature_only", "id_only"),
    ("concatenated inputs are about as good as ids", "concat", "id_only"),
    ("parallel, simultaneous, is slightly better than ids", "parallel simultaneous", "id_only"),
    *(
        (text.format(strategy), f"parallel {strategy}{passes}", "parallel simultaneous")
        for strategy in ("alternating", "residual", "interleaving")
        for text, passes in (
            ("{} is clearly better than simultaneous", ""),
            ("{} at equal passes", PASSES),
        )
    ),
    ("not in the paper: parallel, residual, minus `id_only`", "parallel residual", "id_only"),
    ("not in the paper: `id_only` with 200 units minus 100", "id_only_200", "id_only"),
    ("session models beat item-kNN (`id_only`)", "id_only", "item_knn"),
)


class Study:
    """The rows of a study by their labels, and their differences to any of them."""

    def __init__(self, folder: Path) -> None:
        rows = rows_of_study(folder)
        self.rows: dict[str, ReportRow] = {label(row).removesuffix(UPDATES): row for row in rows}
        self.dataset = rows[0].first.dataset
        self._cells: dict[str, dict[str, str]] = {}

    def cell(self, row: str, base: str) -> str:
        """Both metrics of `row` minus those of `base`; empty if the study lacks one of them."""
        if row not in self.rows or base not in self.rows:
            return ""
        if base not in self._cells:
            self._cells[base] = self._compared(base)
        return self._cells[base][row]

    def _compared(self, base: str) -> dict[str, str]:
        others = [name for name in self.rows if name != base]
        tests = differences([self.rows[n] for n in others], self.rows[base], METRICS)
        digits = 4 if len(self.rows[base].first.ranks.rank) > 10_000 else 3
        cells: dict[str, list[str]] = {name: [] for name in others}
        for pair, p in corrected_for(tests).items():
            test = tests[pair]
            mean, low, high = (shown(v, digits, "+") for v in (test.mean, test.low, test.high))
            mean = f"**{mean}**" if p < LEVEL else mean
            cells[others[pair[0]]].append(f"{mean} [{low}, {high}]")
        return {name: " / ".join(both) for name, both in cells.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="+", type=Path)
    try:
        studies = [Study(folder) for folder in parser.parse_args().studies]
    except UserError as error:
        sys.exit(str(error))
    print(f"| claim (recall@20 / mrr@20) | {' | '.join(study.dataset for study in studies)} |")
    print("|---" * (1 + len(studies)) + "|")
    for claim, row, base in CLAIMS:
        cells = [study.cell(row, base) for study in studies]
        if any(cells):
            print(f"| {claim} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
