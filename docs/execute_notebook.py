"""Run the code cells of docs/tour.ipynb and store what they print and draw.

    python docs/execute_notebook.py            # runs in a temporary folder, rewrites the notebook

Cells run in order with plain `exec`, so neither Jupyter nor nbformat is needed. The tests use
`run_cells` for the same.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).resolve().parent / "tour.ipynb"


def run_cells(notebook: dict[str, Any]) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each code cell and its outputs, in order, in the current folder."""
    import matplotlib

    matplotlib.use("Agg")
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            yield cell, _run("".join(cell["source"]), f"cell {number}", names)


def _run(source: str, place: str, names: dict[str, Any]) -> list[dict[str, Any]]:
    """What a cell prints, its last expression, and its figures."""
    tree = ast.parse(source, place)
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = ast.Expression(tree.body.pop().value)  # type: ignore[attr-defined]
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, place, "exec"), names)
        if last is not None:
            value = eval(compile(last, place, "eval"), names)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        text = printed.getvalue().splitlines(keepends=True)
        outputs.append({"output_type": "stream", "name": "stdout", "text": text})
    outputs += _figures()
    if value is not None:
        data = {"text/plain": repr(value).splitlines(keepends=True)}
        outputs.append(
            {"output_type": "execute_result", "data": data, "metadata": {}, "execution_count": None}
        )
    return outputs


def _figures() -> Iterator[dict[str, Any]]:
    """The open figures as small PNG pictures; closes them."""
    import matplotlib.pyplot as plt

    for number in plt.get_fignums():
        file = io.BytesIO()
        plt.figure(number).savefig(file, format="png", dpi=80)
        plt.close(number)
        picture = base64.b64encode(file.getvalue()).decode()
        yield {"output_type": "display_data", "data": {"image/png": picture}, "metadata": {}}


def main() -> None:
    """Execute the notebook and write it back with its outputs."""
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for count, (cell, outputs) in enumerate(run_cells(notebook), start=1):
            cell["outputs"], cell["execution_count"] = outputs, count
            for output in outputs:
                if output["output_type"] == "execute_result":
                    output["execution_count"] = count
            print(f"cell {count}: {len(outputs)} outputs", file=sys.stderr)
    text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    NOTEBOOK.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
