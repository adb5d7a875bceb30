"""A training that cannot fit is refused before anything is allocated, with the setting to blame."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from p_rnn import memory
from p_rnn.models.architectures import build_network
from p_rnn.runs import size
from p_rnn.runs.experiment import train
from p_rnn.settings.config import Config
from p_rnn.settings.errors import UserError
from p_rnn.settings.resolve import resolve
from p_rnn.streams import Streams
from tests.worlds import FEATURES, MODELS, N, sessions, settings

TINY_GIB = 2.0 * 2**30


@pytest.mark.parametrize("output", ["free", "both"])
@pytest.mark.parametrize("model", [*MODELS, "bpr_mf"])
def test_the_skeleton_has_the_shapes_of_the_network(model: str, output: str) -> None:
    features = {} if model in ("id_only", "bpr_mf") and output == "free" else FEATURES
    config = settings(f"model={model}", f"model.output={output}")
    bones = size.skeleton(config, N, features)
    assert bones is not None
    whole = build_network(config, N, Streams(0), features)
    assert {name: p.shape for name, p in bones.named_parameters()} == {
        name: p.shape for name, p in whole.named_parameters()
    }
    assert all(p.is_meta for p in bones.parameters())


def test_the_parts_are_counted() -> None:
    config = settings("model=id_only", "hidden_size=16", "num_negatives=1000", "ema=0.9")
    network = build_network(config, N, Streams(0), {})
    data = sessions()
    parts = size.measured(config, network, data).parts
    weights = 4 * sum(p.numel() for p in network.parameters())
    assert parts["weights"] == weights == parts["averaged weights"]
    assert parts["optimizer"] == weights  # Adagrad without momentum
    dense = weights - 4 * N * (16 + 1)  # all but the item table and the biases of items
    assert parts["gradients"] == dense
    candidates = 3 + 1000
    assert parts["scores of a mini-batch"] == 8 * 3 * candidates + 8 * candidates * 16 + 16_000


@pytest.mark.parametrize(
    ("overrides", "blamed"),
    [
        (["hidden_size=1000000"], "lower hidden_size (now 1000000)"),
        (["hidden_size=1000000000"], "hidden_size=1000000000 makes matrices"),
        (["model.input=embedding", "embedding_size=90000000"], "lower embedding_size"),
        (["num_negatives=1000000000000"], "lower num_negatives (now 1000000000000)"),
        (["batching=sequences", "batch_size=1000000000000"], "lower batch_size"),
        (["num_layers=900", "hidden_size=900"], "lower num_layers (now 900) or hidden_size"),
        (["cell=attention", "cell.span=1000000000000"], "lower cell.span"),
        (["num_epochs=1000000000000"], "num_epochs=1000000000000 must be at most 100000"),
        (["num_threads=100000"], "num_threads=100000 must be at most 512"),
        (["learning_rate=1e39"], "learning_rate=1e+39 must be at most 3.4e+38"),
        (["subnets.id.weight=1e39"], "subnets.id.weight=1e+39 must be at most 3.4e+38"),
        (["seed=100000000000000000000000"], "must be at most"),
        (["evaluation.cutoffs=[1000000000000]"], "at most 100000 each"),
        (["sample_alpha=1000"], "sample_alpha=1000 is too large"),
    ],
)
def test_what_cannot_fit_is_refused_in_a_line(
    overrides: list[str],
    blamed: str,
    tiny: Callable[..., Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "available", lambda device: TINY_GIB)
    with pytest.raises(UserError) as refused:
        train(tiny(*overrides), tmp_path / "run")
    assert blamed in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_large_catalogue_is_to_blame_where_the_rows_are_of_ordinary_width(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "available", lambda device: TINY_GIB)
    config = resolve(settings("model=id_only", "hidden_size=100"))
    with pytest.raises(UserError, match=r"hidden_size \(now 100\), or take fewer items"):
        size.check_size(config, 10**8, sessions(), {}, torch.device("cpu"))
