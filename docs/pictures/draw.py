"""Draw the pictures of README and docs: python docs/pictures/draw.py [folder].

Diagrams are drawn from code, charts from the CSV files in docs/results. The output depends on
nothing else, so a test compares it with the committed files byte for byte.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from charts import paper_results, results  # noqa: E402
from diagrams import architecture, models, strategies  # noqa: E402
from schedules import schedules  # noqa: E402
from svg import Picture  # noqa: E402

PICTURES: dict[str, Callable[[], Picture]] = {
    "architecture": architecture,
    "models": models,
    "strategies": strategies,
    "results": results,
    "paper_results": paper_results,
    "schedules": schedules,
}


def main(folder: Path = HERE) -> None:
    """Write every picture as <name>.svg."""
    for name, draw in PICTURES.items():
        (folder / f"{name}.svg").write_text(str(draw()), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
