"""What is ordinary PyTorch can be used with PyTorch's own tools."""

from __future__ import annotations

import copy
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from p_rnn.models.cells import CELLS, Cell, Initial
from p_rnn.training.step import enter
from p_rnn.training.trainer import Trainer
from tests.running import start_server
from tests.worlds import N, sessions, settings, trainer, weights

PARALLEL = ("model=parallel", "dropout_prob=0.2", "compile=never")


def trained(folder: Path, *overrides: str) -> Trainer:
    job, _ = trainer(settings(*PARALLEL, *overrides), folder)
    job.run_pass(0)
    return job


def scores(network: Any) -> Tensor:
    with torch.no_grad():
        network = copy.deepcopy(network).eval()
        state = network.advance(torch.tensor([1, 4]), network.begin(2))
        found: Tensor = network.scores(state, slice(None))
    return found


def test_a_trained_network_is_copied(tmp_path: Path) -> None:
    job = trained(tmp_path)
    twin = copy.deepcopy(job.network)
    before = scores(job.network)
    assert torch.equal(scores(twin), before)
    with torch.no_grad():
        for p in twin.parameters():
            p.add_(1)
    assert torch.equal(scores(job.network), before)
    assert not torch.equal(scores(twin), before)


def test_a_copy_of_an_update_learns_what_the_update_does(tmp_path: Path) -> None:
    """Network and optimizer together, dropout included."""
    job = trained(tmp_path)
    twin = copy.deepcopy(job.update)
    batch = next(iter(job.batches))
    state = enter(batch, job.network.begin(3))
    for update in (job.update, twin):
        for _ in range(3):
            update(batch, state, (0, 1, 2))
    mine, theirs = weights(job.network), weights(twin.network)
    assert all(np.array_equal(x, theirs[name]) for name, x in mine.items())


def test_averaged_model_of_pytorch(tmp_path: Path) -> None:
    job = trained(tmp_path)
    average = AveragedModel(job.network, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    average.update_parameters(job.network)
    before = weights(job.network)
    job.run_pass(1)
    average.update_parameters(job.network)
    after = weights(job.network)
    for name, x in weights(average.module).items():
        np.testing.assert_allclose(x, 0.5 * before[name] + 0.5 * after[name], atol=1e-6)


def test_the_average_of_a_run_is_that_of_its_weights(tmp_path: Path) -> None:
    """By hand, update by update."""
    job, _ = trainer(settings(*PARALLEL, "ema=0.9"), tmp_path)
    average = weights(job.network)
    learn = job._learn

    def spy(*arguments: Any) -> Any:
        before = job.updates
        state = learn(*arguments)
        if job.updates > before:
            decay = min(0.9, (1 + job.updates) / (10 + job.updates))
            for name, x in weights(job.network).items():
                average[name] = decay * average[name] + (1 - decay) * x
        return state

    job._learn = spy  # type: ignore[method-assign]
    job.run_pass(0)
    assert job.kept is job.average
    for name, x in weights(job.kept).items():
        np.testing.assert_allclose(x, average[name], rtol=1e-5, atol=1e-6)


def test_clipping_of_pytorch_takes_dense_gradients(tmp_path: Path) -> None:
    job = trained(tmp_path)
    network, batch = job.network.dense_gradients(), next(iter(job.batches))
    network.train()
    out, _ = network(batch, enter(batch, network.begin(3)))
    network.zero_grad()
    out.square().sum().backward()
    norm = nn.utils.clip_grad_norm_(network.parameters(), 0.1)
    assert norm > 0.1
    total = sum(float(p.grad.square().sum()) for p in network.parameters() if p.grad is not None)
    assert total == pytest.approx(0.01, rel=1e-3)


def ten_steps(rank: int, port: int, folder: str) -> None:
    """Of a process of two: half of the losses are its own."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    config = settings("model=parallel", "batch_size=3", f"seed={rank}", "compile=never")
    job, _ = trainer(config, Path(folder), data=sessions(seed=rank, count=60))
    network = DistributedDataParallel(job.network)
    state = job.network.begin(3)
    for _, batch in zip(range(10), job.batches, strict=False):
        out, after = network(batch, enter(batch, state))
        job.optimizer.zero_grad()
        (job.update.loss(out, batch.column, None).sum() / 3).backward()
        job.optimizer.step()
        state = tuple(h.detach() for h in after)
    torch.save(weights(job.network), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_ten_steps_of_two_processes(tmp_path: Path) -> None:
    """Each reads other sessions; they begin with the weights of the first and keep the same."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quick = "forkserver" in torch.multiprocessing.get_all_start_methods()
    if quick:
        start_server()
    torch.multiprocessing.start_processes(
        ten_steps,
        args=(port, str(tmp_path)),
        nprocs=2,
        start_method="forkserver" if quick else "spawn",
    )
    one, other = (torch.load(tmp_path / f"{k}.pt", weights_only=False) for k in range(2))
    start = weights(trainer(settings("model=parallel", "seed=0"), tmp_path)[0].network)
    assert any(not np.array_equal(x, start[name]) for name, x in one.items())
    for name, x in one.items():
        np.testing.assert_allclose(x, other[name], rtol=1e-5, atol=1e-6, err_msg=name)


# --- modules of others ----------------------------------------------------------------------------


class Borrowed(Cell):
    """An LSTM and a dropout of PyTorch's, which draw from its own generators."""

    def __init__(self, hidden_size: int, initial: Initial) -> None:
        super().__init__(hidden_size)
        self.lstm = nn.LSTM(hidden_size, hidden_size, batch_first=True)
        self.dropout = nn.Dropout(0.3)

    @property
    def state_widths(self) -> tuple[int, ...]:
        return self.hidden_size, self.hidden_size

    def forward(self, a: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        h, m = (x[None].contiguous() for x in state)
        _, (h, m) = self.lstm(self.dropout(a)[:, None], (h, m))
        return h[0], m[0]


@pytest.mark.parametrize("compile_", ["never", "auto"])
@pytest.mark.parametrize("batching", ["session_parallel", "sequences"])
def test_a_seed_fixes_modules_of_others(
    batching: str, compile_: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CELLS, "borrowed", Borrowed)
    found = []
    for seed in (3, 3, 4):
        torch.rand(seed)  # somebody has drawn before
        config = settings(
            "model=parallel",
            "cell.name=borrowed",
            f"batching={batching}",
            f"seed={seed}",
            f"compile={compile_}",
            "strategy=alternating",
        )
        job, recorder = trainer(config, tmp_path)
        for index in range(3):
            job.run_pass(index)
        found.append((recorder.losses, weights(job.network)))
    assert found[0][0] == found[1][0]
    assert all(np.array_equal(x, found[1][1][name]) for name, x in found[0][1].items())
    assert found[0][0] != found[2][0]
    assert len(found[0][1]["merge.bias.weight"]) == N
