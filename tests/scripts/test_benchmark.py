"""The benchmark: that its textbook step is the step of p_rnn, and that a small run is whole."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmark.config import BenchmarkConfig, check
from benchmark.plain.serving import Spec, draw_sessions
from benchmark.plain.textbook import LOSSES, Textbook, draw_steps

from p_rnn.data.dataset import Sessions
from p_rnn.models.architectures import build_network
from p_rnn.models.network import PRNN
from p_rnn.settings.config import Config
from p_rnn.settings.errors import UserError
from p_rnn.settings.resolve import resolve
from p_rnn.streams import Streams
from p_rnn.training.losses import build_loss
from p_rnn.training.optimizers import build_optimizer
from p_rnn.training.trainer import Trainer
from tests.composed import composed
from tests.conftest import Recorder
from tests.running import run_script

ROOT = Path(__file__).resolve().parents[2]
N, H, B, S, STEPS = 60, 8, 4, 20, 20
TINY = (
    "rounds=2",
    "seconds=0.05",
    "batch_sizes=[64]",
    "num_negatives=[8]",
    "hidden_sizes=[8]",
    "num_items=[50]",
    "threads=1",
    "device=cpu",
)


def settings(loss: str, num_negatives: int) -> Config:
    sizes = (f"hidden_size={H}", f"batch_size={B}", f"num_negatives={num_negatives}")
    return resolve(
        composed(
            "dataset=table",
            "dataset.path=none",
            "device=cpu",
            "compile=never",
            f"loss={loss}",
            "tracking.log_every=1",
            *(["loss.logq=0"] if loss == "cross_entropy" else []),
            *sizes,
        )
    )


def textbook_like(network: PRNN, loss: str) -> Textbook:
    """With the same weights. p_rnn multiplies from the left: its matrices are transposed."""
    made = Textbook(N, H, loss, B)
    layer = network.subnets[0].layers.cells[0]
    projection = network.subnets[0].inputs[0].weight
    with torch.no_grad():
        made.embedding.weight.copy_(network.merge.tables[0].weight)
        assert network.merge.bias is not None
        made.output_bias.weight.copy_(network.merge.bias.weight)
        made.gru.weight_ih.copy_(projection.t())
        made.gru.weight_hh.copy_(layer.recurrent.t())
        made.gru.bias_ih.copy_(layer.input_bias)
        made.gru.bias_hh.copy_(layer.bias)
    return made


@pytest.mark.parametrize("loss", LOSSES)
def test_the_textbook_step_is_that_of_p_rnn(loss: str) -> None:
    """Update by update, with negatives and resets of the state."""
    config, streams = settings(loss, S), Streams(1)
    network = build_network(config, N, streams, {})
    assert config.learning_rate is not None
    optimizer = build_optimizer(config.optimizer, network.parameters(), config.learning_rate)
    measure, textbook = build_loss(config.loss, N), textbook_like(network, loss)
    data = draw_steps(Spec("textbook", 1, N, H, B, S, loss))
    state, expected, losses = network.begin(B), [], []
    for t in range(STEPS):
        step = {name: x[t] for name, x in data.items()}
        after = network.advance(step["inputs"], tuple(h * step["keep"] for h in state))
        items = torch.cat([step["targets"], step["negatives"]])
        scores = network.merge(network.hidden(after), items)
        total = measure(scores, torch.arange(B), None).sum() / B
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        state = tuple(h.detach() for h in after)
        expected.append(total.item())
        losses.append(textbook.step(**step))
    assert not data["keep"][1:STEPS].all()
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    assert losses[0] != losses[-1]


@pytest.mark.parametrize("loss", ["cross_entropy", "bpr_max"])
def test_the_textbook_loses_what_the_trainer_does(loss: str, tmp_path: Path) -> None:
    """Over sessions of one length, whose mini-batches are known, and without negatives."""
    items = np.random.default_rng(0).integers(0, N, (B, STEPS + 1)).astype(np.int32)
    offsets = np.arange(B + 1) * (STEPS + 1)
    sessions = Sessions(items.flatten(), offsets, np.zeros(items.size, dtype=np.int64))
    config, streams, tracker = settings(loss, 0), Streams(1), Recorder(tmp_path)
    network = build_network(config, N, streams, {})
    textbook = textbook_like(network, loss)
    support = np.maximum(sessions.support(N), 1)
    Trainer(config, network, sessions, support, streams, tracker).run_pass(0)
    columns = torch.from_numpy(items.T.astype(np.int64))
    keep, none = torch.ones(B, 1), torch.zeros(0, dtype=torch.int64)
    losses = [textbook.step(columns[t], columns[t + 1], keep, none) for t in range(STEPS)]
    np.testing.assert_allclose(losses, tracker.losses, rtol=1e-4)


def test_drawn_sessions_are_long_enough_and_end_together() -> None:
    items, offsets = draw_sessions(1000, 20_000, parallel=16)
    lengths = np.diff(offsets)
    assert lengths.min() >= 2
    assert lengths.mean() == pytest.approx(5, rel=0.1)
    assert (np.diff(lengths[-128:]) <= 0).all()
    counts = np.sort(np.bincount(items, minlength=1000))[::-1]
    assert counts[0] / counts[490] == pytest.approx((500 / 10) ** 0.8, rel=0.5)


def test_what_is_compared_with_knows_nothing_of_p_rnn() -> None:
    code = "import plain.__main__, sys; print([m for m in sys.modules if m.startswith('p_rnn')])"
    env = {**os.environ, "PYTHONPATH": str(ROOT / "scripts" / "benchmark")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def run(place: Path, *arguments: str, fresh: bool) -> subprocess.CompletedProcess[str]:
    return run_script("benchmark", place, f"out={place / 'out'}", *arguments, fresh=fresh)


@pytest.mark.slow
def test_a_small_run_writes_figures_and_tables(tmp_path: Path) -> None:
    """One contender fails, because a CUDA graph needs a GPU, and is left out."""
    done = run(tmp_path, *TINY, "losses=[cross_entropy]", "compile=[never,graph]", fresh=True)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    labels = {
        "part": "training",
        "loss": "cross_entropy",
        "batch_size": "64",
        "num_negatives": "8",
        "hidden_size": "8",
        "num_items": "50",
    }
    found = {}
    for row in rows:
        assert labels.items() <= row.items()
        assert row["rounds"] == "2"
        assert 0 < float(row["low"]) <= float(row["median"]) <= float(row["high"])
        found.setdefault(row["contender"], set()).add(row["metric"])
    to_textbook = {"speed_to_textbook", "time_to_textbook"}
    to_floor = {"speed_to_floor", "time_to_floor"}
    assert found == {
        "floor": {"events_per_s", *to_textbook},
        "textbook": {"events_per_s", *to_floor},
        "p_rnn plain": {"events_per_s", *to_floor, *to_textbook},
    }
    text = (tmp_path / "out" / "results.md").read_text()
    assert f"PyTorch {torch.__version__}" in text.splitlines()[0]
    assert "| loss | batch_size | num_negatives | hidden_size | num_items | floor |" in text
    assert "p_rnn plain / textbook, with negatives" in text
    assert "p_rnn plain / textbook, with negatives" in done.stdout
    assert (
        "p_rnn graph is left out: compile=graph has no effect here: graph is for GPUs"
        in done.stdout
    )
    assert "Traceback" in (tmp_path / "out" / "errors.txt").read_text()


@pytest.mark.slow
def test_outputs_are_compared_with_free_rows(tmp_path: Path) -> None:
    small = (*TINY, "rounds=1", "losses=[bpr_max]")
    done = run(tmp_path, "part=outputs", "compile=[never]", *small, fresh=True)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    compared = {r["output"] for r in rows if r["metric"] == "time_to_free"}
    assert compared == {"features", "both"}


@pytest.mark.slow
def test_recommendations_have_quantiles_of_their_times(tmp_path: Path) -> None:
    small = ("rounds=1", "seconds=0.05", "num_items=[500]", "hidden_sizes=[8]", "batch_sizes=[1,4]")
    done = run(tmp_path, "part=recommend", *small, "threads=1", "device=cpu", fresh=True)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    for size in ("1", "4"):
        own = {r["metric"]: float(r["median"]) for r in rows if r["batch_size"] == size}
        assert own.keys() == {"clicks_per_s", "median_ms", "p99_ms"}
        assert 0 < own["median_ms"] <= own["p99_ms"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"part": "trainin"}, "did you mean 'training'?"),
        ({"batch_sizes": []}, "must name one value or more"),
        ({"batch_sizes": [0]}, "batch_sizes=0 must be at least 1"),
        ({"losses": ["bpr_may"]}, "did you mean 'bpr_max'?"),
        ({"compile": ["often"]}, "compile='often' is not a choice"),
        ({"events": [10_000]}, "events has no effect with part=training"),
    ],
)
def test_settings_that_mean_nothing_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        check(BenchmarkConfig(**given))


@pytest.mark.parametrize("argument", ["batch_size=32", "rounds=0"])
def test_mistakes_are_one_line(argument: str, tmp_path: Path) -> None:
    done = run(tmp_path, argument, fresh=False)
    assert done.returncode == 2
    lines = (done.stdout + done.stderr).strip().splitlines()
    assert len(lines) == 1, lines
    assert argument.split("=")[0] in lines[0]
    assert not (tmp_path / "out").exists()
