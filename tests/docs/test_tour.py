"""The notebook runs from top to bottom, and what is stored in it is small."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from tests.docs.pages import NOTEBOOK, ROOT


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    spec = importlib.util.spec_from_file_location(
        "execute_notebook", ROOT / "docs" / "execute_notebook.py"
    )
    assert spec is not None
    assert spec.loader is not None
    execute_notebook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(execute_notebook)
    monkeypatch.chdir(tmp_path)
    notebook = json.loads(NOTEBOOK.read_text())
    stored, fresh = [], []
    for cell, outputs in execute_notebook.run_cells(notebook):
        stored.append([sorted(output) for output in cell["outputs"]])
        fresh.append([sorted(output) for output in outputs])
    torch.set_num_threads(1)
    assert fresh == stored  # the same kinds of output; pixels and last digits may differ
    assert (tmp_path / "outputs" / "tour" / "metrics.json").exists()


def test_the_notebook_is_small_and_executed() -> None:
    assert NOTEBOOK.stat().st_size < 300_000
    cells = [c for c in json.loads(NOTEBOOK.read_text())["cells"] if c["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    pictures = [o for cell in cells for o in cell["outputs"] if "image/png" in o.get("data", {})]
    assert len(pictures) == 2
