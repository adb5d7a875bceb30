"""The committed pictures are those of the script, and tables and pictures show the same numbers."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

from tests.docs.pages import ROOT

PICTURES = ROOT / "docs" / "pictures"


def test_draw_reproduces_the_committed_pictures(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-B", PICTURES / "draw.py", tmp_path], check=True)
    drawn = {path.name: path.read_bytes() for path in tmp_path.glob("*.svg")}
    assert drawn == {path.name: path.read_bytes() for path in PICTURES.glob("*.svg")}
    assert drawn


def test_every_picture_is_shown_on_a_page() -> None:
    text = "".join(p.read_text() for p in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
    assert all(f"pictures/{path.name}" in text for path in PICTURES.glob("*.svg"))


def comparison() -> dict[tuple[str, str], dict[str, str]]:
    with (ROOT / "docs" / "results" / "comparison.csv").open(newline="") as file:
        return {(row["dataset"], row["row"]): row for row in csv.DictReader(file)}


def table(page: Path, first: str) -> list[list[str]]:
    """The cells of the table whose header starts with these words, the header first."""
    lines = page.read_text().splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith(first))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip().strip("|").split("|")])
    return [rows[0], *rows[2:]]


def label(cell: str) -> str:
    return re.sub(r" \(GRU4Rec\)", "", cell).replace("`", "").replace(", ", " ")


def test_the_results_page_shows_the_numbers_of_the_file() -> None:
    found, (head, *rows) = comparison(), table(ROOT / "docs" / "results.md", "| test recall@20")
    arrows = {"better": " ↑", "worse": " ↓", "": ""}
    cells = 0
    for name, *values in rows:
        for dataset, value in zip(head[1:], values, strict=True):
            own = found.get((dataset, label(name)))
            shown = []
            for metric in ("recall@20", "mrr@20") if own else ():
                assert own is not None
                deviation = own[f"{metric}_std"]
                text = own[metric] + (f" ± {deviation}" if deviation else "")
                shown.append(text + arrows[own[f"{metric}_vs_id_only"]])
            remark = " (seed 1)" if own and own["seeds"] == "1" else ""
            assert value == " / ".join(shown) + remark
            cells += own is not None
    assert cells == len(found)


def test_the_readme_shows_the_numbers_of_the_file() -> None:
    found, (head, *rows) = comparison(), table(ROOT / "README.md", "| | retailrocket_week")
    assert len(rows) >= 5
    for name, *values in rows:
        for dataset, value in zip(head[1:], values, strict=True):
            own = found[dataset, label(name)]
            assert value == f"{own['recall@20']} / {own['mrr@20']}"
