"""Modules of others register what they bring; the examples of docs/extending.md run."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from p_rnn.data.features.values import Items, Objects
from p_rnn.runs.comparison import evaluate_checkpoint
from p_rnn.runs.experiment import train
from p_rnn.settings import components
from p_rnn.settings.commands import EvaluateConfig
from p_rnn.settings.config import Config
from p_rnn.settings.errors import UserError
from p_rnn.settings.hydra_glue import load_config
from p_rnn.settings.resolve import resolve
from tests.conftest import TINY

DOC = Path(__file__).parent.parent / "docs" / "extending.md"
EXAMPLES = dict(re.findall(r"```python\n# (my_\w+)\.py\n(.*?)```", DOC.read_text(), re.DOTALL))
COMMANDS = re.findall(r"^    p-rnn train (.*)$", DOC.read_text(), re.MULTILINE)
# What a command of the page brings to the settings that are stored.
ARRIVES = {
    "my_loss": ("loss", {"name": "hinge", "margin": 0.5}),
    "my_merge": (
        "model",
        {"name": "parallel_mean", "input": "shared", "feature_input": "direct", "output": "free"},
    ),
    "my_cell": ("cell", {"name": "elman", "leak": 0.2}),
    "my_baseline": ("baseline", {"power": 1.0}),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    before, path = set(sys.modules), list(sys.path)
    kinds = {kind: dict(components.registry(kind)) for kind in components.HOMES}
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]
    for kind, entries in kinds.items():
        for name in set(components.registry(kind)) - set(entries):
            del components.registry(kind)[name]


def write(folder: Path) -> None:
    """The modules, and the raw files that the commands name."""
    for name, text in EXAMPLES.items():
        (folder / f"{name}.py").write_text(text)
    log = pd.read_csv(folder / "raw" / "tiny.csv")
    log[["session", "item", "time"]].to_csv(
        folder / "raw" / "visits.log", sep="|", header=False, index=False
    )
    (yaml,) = re.findall(r"```yaml\n# (conf/\S+)\n(.*?)```", DOC.read_text(), re.DOTALL)
    (folder / yaml[0]).parent.mkdir(parents=True, exist_ok=True)
    (folder / yaml[0]).write_text(yaml[1])
    items = pd.DataFrame({"item": range(30)})
    items.assign(title=["x" * (k % 7) for k in range(30)]).to_csv(
        folder / "raw" / "items.csv", index=False
    )


def test_the_page_has_all_seven_additions() -> None:
    names = {"loss", "merge", "cell", "reader", "kind", "baseline", "setting"}
    assert set(EXAMPLES) == {f"my_{name}" for name in names}
    assert len(COMMANDS) == 6


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_train(command: str, folder: Path, tiny: Callable[..., Config]) -> None:
    write(folder)
    words = shlex.split(command)
    (plugin,) = re.findall(r"plugins=\[(\w+)\]", command)
    if plugin == "my_merge":  # it needs features
        words += ["dataset.item_table.path=items.csv", "dataset.features.title.kind=category"]
    if plugin == "my_baseline":
        words += [f"{key}=null" for key in ("hidden_size", "batch_size", "num_negatives")]
        words.append("num_epochs=null")
    if plugin == "my_reader":
        kept = [word for word in TINY if not word.startswith("dataset")]
        places = [f"paths.raw={folder / 'raw'}", f"paths.prepared={folder / 'prepared'}"]
        config = load_config(*kept, *places, *words)
    else:
        config = tiny(*words)
    metrics = train(config, folder / "run")
    assert metrics["test"]["recall@20"] > 0
    if plugin in ("my_loss", "my_merge", "my_baseline"):
        checkpoint = str(folder / "run" / "checkpoints" / "best.pt")
        again, _ = evaluate_checkpoint(EvaluateConfig(checkpoint=checkpoint))
        assert next(iter(again["test"].values()))["metrics"] == metrics["test"]
    section, stored = ARRIVES.get(plugin, ("seed", 0))
    assert metrics["config"][section] == stored


def test_a_parameter_out_of_its_declared_range(folder: Path, tiny: Callable[..., Config]) -> None:
    write(folder)
    for word, says in (
        ("loss.margin=0", "loss.margin=0.0 must be above 0"),
        ("loss.margin=x", "loss.margin: Value 'x' of type 'str' is not a number"),
        ("loss.magrin=1", "did you mean loss.margin?"),
    ):
        with pytest.raises(UserError, match=re.escape(says)):
            resolve(tiny("plugins=[my_loss]", "loss.name=hinge", word))


def test_a_loss_that_returns_a_mean_is_refused(folder: Path, tiny: Callable[..., Config]) -> None:
    (folder / "my_mean.py").write_text(
        "from p_rnn.training.losses import LOSSES\n"
        "LOSSES['mean'] = lambda scores, target, log_q: scores.mean()\n"
    )
    with pytest.raises(UserError, match=r"shape \[\]; it must return one value for each example"):
        train(tiny("plugins=[my_mean]", "loss.name=mean"), folder / "run")


def test_the_kind_of_the_page_takes_new_items(folder: Path) -> None:
    names: dict[str, Any] = {}
    exec(EXAMPLES["my_kind"], names)
    items = Items(np.arange(3), num_train=2)
    texts = [Objects("title", ["abcd", "ab", "abcdefgh"]), Objects("title", [None, "abc"])]
    fitted: dict[str, Any] = {}
    names["length"]([texts[0]], items, folder, fitted)
    assert np.load(folder / "values.npy").tolist() == [[1], [0.5], [2]]
    names["length"]([texts[1]], Items(np.arange(2), 0), folder, fitted, power=2.0)
    assert np.load(folder / "values.npy").tolist() == [[0], [0.5625]]


def test_the_section_of_the_page_declares_a_setting(folder: Path) -> None:
    names: dict[str, object] = {}
    exec(EXAMPLES["my_setting"], names)
    assert names["Patience"]().min_delta == 0.0  # type: ignore[operator]


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
