"""A stored loss trajectory, which a refactor must keep bit for bit; and what the seed decides.

`trajectory.json` holds the first losses of small fixed jobs as hexadecimal floats. Where PyTorch,
the CPU's instruction set and the results of a few operations are those that it was made with, the
losses must be equal; elsewhere sums may be rounded differently, and they must agree to RTOL.
After a change that is meant to change the numbers: `python -m tests.training.test_trajectory`.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from p_rnn.data.dataset import Sessions
from p_rnn.fast import native
from p_rnn.models.architectures import build_network
from p_rnn.runs.experiment import train
from p_rnn.settings.config import Config
from p_rnn.settings.resolve import resolve
from p_rnn.streams import Streams
from p_rnn.training.checkpoint import load_checkpoint
from p_rnn.training.trainer import Trainer
from tests.composed import composed
from tests.conftest import Recorder

STORED = Path(__file__).with_name("trajectory.json")
STEPS = 200
RTOL = 1e-4  # far above the rounding of 200 steps, far below any change of the mathematics
N = 50

FIXED = (
    "dataset=table",
    "dataset.path=none",
    "dataset.test_days=1",
    "device=cpu",
    "seed=7",
    "hidden_size=16",
    "batch_size=8",
    "num_negatives=24",
    "dropout_embedding=0.2",
    "dropout_hidden=0.1",
    "optimizer.momentum=0.3",
)
JOBS = {
    "bpr_max": ("loss=bpr_max", "num_layers=2", "sample_alpha=0.5"),
    "cross_entropy": ("loss=cross_entropy", "loss.logq=1", "sample_alpha=0.75"),
}


def sessions() -> Sessions:
    """150 sessions of 1 to 11 events; spelled out, so that no library's random numbers matter."""
    number, lengths, items = 1, [], list(range(N))
    for _ in range(150):
        number = (16807 * number) % 2147483647  # Park and Miller's minimal standard
        lengths.append(1 + number % 11)
        for _ in range(lengths[-1]):
            number = (16807 * number) % 2147483647
            items.append((number % N) * (number // N % N) // N)  # small indices more often
    lengths = [N, *lengths]  # the first session has every item
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    times = np.zeros(len(items), dtype=np.int64)
    return Sessions(np.array(items, dtype=np.int32), offsets, times)


def losses_of(name: str, folder: Path, *overrides: str) -> list[float]:
    """The first losses of a job, over as many passes as it takes."""
    config = resolve(composed(*FIXED, "tracking.log_every=1", *JOBS[name], *overrides))
    data, streams, tracker = sessions(), Streams(config.seed), Recorder(folder)
    network = build_network(config, N, streams, {})
    trainer = Trainer(config, network, data, data.support(N), streams, tracker)
    index = 0
    while len(tracker.losses) < STEPS:
        trainer.run_pass(index)
        index += 1
    assert index > 1  # an epoch's end and the next one's start are part of it
    return tracker.losses[:STEPS]


def fingerprint() -> dict[str, Any]:
    """What rounding depends on; the probe tells apart CPUs for which MKL has different kernels."""
    x = torch.from_numpy(np.arange(768, dtype=np.float32) % 97 / np.float32(89)).view(16, 48)
    probe = [x.t() @ x, x[:8, :16] @ x, x.sigmoid(), x.tanh(), x.log_softmax(1), (x + 1).rsqrt()]
    digest = hashlib.sha256(b"".join(y.numpy().tobytes() for y in probe))
    return {
        "torch": torch.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "mkl": torch.backends.mkl.is_available(),
        "probe": digest.hexdigest()[:16],
    }


@pytest.mark.parametrize("name", list(JOBS))
def test_trajectory_is_the_stored_one(name: str, tmp_path: Path) -> None:
    stored = json.loads(STORED.read_text())
    here, there = fingerprint(), stored["fingerprint"]
    wanted = [float.fromhex(x) for x in stored["losses"][name]]
    np.testing.assert_allclose(losses_of(name, tmp_path), wanted, rtol=RTOL)
    # With PyTorch's operations alone, whatever C++ compiler there is.
    losses = losses_of(name, tmp_path, "compile=never")
    assert len(wanted) == STEPS
    if here == there:
        assert losses == wanted
    else:
        np.testing.assert_allclose(losses, wanted, rtol=RTOL)


@pytest.mark.parametrize("name", list(JOBS))
@pytest.mark.parametrize("how", ["never", "always"])
def test_without_dropout_losses_are_those_of_the_version_before(
    how: str, name: str, tmp_path: Path
) -> None:
    """Of commit 4f76236, which drew other numbers for dropout, and traced and planned its steps."""
    wanted = json.loads(STORED.read_text())["without_dropout"][name]
    if how == "always" and native.library() is None:
        pytest.skip("no C++ compiler")
    losses = losses_of(name, tmp_path, "dropout_embedding=0", "dropout_hidden=0", f"compile={how}")
    np.testing.assert_allclose(losses, [float.fromhex(x) for x in wanted], rtol=1e-5)


@pytest.mark.parametrize("name", list(JOBS))
def test_the_trajectory_is_one_of_learning_and_of_its_seed(name: str, tmp_path: Path) -> None:
    losses = losses_of(name, tmp_path)
    assert losses == losses_of(name, tmp_path)
    assert losses != losses_of(name, tmp_path, "seed=8")
    assert np.isfinite(losses).all()


def outcome(config: Config, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metrics and parameters of a whole run."""
    metrics = train(config, folder)
    _, content = load_checkpoint(folder / "checkpoints" / "last.pt")
    return {split: metrics[split] for split in ("valid", "test")}, content["model"]


def test_a_seed_decides_a_whole_run(tiny: Callable[..., Config], tmp_path: Path) -> None:
    """The same one gives the same parameters and metrics, bit for bit; another one does not."""
    settings = ("dropout_prob=0.2", "optimizer.momentum=0.2", "tracking.tensorboard=false")
    metrics, model = outcome(tiny(*settings, "seed=3"), tmp_path / "first")
    again, same = outcome(tiny(*settings, "seed=3"), tmp_path / "second")
    assert again == metrics
    assert same.keys() == model.keys()
    for name, x in model.items():
        assert torch.equal(x, same[name]), name
    other_metrics, other = outcome(tiny(*settings, "seed=4"), tmp_path / "third")
    assert other_metrics != metrics
    for name, x in model.items():
        assert not torch.equal(x, other[name]), name


def store() -> None:
    """Write trajectory.json."""
    with tempfile.TemporaryDirectory() as folder:
        losses = {
            name: [x.hex() for x in losses_of(name, Path(folder), "compile=never")] for name in JOBS
        }
    kept = json.loads(STORED.read_text())["without_dropout"]
    content = {"fingerprint": fingerprint(), "losses": losses, "without_dropout": kept}
    STORED.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)  # as in the tests
    store()
