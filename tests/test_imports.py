"""No module needs another one to be imported first: what modules import on their own is a DAG."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted((ROOT / "p_rnn").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path) -> list[str]:
    """What a module imports as it is imported itself: not in functions, not for checkers only."""
    names = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def test_imports_have_no_cycle() -> None:
    known, graph = modules(), {}
    for name, path in known.items():
        needed = set()
        for other in imported(path):
            parts = other.split(".")
            # Importing a.b.c runs a and a.b first.
            needed |= {".".join(parts[: k + 1]) for k in range(len(parts))} & set(known)
        inside = {name.rsplit(".", k)[0] for k in range(1, name.count(".") + 1)}
        graph[name] = needed - inside - {name}
    assert len(graph) > 150
    assert "p_rnn.models.cells" in graph["p_rnn.models.parts"]
    TopologicalSorter(graph).prepare()  # raises CycleError
