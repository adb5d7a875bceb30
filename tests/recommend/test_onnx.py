"""ONNX files compute what the network computes, in sessions of several clicks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from p_rnn.recommend.export import ABOUT, export
from p_rnn.settings.errors import UserError
from tests.recommend.exported import TRAINED, recommender
from tests.worlds import FEATURES, N

WHY = "ONNX is not tested: it needs the extra export"
onnxruntime = pytest.importorskip("onnxruntime", reason=WHY)
pytest.importorskip("onnxscript", reason=WHY)
module = pytest.importorskip("p_rnn.recommend.onnx_files", reason=WHY)

TWO_LAYERS, ONE_HOT = "num_layers=2", "model.input=one_hot"
EMBEDDING = ("model.input=embedding", "embedding_size=3")
# Every architecture, both cells; what else there is of inputs and outputs, in turn. PyTorch's
# exporter takes a second for each subnet, so those side by side read one feature.
CASES = [
    ("id_only", "gru"),
    ("id_only", "lstm", ONE_HOT, TWO_LAYERS),
    ("feature_only", "gru", "model.output=features", "pooling_mode=max"),
    ("concat", "gru", "model.output=both", "subnets.tags.weight=0.5", *EMBEDDING),
    ("parallel", "gru", "model.output=both", "subnets.tags.hidden_size=6", TWO_LAYERS),
    ("parallel", "lstm", "model.output=features", "subnets.image.num_layers=2"),
    ("parallel_shared", "lstm", "model.feature_input=embedding", "subnets.image.weight=2"),
    ("parallel_interaction", "gru", "cell.reset=before", ONE_HOT),
    ("gru4recf", "gru", "model.output=both"),
    ("id_only", "attention", "cell.span=3", "cell.gated=true", TWO_LAYERS),
    ("bpr_mf", None),
]
QUICK = (("parallel", "gru"), ("parallel", "lstm"), ("id_only", "attention"), ("bpr_mf", None))


def runtime(folder: Path, name: str) -> Any:
    return onnxruntime.InferenceSession(str(folder / f"{name}.onnx"))


@pytest.mark.parametrize(
    "case",
    [c if c[:2] in QUICK else pytest.param(c, marks=pytest.mark.slow) for c in CASES],
    ids=lambda case: "-".join(map(str, case[:2])),
)
def test_onnx_is_the_network(case: tuple[Any, ...], tmp_path: Path) -> None:
    model, cell, *others = case
    words = [f"model={model}", *([f"cell={cell}"] if cell else []), *others]
    one = {name: FEATURES[name] for name in (["image"] if cell == "lstm" else ["tags"])}
    made = recommender(*words, features=one if model.startswith("parallel") else FEATURES)
    network = made.network
    assert network is not None
    folder = export(made, tmp_path / "exported", ["onnx"])
    step, query, score = (runtime(folder, name) for name in ("step", "query", "score"))
    states = json.loads((folder / "states.json").read_text())["states"]
    assert [each["input"] for each in states] == [x.name for x in step.get_inputs()[1:]]
    assert [each["output"] for each in states] == [x.name for x in step.get_outputs()]
    assert [each["width"] for each in states] == [x.shape[1] for x in step.get_inputs()[1:]]
    ranker = network.ranker()
    for batch in (5, 1, 2):
        items = torch.randint(0, N, (4, batch), generator=torch.Generator().manual_seed(batch))
        items[1, 0] = N - 1  # has no row in the tables of ids
        active = torch.ones(4, batch, dtype=torch.bool)
        active[2, batch // 2] = False
        state = network.begin(batch)
        mine = {x["input"]: np.zeros((batch, x["width"]), np.float32) for x in states}
        for now, clicked in zip(items, active, strict=True):
            state = ranker.step(now, state, clicked)
            fed = np.where(clicked.numpy(), now.numpy(), -1)
            new = step.run(None, {"items": fed, **mine})
            mine = dict(zip(mine, new, strict=True))
            for found, wanted in zip(new, state, strict=True):
                np.testing.assert_allclose(found, wanted.numpy(), atol=1e-5)
            (found,) = query.run(None, mine)
            np.testing.assert_allclose(found, ranker.queries(state).numpy(), atol=1e-5)
            (found,) = score.run(None, mine)
            wanted = ranker.scores(state, slice(0, ranker.num_items)).numpy()
            assert found.dtype == np.float32
            assert wanted.std() > 0.1
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_items_that_only_some_subnets_read(tmp_path: Path) -> None:
    """An unknown item changes nothing; a cold one the states of features."""
    made = recommender("model=parallel", features={"tags": FEATURES["tags"]})
    folder = export(made, tmp_path / "exported", ["onnx"])
    step = runtime(folder, "step")
    states = json.loads((folder / "states.json").read_text())["states"]
    before = {x["input"]: np.full((4, x["width"]), 0.3, np.float32) for x in states}
    items = np.array([-1, N, TRAINED, TRAINED - 1])
    new = dict(zip([x["subnet"] for x in states], step.run(None, {"items": items, **before})))  # noqa: B905
    changed = {name: (h != np.float32(0.3)).any(axis=1).tolist() for name, h in new.items()}
    features = [False, False, True, True]
    assert changed == {"id": [False, False, False, True], "tags": features}


def test_files_of_large_networks(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
) -> None:
    """Weights lie beside; nothing names this machine, and PyTorch says nothing."""
    monkeypatch.setattr(module, "EXTERNAL", 0)
    folder = export(recommender("model=id_only"), tmp_path / "exported", ["onnx"])
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
    files = json.loads((folder / ABOUT).read_text())["files"]
    assert {"step.onnx.data", "score.onnx.data"} <= set(files)
    for path in folder.iterdir():
        for words in (b"p_rnn/", str(tmp_path).encode(), b".py"):
            assert words not in path.read_bytes(), path.name
    moved = folder.rename(tmp_path / "moved")
    assert [len(runtime(moved, name).get_inputs()) for name in ("step", "score")] == [2, 1]


def test_other_numbers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = recommender("model=id_only")

    def rows(subnet: Any) -> torch.Tensor:
        return subnet.gate_inputs(torch.arange(subnet.num_readable)) + 0.01

    monkeypatch.setattr(module, "gate_inputs", rows)
    with pytest.raises(UserError, match="differ from PyTorch by"):
        export(made, tmp_path / "exported", ["onnx"])
    assert not list(tmp_path.iterdir())
