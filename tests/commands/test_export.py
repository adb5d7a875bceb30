"""Exporting from the command line: the folder, and one line for mistakes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from p_rnn.commands import export
from p_rnn.recommend import load
from tests.running import run_script


def test_it_leaves_one_folder(shop: Path, tmp_path: Path) -> None:
    path = shop / "network.pt"
    words = (f"checkpoint={path}", "output=a folder=1", "formats=[vectors,projector]")
    done = run_script("export", tmp_path, *words, "max_items=3", "num_threads=1")
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.iterdir()
    assert folder.name == "a folder=1"
    assert str(folder) in done.stdout.replace("\n  ", "")
    network = load(path, "cpu").network
    assert network is not None
    np.testing.assert_array_equal(np.load(folder / "items.npy"), network.ranker().vectors().numpy())
    assert len((folder / "projector" / "tensors.tsv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["formats=[onx]"], "unknown format 'onx'; did you mean 'onnx'"),
        (["max_items=0"], "max_items=0 must be at least 1"),
        (["max_items=5"], "max_items has no effect without the projector"),
        (["output=."], "is the folder you are in"),
        (["checkpoint=none.pt"], "no checkpoint at none.pt"),
        (["format=[onnx]"], "unknown setting 'format'; did you mean formats?"),
        (["counts"], "model item_knn has nothing to export"),
    ],
)
def test_one_line_for_mistakes(
    words: list[str],
    message: str,
    shop: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "counts" if words == ["counts"] else "network"
    own = [] if words == ["counts"] else words
    given = [f"checkpoint={shop / name}.pt", "output=exported"]
    keys = {word.split("=")[0] for word in own}
    given = [word for word in given if word.split("=")[0] not in keys]
    monkeypatch.setattr(sys, "argv", ["p-rnn export", *given, *own])
    with pytest.raises(SystemExit) as ended:
        export.main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert message in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())
