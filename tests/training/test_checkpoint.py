"""Checkpoints from elsewhere, of older versions, and those that the system does not let us read."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from p_rnn.runs.comparison import evaluate_checkpoint
from p_rnn.runs.experiment import train
from p_rnn.settings.commands import EvaluateConfig
from p_rnn.settings.config import Config
from p_rnn.settings.errors import UserError
from p_rnn.settings.resolve import resolve
from p_rnn.training import checkpoint as module
from p_rnn.training import checksums
from p_rnn.training.checkpoint import load_checkpoint, save_checkpoint

ABOUT = {"dataset": "x", "features": [], "num_items": 3, "with_validation": False}


@pytest.fixture
def path(tmp_path: Path, tiny: Callable[..., Config]) -> Path:
    found = tmp_path / "a.pt"
    model = {"x": torch.arange(6.0), "y": torch.ones(2, 3, dtype=torch.bfloat16)}
    save_checkpoint(found, resolve(tiny()), {**ABOUT, "model": model, "n": {1: (float("nan"), 2)}})
    return found


def rewritten(path: Path, **changes: Any) -> None:
    content = torch.load(path, weights_only=True)
    torch.save({**content, **changes}, path)


def test_what_is_written_is_read(path: Path) -> None:
    for mmap in (False, True):
        _, content = load_checkpoint(path, mmap)
        assert content["model"]["x"].tolist() == [*range(6)]
        assert content["n"][1][1] == 2
        assert "checksums" not in content


def test_versions(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    torch.save({**content, "format_version": 3}, path)
    with pytest.raises(UserError, match="which its version did not have"):
        load_checkpoint(path)
    del content["checksums"]
    torch.save({**content, "format_version": 3}, path)
    assert load_checkpoint(path)[1]["model"]["x"].tolist() == [*range(6)]
    data = path.read_bytes()
    at = data.index(torch.arange(6.0).numpy().tobytes())
    path.write_bytes(data[: at + 6] + b"\1" + data[at + 7 :])
    with pytest.raises(UserError, match=r"damaged checkpoint.*data/0"):
        load_checkpoint(path)
    torch.save({**content, "format_version": 5}, path)
    with pytest.raises(UserError, match="format version 5; this version of p_rnn reads 4"):
        load_checkpoint(path)


def test_large_tensors_of_items_are_mapped_and_not_read(
    path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Callable[..., Config]
) -> None:
    monkeypatch.setattr(checksums, "LARGE_BYTES", 100)
    items = {"features": {"picture": {"values": torch.ones(100)}}}
    save_checkpoint(path, resolve(tiny()), {**ABOUT, "items": items})
    rewritten(path, items={"features": {"picture": {"values": torch.zeros(100)}}})
    load_checkpoint(path, mmap=True)
    with pytest.raises(UserError, match=r"the tensor items\.features\.picture\.values is not"):
        load_checkpoint(path)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE, errno.ENOMEM])
def test_what_the_system_refuses_is_not_called_damaged(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=rf"{path} cannot be read \({os.strerror(number)}\)"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "said",
    [
        "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory",
        "unable to mmap 400 bytes from file <a.pt>: Cannot allocate memory (12)",
        "can't start new thread",
    ],
)
def test_what_pytorch_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError(said)

    monkeypatch.setattr(module.torch, "load", refuse)
    with pytest.raises(UserError, match=f"{path} cannot be read"):
        load_checkpoint(path)


def test_settings_that_would_read_this_machine(path: Path, tiny: Callable[..., Config]) -> None:
    config = resolve(tiny())
    for text in ("${oc.env:HOME}", "a${seed}", "${oc.decode:'1'}"):
        paths = replace(config.paths, prepared=text)
        save_checkpoint(path, replace(config, paths=paths), dict(ABOUT))
        with pytest.raises(UserError, match=r"has the setting .* which would read this machine"):
            load_checkpoint(path)


def test_a_checkpoint_does_not_say_where_evaluation_writes(
    tmp_path: Path, tiny: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tiny(), tmp_path / "run")
    checkpoint = tmp_path / "run" / "checkpoints" / "best.pt"
    config, content = load_checkpoint(checkpoint)
    chosen = tmp_path / "chosen" / "by" / "it"
    paths = replace(config.paths, prepared=str(chosen))
    content = {key: value for key, value in content.items() if key not in module.HEADER}
    save_checkpoint(checkpoint, replace(config, paths=paths), content)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    evaluate_checkpoint(EvaluateConfig(str(checkpoint), device="cpu"))
    assert not chosen.parent.parent.exists()
    assert list((tmp_path / "here" / "data" / "prepared").iterdir())


def test_best_of_another_run_beside_last(tmp_path: Path, tiny: Callable[..., Config]) -> None:
    for name, rate in (("one", 0.01), ("two", 0.02)):
        train(tiny("num_epochs=2", f"learning_rate={rate}"), tmp_path / name)
    one, two = (tmp_path / name / "checkpoints" for name in ("one", "two"))
    config, content = load_checkpoint(one / "last.pt")
    content["history"]["kept_epoch"] = content["history"]["best_epoch"] = 1  # best.pt is read
    save_checkpoint(one / "last.pt", config, content)
    (two / "best.pt").replace(one / "best.pt")
    words = ("num_epochs=3", "learning_rate=0.01", f"resume={one / 'last.pt'}")
    with pytest.raises(UserError, match=r"one/checkpoints/best\.pt is of another run"):
        train(tiny(*words), tmp_path / "three")
