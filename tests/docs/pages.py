"""The pages that people read, and the commands that stand in them."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "tour.ipynb"
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "data" / "README.md",
    ROOT / "p_rnn" / "fast" / "README.md",
    NOTEBOOK,
]
SCRIPTS = ("train", "prepare", "evaluate", "recommend", "export", "search", "study", "report")


def text_of(page: Path) -> str:
    """The Markdown of a page; of the notebook that of its text cells."""
    content = page.read_text(encoding="utf-8")
    if page.suffix != ".ipynb":
        return content
    cells = json.loads(content)["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def commands(page: Path) -> list[tuple[str, list[str]]]:
    """(script, arguments) of every p_rnn command of a page, in code blocks and inline code.

    Left out: commands with a part to fill in (`...`, `NAME`, `<...>`, `key=`), and names of
    commands without arguments in running text.
    """
    text = text_of(page).replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        lines += [line.strip() for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", text)
    found = []
    for line in lines:
        match = re.fullmatch(r"(?:python scripts/(\w+)(?:\.py)?|p-rnn (\w+))(?: +(.*))?", line)
        if match is None or re.search(r"\.\.\.|\bNAME\b|<|\bkey=|RUNS", line):
            continue
        script = match[1] or match[2]
        arguments = shlex.split(match[3] or "", comments=True)
        if arguments or script == "train":
            found.append((script, arguments))
    return found
