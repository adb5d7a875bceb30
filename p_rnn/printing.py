"""Tables as text: for a terminal, in Markdown and in LaTeX.

A table is a DataFrame of strings; columns of numbers are right-aligned. Markdown and LaTeX are
written here, because pandas needs further packages for them; CSV is `DataFrame.to_csv`.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import textwrap
from collections.abc import Collection, Sequence

import pandas as pd

COLUMNS = 80  # width of a terminal, in characters
LONGEST_CELL = 40  # characters in a line of a text cell, if the table is too wide
NUMBER = re.compile(r"[-+−]?[\d.,]+( |%|/|$)")


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> pd.DataFrame:
    """A table of cells [rows, columns] under a header."""
    return pd.DataFrame([list(line) for line in lines], columns=list(header), dtype=str)


def show(text: str) -> None:
    """Print; a reader that has enough, as `head`, is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # What is left in the buffer has nowhere to go, and Python would say so at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def is_number(column: pd.Series[str]) -> bool:
    """Whether all cells of a column are numbers, optionally followed by a mark, or empty."""
    given = [cell for cell in column if cell]
    return bool(given) and all(NUMBER.match(cell) for cell in given)


def as_text(frame: pd.DataFrame, width: int = COLUMNS) -> str:
    """The table for a terminal: too wide for it, it is split into blocks below each other.

    Each block begins with the text columns before the first column of numbers, if they leave room
    for others, or else with the row number.
    """
    names = list(frame.columns)
    numbers = [is_number(frame[name]) for name in names]
    for gap in (2, 1):
        lines = _lines(frame, numbers, gap)
        if max(map(len, lines)) <= width:
            return "\n".join(lines)
    folded = frame.map(lambda cell: "\n".join(_broken(cell)))
    labels = numbers.index(True) if True in numbers else len(names)
    sizes = [_size(folded[name]) for name in names]
    if sum(sizes[:labels]) + 2 * labels > width / 2:
        folded.insert(0, "#", [str(k + 1) for k in range(len(frame))])
        names, numbers = ["#", *names], [True, *numbers]
        labels, sizes = 1, [max(1, len(str(len(frame)))), *sizes]
    blocks, block, room = [], list(range(labels)), width - sum(sizes[:labels]) - 2 * (labels - 1)
    left = room
    for k in range(labels, len(names)):
        if sizes[k] + 2 > left and len(block) > labels:
            blocks.append(block)
            block, left = list(range(labels)), room
        block.append(k)
        left -= sizes[k] + 2
    return "\n\n".join(
        "\n".join(_lines(folded.iloc[:, chosen], [numbers[k] for k in chosen], 2))
        for chosen in [*blocks, block]
    )


def _broken(cell: str) -> list[str]:
    """The lines of a cell; words such as key=value stay whole."""
    return textwrap.wrap(cell, LONGEST_CELL, break_long_words=False, break_on_hyphens=False)


def _size(column: pd.Series[str]) -> int:
    """The width of a column: of its name, or of the longest line in its cells."""
    return max(len(line) for cell in (str(column.name), *column) for line in cell.split("\n"))


def _lines(frame: pd.DataFrame, numbers: Sequence[bool], gap: int) -> list[str]:
    sizes = [_size(frame[name]) for name in frame.columns]
    lines = []
    for row in ([str(name) for name in frame.columns], *frame.to_numpy().tolist()):
        parts = [cell.split("\n") for cell in row]
        for k in range(max(map(len, parts))):
            cells = [part[k] if k < len(part) else "" for part in parts]
            placed = [
                f"{cell:>{size}}" if number else f"{cell:<{size}}"
                for cell, size, number in zip(cells, sizes, numbers, strict=True)
            ]
            lines.append((" " * gap).join(placed).rstrip())
    return lines


def wrapped(text: str, width: int = COLUMNS) -> str:
    """Wrap a text to the width of a terminal; lines after the first are indented."""
    return textwrap.fill(
        text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


class Formatter(logging.Formatter):
    """Wraps log messages to the width of a terminal; errors stay on one line, to be searchable."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if record.levelno >= logging.ERROR:
            return text
        lines = (line if len(line) <= COLUMNS else wrapped(line) for line in text.split("\n"))
        return "\n".join(lines)


def log_to_terminal() -> None:
    """Print log messages to standard error without a prefix."""
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def as_markdown(frame: pd.DataFrame) -> str:
    """The table in GitHub's Markdown."""
    names = [str(name) for name in frame.columns]
    rule = ["---:" if is_number(frame[name]) else "---" for name in frame.columns]
    return "\n".join(f"| {' | '.join(line)} |" for line in (names, rule, *frame.to_numpy()))


def as_latex(frame: pd.DataFrame, caption: str, best: Collection[str] = ()) -> str:
    """The table in LaTeX, for the package booktabs.

    Args:
        caption: plain text; "^+" and "^-" in it and in cells become superscripts.
        best: columns whose highest number is set in bold, in all rows that have it.
    """
    names = [str(name) for name in frame.columns]
    shown = frame.map(latex_text)
    for name in best:
        values = [_leading(cell) for cell in frame[name]]
        highest = max((v for v in values if v is not None), default=None)
        shown[name] = [
            f"\\textbf{{{cell}}}" if value is not None and value == highest else cell
            for cell, value in zip(shown[name], values, strict=True)
        ]
    kinds = "".join("r" if is_number(frame[name]) else "l" for name in frame.columns)
    lines = [" & ".join(map(latex_text, names)), *(" & ".join(row) for row in shown.to_numpy())]
    head, *body = [f"{line} \\\\" for line in lines]
    return "\n".join(
        [
            "\\begin{table}",
            "\\centering",
            f"\\caption{{{latex_text(caption)}}}",
            f"\\begin{{tabular}}{{{kinds}}}",
            "\\toprule",
            head,
            "\\midrule",
            *body,
            "\\bottomrule",
            "\\end{tabular}",
            "\\end{table}",
        ]
    )


def _leading(cell: str) -> float | None:
    """The number at the start of a cell, or None."""
    found = re.match(r"[-+]?\d[\d,]*\.?\d*|[-+]?\.\d+", cell)
    return float(found.group().replace(",", "")) if found else None


def latex_text(text: str) -> str:
    """Escape plain text for LaTeX."""
    escaped = re.sub(r"([_%&#$])", r"\\\1", text).replace("±", "$\\pm$").replace("<", "$<$")
    return re.sub(r"\^([+-])", r"$^{\1}$", escaped)
