"""Items, their scores and what is known of them, as tables for a terminal."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from p_rnn import printing
from p_rnn.recommend.recommender import Recommender
from p_rnn.recommend.top import Top

NARROWEST, WIDEST = 80, 100  # characters of a line
SHORTEST = 8  # characters that a value is cut to at most
GAP = 2  # blanks between columns


def top_table(top: Top) -> str:
    """Rank, item, score and labels, one line per item."""
    own = {
        "rank": [str(k + 1) for k in range(len(top))],
        "item": [str(item) for item in top.ids],
        "score": _scores(top.scores),
    }
    return _table(own, top.catalogue.labels(top.items))


def items_table(recommender: Recommender, ids: Sequence[Any]) -> str:
    """The items of a session and their labels, and why some of them are skipped."""
    catalogue = recommender.catalogue
    index = catalogue.index(ids)
    labels = {name: [""] * len(ids) for name in catalogue.properties}
    known = np.flatnonzero(index >= 0)
    for name, values in catalogue.labels(index[known]).items():
        for row, value in zip(known, values, strict=True):
            labels[name][row] = value
    own = {"#": [str(k + 1) for k in range(len(ids))], "item": [str(raw) for raw in ids]}
    skipped = [reason(recommender, int(item)) for item in index]
    if any(skipped):
        own["skipped"] = [why or "" for why in skipped]
    return _table(own, labels)


def reason(recommender: Recommender, item: int) -> str | None:
    """Why the model cannot read an item index (-1: of an unknown id); None if it can."""
    if item < 0:
        return "unknown"
    return "cannot be read" if item >= recommender.num_readable else None


def _table(own: dict[str, list[str]], labels: dict[str, list[Any]]) -> str:
    cells = {name: [_cell(v) for v in values] for name, values in labels.items() if name not in own}
    frame, left_out = fitted(pd.DataFrame(own, dtype=str), cells, _width())
    text = printing.as_text(frame, max(_width(), _size(own)))
    if left_out:
        text += "\n" + printing.wrapped(f"no room for {', '.join(left_out)}", _width())
    return text


def fitted(
    own: pd.DataFrame, labels: dict[str, list[str]], width: int
) -> tuple[pd.DataFrame, list[str]]:
    """The columns of `own` and, after them, those of labels, cut to a width.

    The widest label is cut first; the last ones are left out if even short ones have no room.

    Returns:
        (the table, the names of labels that are left out).
    """
    room = width - _size({str(name): own[name].tolist() for name in own})
    names = list(labels)
    while names and len(names) * (SHORTEST + GAP) > room:
        names.pop()
    sizes = {name: max(map(len, (name, *labels[name]))) for name in names}
    while names and (over := sum(sizes.values()) + GAP * len(names) - room) > 0:
        widest = max(names, key=lambda name: sizes[name])
        others = sorted(sizes.values())[-2] if len(names) > 1 else 0
        sizes[widest] = max(SHORTEST, sizes[widest] - over, min(others, sizes[widest] - 1))
    made = own.copy()
    for name in names:
        shown = _cut(name, sizes[name])
        while shown in made:  # another one that is cut to the same
            shown += "'"
        made[shown] = [_cut(cell, sizes[name]) for cell in labels[name]]
    return made, [name for name in labels if name not in names]


def _size(columns: dict[str, list[str]]) -> int:
    """The width of a table."""
    sizes = [max(map(len, (name, *cells))) for name, cells in columns.items()]
    return sum(sizes) + GAP * (len(sizes) - 1)


def _width() -> int:
    columns = shutil.get_terminal_size((WIDEST, 24)).columns
    return min(WIDEST, max(NARROWEST, columns))


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else text[: size - 1].rstrip() + "…"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return " ".join(text.split())


def _scores(scores: Sequence[float]) -> list[str]:
    """Of the same number of decimals, where their sizes allow it."""
    largest = max(map(abs, scores), default=0)
    plain = 0.01 <= largest < 1e6
    return [f"{score:.4f}" if plain else f"{score:.4g}" for score in scores]
