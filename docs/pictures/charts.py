"""The charts, drawn from the CSV files in docs/results."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from svg import BLUE, GREY, INK, LINE, MUTED, ORANGE, Picture, number

RESULTS = Path(__file__).resolve().parent.parent / "results"
PANELS = (
    ("retailrocket_week", "web shop, 845 targets", 0.68, 0.84),
    ("globo", "news, 96,686 targets", 0.34, 0.48),
    ("amazon_beauty", "purchases, 22,225 targets", 0.08, 0.12),
    ("ml_100k_plots", "movies, 940 targets", 0.15, 0.25),
)
ROWS = (
    "item_knn",
    "v_sknn",
    "feature_markov",
    "id_only",
    "feature_only",
    "concat",
    "parallel simultaneous",
    "parallel alternating",
    "parallel residual",
    "parallel interleaving",
    "parallel_shared",
)


def read(name: str) -> list[dict[str, str]]:
    """The rows of docs/results/<name>.csv."""
    with (RESULTS / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def colour_of(row: str) -> str:
    """Grey: models that count; blue: networks on ids alone; orange: networks that read features."""
    if row.startswith("id_only"):
        return BLUE
    return ORANGE if row.startswith(("parallel", "concat", "feature_only")) else GREY


def results() -> Picture:
    """Test recall@20 of models and strategies on four data sets."""
    p = Picture(980, 432, "Test recall@20 of models and strategies on four data sets")
    p.text(24, 32, "Test recall@20, full catalogue", 15, anchor="start", bold=True)
    _key(p, 32, 340)
    found = {(row["dataset"], row["row"]): row for row in read("comparison")}
    _panels(p, found, ROWS, PANELS, x=200, width=156, gap=38)
    _note(p, 416, "Each panel has its own scale, which does not start at 0. ", "seeds 1 to 3")
    return p


def _panels(
    p: Picture,
    found: dict[tuple[str, str], dict[str, str]],
    rows: Sequence[str],
    panels: Sequence[tuple[str, str, float, float]],
    *,
    x: float,
    width: float,
    gap: float,
) -> None:
    """Names of rows left of `x`, and recall@20 on each data set in a panel beside the last one."""
    for k, name in enumerate(rows):
        p.text(x - 16, 106 + 25 * k, name, 12.5, INK, "end")
    for k, (dataset, remark, low, high) in enumerate(panels):
        cells = [found[dataset, row] for row in rows]
        panel = Panel(p, x + (width + gap) * k, 102, width, low, high)
        panel.frame(dataset, remark, len(cells))
        panel.dots(cells, "recall@20")


def _key(p: Picture, y: float, x: float) -> None:
    names = (
        (GREY, "counts, no training"),
        (BLUE, "network, ids only (GRU4Rec)"),
        (ORANGE, "network with features"),
    )
    for k, (colour, words) in enumerate(names):
        at = x + (0, 160, 370)[k]
        p.dot(at, y - 5, 5, colour)
        p.text(at + 12, y, words, 12, MUTED, "start")


def _note(p: Picture, y: float, before: str, seeds: str) -> None:
    words = f"{before}Line through a dot: ± standard deviation over {seeds}. Dashed: id_only."
    p.text(24, y, words, 11.5, MUTED, "start")


@dataclass(frozen=True)
class Panel:
    """Dots, a row for each, on an axis from `low` to `high` that is `width` wide."""

    p: Picture
    x: float
    top: float
    width: float
    low: float
    high: float
    step: float = 25

    def at(self, value: float) -> float:
        return self.x + self.width * (value - self.low) / (self.high - self.low)

    def frame(self, title: str, remark: str, rows: int) -> None:
        p, bottom = self.p, self.top + self.step * (rows - 1) + 14
        p.text(self.x + self.width / 2, self.top - 36, title, 13, bold=True)
        p.text(self.x + self.width / 2, self.top - 20, remark, 11, MUTED)
        p.box(self.x, self.top - 13, self.width, bottom - self.top + 13, "#fbfcfd", "#d0d7de", 3, 1)
        for part in range(3):
            value = self.low + (self.high - self.low) * part / 2
            p.text(self.at(value), bottom + 16, f"{value:.3g}", 10.5, MUTED)
            p.line([(self.at(value), bottom), (self.at(value), bottom + 4)], LINE, 1)

    def dots(self, cells: list[dict[str, str]], metric: str) -> None:
        """A dot for each row, with its standard deviation; too low a value as a number."""
        p, rows = self.p, len(cells)
        for cell in cells:
            if cell["row"] == "id_only":
                x = self.at(float(cell[metric]))
                bottom = self.top + self.step * (rows - 1) + 14
                p.line([(x, self.top - 13), (x, bottom)], BLUE, 1, dash="3 3")
        for k, cell in enumerate(cells):
            y, colour = self.top + self.step * k, colour_of(cell["row"])
            value, deviation = float(cell[metric]), float(cell[f"{metric}_std"] or 0)
            p.line([(self.x, y), (self.x + self.width, y)], "#e6e9ed", 0.8)
            if value < self.low:
                p.path(
                    f"M{number(self.x + 10)} {y - 4}L{number(self.x + 3)} {y}L"
                    f"{number(self.x + 10)} {y + 4}",
                    colour,
                    2,
                )
                p.text(self.x + 16, y + 4, cell[metric], 11, colour, "start")
                continue
            if deviation:
                ends = [self.at(value + sign * deviation) for sign in (-1, 1)]
                p.line([(ends[0], y), (ends[1], y)], colour, 2)
            p.dot(self.at(value), y, 4.5, colour, "#ffffff")


PAPER_PANELS = (
    ("retailrocket_week", "web shop, 845 targets", 0.6, 0.8),
    ("synthetic", "60,000 events, 5,189 targets", 0.15, 0.35),
    ("amazon_beauty", "purchases, 22,225 targets", 0.0, 0.1),
    ("ml_100k_plots", "movies, 940 targets", 0.1, 0.2),
    ("globo", "a day, 18,528 targets", 0.05, 0.35),
)
PAPER_ROWS = (
    "item_knn",
    "id_only",
    "id_only_200",
    "feature_only",
    "concat",
    *(
        f"{model}_{strategy}"
        for model in ("parallel", "parallel_shared", "parallel_interaction")
        for strategy in ("simultaneous", "alternating", "residual", "interleaving")
    ),
)


def paper_results() -> Picture:
    """Test recall@20 of the networks of the paper in its own settings on five data sets."""
    p = Picture(1080, 582, "The networks of the paper in its own settings on five data sets")
    p.text(24, 32, "experiment=prnn_paper, tuned, test recall@20", 15, anchor="start", bold=True)
    _key(p, 32, 440)
    rows = [row for row in read("paper") if row["variant"] != "num_epochs=5"]
    found = {(row["dataset"], row["row"]): row for row in rows}
    _panels(p, found, PAPER_ROWS, PAPER_PANELS, x=280, width=122, gap=36)
    _note(p, 566, "Each panel has its own scale. Equal updates per subnet. ", "seeds 1 to 3")
    return p
