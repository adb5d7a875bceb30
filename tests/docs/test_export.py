"""docs/export.md from top to bottom: its commands, and its Python in the folders they make."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from p_rnn.recommend import load
from tests.docs.pages import ROOT, commands, text_of
from tests.running import run_script

PAGE = ROOT / "docs" / "export.md"
SMALLER = ("dataset.synthetic.num_events=3000", "num_epochs=1", "hidden_size=8", "device=cpu")


@pytest.mark.slow
def test_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    packages = all(importlib.util.find_spec(name) for name in ("onnxruntime", "onnxscript"))
    written = commands(PAGE)
    assert [script for script, _ in written] == ["train", "export", "export", "export"]
    for script, words in written:
        own = SMALLER if script == "train" else ()
        done = run_script(script, tmp_path, *words, *own)
        if "formats=[onnx]" in words and not packages:
            assert "formats=[onnx] needs" in done.stderr
            continue
        assert done.returncode == 0, done.stdout + done.stderr
    exported = {"exported", "onnx"} if packages else {"exported"}
    assert {path.name for path in tmp_path.iterdir()} == {"data", "outputs"} | exported
    assert {path.name for path in (tmp_path / "outputs").iterdir()} == {"first"}
    monkeypatch.chdir(tmp_path)
    vectors, onnx = re.findall(r"^```python\n(.*?)^```", text_of(PAGE), re.MULTILINE | re.DOTALL)
    model = load("outputs/first/checkpoints/best.pt", device="cpu")
    assert run(vectors, capsys) == list(map(str, model.recommend([model.ids[3]], k=10).ids))
    if packages:
        top = model.recommend(model.ids[[3, 5]], k=10)
        assert np.ptp(top.scores) > 0
        assert run(onnx, capsys) == list(map(str, top.ids))
    else:
        pytest.skip("the example of ONNX is not tested: it needs the extra export")


def run(block: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What a block of Python prints, a list of ids."""
    capsys.readouterr()
    exec(compile(block, PAGE.name, "exec"), {})
    return re.findall(r"'([^']*)'", capsys.readouterr().out)
