"""Which training schedule wins in which world: python docs/pictures/schedules.py FOLDER...

writes docs/results/schedules.csv from the runs in the folders (docs/paper.md has the commands);
draw.py makes the picture of it.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

from svg import BLUE, GREEN, INK, MUTED, ORANGE, PINK, Picture

TABLE = Path(__file__).resolve().parent.parent / "results" / "schedules.csv"
STRATEGIES = {
    "simultaneous": ORANGE,
    "alternating": PINK,
    "residual": GREEN,
    "interleaving": BLUE,
}
IDS = "id_only"
PASSES = (4, 12)  # the best epoch among so many passes over the data
LOSSES, EVENTS, NOISE = ("top1", "cross_entropy"), (15_000, 45_000, 135_000), (0.1, 0.5, 2.0)
LEFT, TOP, CELL, GAP = 118, 96, (116, 100), 8
World = tuple[str, int, float]


def collect(sweeps: list[Path]) -> None:
    """Write the table: settings of each run, recall@20, and the best possible."""
    files = [path for sweep in sweeps for path in sweep.glob("*/metrics.json")]
    rows = [row_of(json.loads(path.read_text())) for path in files]
    rows.sort(
        key=lambda row: [row[name] for name in ("loss", "num_events", "image_noise", "strategy")]
    )
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def row_of(metrics: dict[str, Any]) -> dict[str, Any]:
    """A run: test, best possible and, on validation, the best within some passes and overall."""
    config, tested = metrics["config"], metrics["results"]["test"]
    model, world = config["model"]["name"], config["dataset"]["synthetic"]
    valid = [(e["epoch"], e["valid"]["recall@20"]) for e in metrics["history"] if "valid" in e]
    best = {f"valid_{n}": max(v for e, v in valid if e <= n) for n in PASSES}
    best["valid"] = max(v for _, v in valid)
    return {
        "loss": config["loss"]["name"],
        "num_events": world["num_events"],
        "image_noise": float(world["image_noise"]),
        "strategy": IDS if model == IDS else config["strategy"]["name"],
        "recall@20": f"{tested[model]['metrics']['recall@20']:.4f}",
        "best_possible": f"{tested['best possible']['metrics']['recall@20']:.4f}",
        **{name: f"{value:.4f}" for name, value in best.items()},
    }


def read() -> dict[World, dict[str, float]]:
    """For each world, the share of the best possible recall@20 that each strategy reaches."""
    found: dict[World, dict[str, float]] = {}
    with TABLE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            world = (row["loss"], int(row["num_events"]), float(row["image_noise"]))
            share = float(row["recall@20"]) / float(row["best_possible"])
            found.setdefault(world, {})[row["strategy"]] = share
    return found


def schedules() -> Picture:
    """Shares of the best possible recall: a panel for each loss, a cell for each world."""
    found = read()
    p = Picture(920, 480, "Training schedules in synthetic worlds")
    title = "Test recall@20 as a share of the best possible, synthetic worlds"
    p.text(24, 32, title, 15, anchor="start", bold=True)
    for k, (name, colour) in enumerate(STRATEGIES.items()):
        p.dot(30 + 124 * k, 54, 5, colour)
        p.text(40 + 124 * k, 58, name, 12, MUTED, "start")
    p.line([(520, 48), (520, 62)], INK, dash="3 2")
    p.text(528, 58, "id_only", 12, MUTED, "start")
    for panel, loss in enumerate(LOSSES):
        x = LEFT + panel * (3 * (CELL[0] + GAP) + 24)
        p.text(x + 1.5 * (CELL[0] + GAP), TOP - 10, f"loss={loss}", 13, bold=True)
        for column, events in enumerate(EVENTS):
            at = x + column * (CELL[0] + GAP)
            ids = found[loss, events, NOISE[0]][IDS]  # does not read images
            for row, noise in enumerate(NOISE):
                shares = {s: found[loss, events, noise][s] for s in STRATEGIES}
                _cell(p, at, TOP + row * (CELL[1] + GAP), shares, ids)
            words = f"{events:,} events"
            p.text(at + CELL[0] / 2, TOP + 3 * (CELL[1] + GAP) + 12, words, 11.5, MUTED)
    for row, noise in enumerate(NOISE):
        y = TOP + row * (CELL[1] + GAP) + CELL[1] / 2
        p.text(LEFT - 12, y - 8, "image noise", 11.5, MUTED, "end")
        p.text(LEFT - 12, y + 8, f"{noise:g}", 12.5, INK, "end")
    p.text(
        24, 464, "Bars start at 0. The best of each cell is bold. One seed.", 11.5, MUTED, "start"
    )
    return p


def _cell(p: Picture, x: float, y: float, shares: dict[str, float], ids: float) -> None:
    width, height = CELL
    p.box(x, y, width, height, "#fbfcfd", "#d0d7de", 3, 1)
    best, scale = max(shares.values()), (width - 46) / 0.8
    for k, (name, share) in enumerate(shares.items()):
        at = y + 9 + 22 * k
        p.box(x + 5, at, share * scale, 14, STRATEGIES[name], "none", 2, 0)
        words = f"{share:.3f}".lstrip("0")
        p.text(x + width - 6, at + 11, words, 11, INK, "end", bold=share == best)
    p.line(
        [(x + 5 + ids * scale, y + 4), (x + 5 + ids * scale, y + height - 4)], INK, 1, dash="3 2"
    )


if __name__ == "__main__":
    collect([Path(word) for word in sys.argv[1:]])
