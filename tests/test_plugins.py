"""Modules of others register what they bring."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from p_rnn.models.cells import CELLS
from p_rnn.runs.experiment import train
from p_rnn.settings.config import Config
from p_rnn.settings.errors import UserError
from p_rnn.settings.resolve import resolve
from p_rnn.training.losses import LOSSES

DOC = Path(__file__).parent.parent / "docs" / "architecture.md"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    before, path = set(sys.modules), list(sys.path)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]
    CELLS.pop("elman", None)
    LOSSES.pop("hinge", None)


def test_the_cell_of_the_manual_trains(folder: Path, tiny: Callable[..., Config]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", DOC.read_text(), re.DOTALL)
    (folder / "my_cell.py").write_text(example)
    (folder / "my_loss.py").write_text(
        "from p_rnn.training.losses import LOSSES\n"
        "def hinge(scores, target, log_q):\n"
        "    own = scores.gather(1, target[:, None])\n"
        "    return (1 + scores - own).clamp(min=0).mean(dim=1)\n"
        "LOSSES['hinge'] = hinge\n"
    )
    metrics = train(
        tiny("plugins=[my_cell,my_loss]", "cell.name=elman", "loss.name=hinge"), folder / "run"
    )
    assert metrics["config"]["cell"]["name"] == "elman"
    assert metrics["updates"] > 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "plugins: my_none cannot be imported (No module named 'my_none')"),
        ("1 / 0", "plugins: my_none cannot be imported (division by zero)"),
    ],
)
def test_a_module_that_cannot_be_imported(
    text: str | None, says: str, folder: Path, tiny: Callable[..., Config]
) -> None:
    if text is not None:
        (folder / "my_none.py").write_text(text)
    with pytest.raises(UserError, match=re.escape(says)):
        resolve(tiny("plugins=[my_none]"))
