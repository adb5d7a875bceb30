"""The charts, drawn from the CSV files in docs/results."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from svg import BLUE, GREEN, GREY, INK, LINE, MUTED, ORANGE, PINK, Picture, number

RESULTS = Path(__file__).resolve().parent.parent / "results"
PANELS = (
    ("retailrocket_week", "web shop, 845 targets", 0.68, 0.84),
    ("globo", "news, 96,686 targets", 0.2, 0.48),
    ("amazon_beauty", "purchases, 22,225 targets", 0.08, 0.12),
    ("ml_100k", "movies, 940 targets", 0.15, 0.25),
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
    if row == "id_only":
        return BLUE
    return ORANGE if row.startswith(("parallel", "concat", "feature_only")) else GREY


def results() -> Picture:
    """Test recall@20 of models and strategies on four data sets."""
    p = Picture(980, 432, "Test recall@20 of models and strategies on four data sets")
    p.text(24, 32, "Test recall@20, full catalogue", 15, anchor="start", bold=True)
    _key(p, 32, 340)
    found = {(row["dataset"], row["row"]): row for row in read("comparison")}
    for k, name in enumerate(ROWS):
        p.text(184, 106 + 25 * k, name, 12.5, INK, "end")
    for k, (dataset, remark, low, high) in enumerate(PANELS):
        cells = [found[dataset, row] for row in ROWS]
        panel = Panel(p, 200 + 194 * k, 102, 156, low, high)
        panel.frame(dataset, remark, len(cells))
        panel.dots(cells, "recall@20")
    _note(p, 416, "Each panel has its own scale, which does not start at 0. ", "seeds 1 to 3")
    return p


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


PAPER_ROWS = (
    "item_knn",
    "v_sknn",
    "session_pop",
    "id_only",
    "feature_only",
    "concat",
    "parallel simultaneous",
    "parallel alternating",
    "parallel residual",
    "parallel interleaving",
)
CURVES = (
    ("parallel residual", GREEN, ""),
    ("parallel alternating", PINK, ""),
    ("parallel simultaneous", ORANGE, ""),
    ("parallel interleaving", ORANGE, "2 3"),
    ("concat", GREY, "6 3"),
    ("id_only", BLUE, "3 3"),
)


def paper_results() -> Picture:
    """Test recall@20 and mrr@20 of experiment=prnn_paper."""
    p = Picture(760, 422, "experiment=prnn_paper on retailrocket_week, test split")
    p.text(24, 32, "experiment=prnn_paper, retailrocket_week", 15, anchor="start", bold=True)
    _key(p, 54, 30)
    found = {row["row"]: row for row in read("prnn_paper")}
    for k, name in enumerate(PAPER_ROWS):
        p.text(184, 126 + 25 * k, name, 12.5, INK, "end")
    for k, (metric, low, high) in enumerate((("recall@20", 0.55, 0.85), ("mrr@20", 0.2, 0.6))):
        panel = Panel(p, 200 + 278 * k, 122, 250, low, high)
        panel.frame(f"test {metric}", "845 targets", len(PAPER_ROWS))
        panel.dots([found[name] for name in PAPER_ROWS], metric)
    _note(p, 406, "Scales do not start at 0. ", "seeds 1 to 3")
    return p


def curves() -> Picture:
    """Validation recall@20 of experiment=prnn_paper by pass over the data."""
    p = Picture(760, 380, "Validation recall@20 by pass over the data")
    title = "experiment=prnn_paper: validation recall@20, mean of seeds 1 to 3"
    p.text(24, 32, title, 15, anchor="start", bold=True)
    left, top, width, height, low, high = 64, 56, 480, 260, 0.58, 0.74

    def at(passes: float, value: float) -> tuple[float, float]:
        share = (max(value, low) - low) / (high - low)
        return left + width * passes / 20, top + height * (1 - share)

    p.box(left, top, width, height, "#fbfcfd", "#d0d7de", 3, 1)
    for k in range(5):
        value = low + (high - low) * k / 4
        x, y = at(0, value)
        p.line([(x, y), (x + width, y)], "#e6e9ed", 0.8)
        p.text(x - 8, y + 4, f"{value:.2f}", 11, MUTED, "end")
        p.text(at(5 * k, low)[0], top + height + 18, str(5 * k), 11, MUTED)
    p.text(left + width / 2, top + height + 38, "passes over the data", 12, MUTED)
    rows = read("prnn_paper_curves")
    for k, (name, colour, dash) in enumerate(CURVES):
        values = [(int(r["pass"]), float(r["valid_recall@20"])) for r in rows if r["row"] == name]
        points = [at(n, v) for n, v in values if v >= low]
        p.line(points, colour, 2.2, dash=dash)
        y = top + 20 + 26 * k
        p.line([(564, y - 4), (590, y - 4)], colour, 2.2, dash=dash)
        p.text(598, y, name, 12.5, INK, "start")
    p.text(564, top + 20 + 26 * 7, "residual: passes 1 to 10 train", 11.5, MUTED, "start")
    p.text(564, top + 36 + 26 * 7, "the id subnet alone, 11 to 20", 11.5, MUTED, "start")
    p.text(564, top + 52 + 26 * 7, "the category subnet", 11.5, MUTED, "start")
    return p
