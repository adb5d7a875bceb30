"""The compiled passes against loops in NumPy."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from p_rnn import native
from p_rnn.config import LossConfig
from p_rnn.models.merges import Candidates
from p_rnn.models.plans import Bags, plan_bags, plan_rows
from p_rnn.models.table import Table
from p_rnn.training.fused import build_fused

N, R = 40, 25
LR = 0.05

pytestmark = pytest.mark.skipif(
    native.library() is None, reason="no C++ compiler: compiled row updates are not tested"
)


def by_hand(
    weight: Tensor, acc: Tensor, velocity: Tensor | None, reads: list[tuple[int, float, Tensor]],
    momentum: float,
) -> list[np.ndarray]:  # fmt: skip
    """Each row's gradients are summed, and the row is moved, in double precision."""
    new = [x.double().numpy().copy() for x in (weight, acc)]
    speed = np.zeros_like(new[0]) if velocity is None else velocity.double().numpy().copy()
    for row in {row for row, _, _ in reads}:
        g = sum(scale * x.double().numpy() for at, scale, x in reads if at == row)
        new[1][row] += g**2
        speed[row] = momentum * speed[row] - LR * g / np.sqrt(new[1][row] + 1e-6)
        new[0][row] += speed[row]
    return [*new, speed]


@pytest.mark.parametrize("momentum", [0.0, 0.3])
@pytest.mark.parametrize("width", [1, 7, 100, 1000])
def test_rows_that_are_read_once_or_more(width: int, momentum: float) -> None:
    rng = torch.Generator().manual_seed(width)
    index = torch.randint(N // 3, (3, R), generator=rng)
    plans = plan_rows(index, N)
    weight, acc = torch.randn(N + 1, width, generator=rng), torch.rand(N + 1, width, generator=rng)
    velocity = torch.randn(N + 1, width, generator=rng) if momentum else None
    for t in range(3):
        source = torch.randn(R, width, generator=rng)
        reads = [(int(row), 1.0, x) for row, x in zip(index[t], source, strict=True)]
        wanted = by_hand(weight, acc, velocity, reads, momentum)
        torch.ops.p_rnn.adagrad_rows(
            weight, acc, velocity, [source[:4], source[4:5], source[5:]], plans.rows[t],
            plans.starts[t], plans.order[t], None, LR, momentum,
        )  # fmt: skip
        for x, y in zip((weight, acc, velocity), wanted, strict=True):
            if x is not None:
                np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
    assert (plans.rows == N).any()  # padding, which leaves the scratch row alone


def test_bags_and_vectors() -> None:
    rng = torch.Generator().manual_seed(0)
    starts = torch.tensor([[0, 3, 3, 8]])
    owner = torch.repeat_interleave(torch.tensor([0, 2, 3, 4]), torch.tensor([3, 5, 2, 3]))
    rows = torch.randint(N, (1, 13), generator=rng)
    rows[0, 4] = rows[0, 1]
    rows[0, 10:] = N  # padding
    weights = torch.rand(1, 13, generator=rng)
    weights[0, 10:] = 0
    plan = plan_bags(Bags(rows, weights, starts, owner[None]), N)
    assert plan.weights is not None
    weight, acc = torch.randn(N + 1, 6, generator=rng), torch.rand(N + 1, 6, generator=rng)
    source = torch.randn(4, 6, generator=rng)
    reads = [(int(rows[0, p]), float(weights[0, p]), source[owner[p]]) for p in range(10)]
    wanted = by_hand(weight, acc, None, reads, 0.0)
    torch.ops.p_rnn.adagrad_rows(
        weight, acc, None, [source], plan.rows[0], plan.starts[0], plan.order[0], plan.weights[0],
        LR, 0.0,
    )  # fmt: skip
    np.testing.assert_allclose(weight, wanted[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(acc, wanted[1], rtol=1e-5, atol=1e-6)

    index = torch.randint(N, (1, R), generator=rng)
    plan = plan_rows(index, N)
    vector, squares = torch.randn(N + 1, generator=rng), torch.zeros(N + 1)
    g = torch.randn(R, generator=rng)
    reads = [(int(row), 1.0, x) for row, x in zip(index[0], g, strict=True)]
    wanted = by_hand(vector, squares, None, reads, 0.0)
    torch.ops.p_rnn.adagrad_rows(
        vector, squares, None, [g], plan.rows[0], plan.starts[0], plan.order[0], None, LR, 0.0
    )
    np.testing.assert_allclose(vector, wanted[0], rtol=1e-5, atol=1e-6)


@pytest.fixture(params=[1, 4])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def bits(x: Tensor) -> set[int]:
    """Of its numbers; a comparison might take denormals for zero."""
    return set(x.flatten().view(torch.int32).tolist())


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="set on x86 alone")
def test_denormals_are_zero_in_every_thread_and_afterwards_as_before(threads: int) -> None:
    torch.set_flush_denormal(False)
    tiny = torch.full((2**20,), 1e-30)
    before = (tiny * 1e-10).view(torch.int32)  # as the threads are that earlier tests have made
    rows, starts = torch.arange(1000), torch.arange(1000)
    weight, acc = torch.zeros(1001, 100), torch.zeros(1001, 100)
    gradient = torch.full((1000, 100), 1e-20)  # whose square is 1e-40
    torch.ops.p_rnn.adagrad_rows(
        weight, acc, None, [gradient], rows, starts, rows, None, LR, 0.0
    )  # fmt: skip
    assert bits(acc) == {0}
    # A score of -100 counts as one of -87: 64 slopes of e^-87 / 2 = 8e-39, whose sum is 5e-37.
    losses = build_fused(LossConfig("cross_entropy", logq=0.0))
    assert losses is not None
    table, targets = Table(1000, 4), torch.zeros(64, dtype=torch.int64)
    bias = torch.full((1000,), -100.0)
    bias[0] = 0.0
    bias.requires_grad_()
    queries = torch.zeros(64, 4, requires_grad=True)
    candidates = Candidates([queries], [table], [True], slice(0, 1000), bias)
    (losses(candidates, targets, None).sum() / 2).backward()
    assert bias.grad is not None
    assert bits(bias.grad[1:]) == {0}
    assert torch.equal((tiny * 1e-10).view(torch.int32), before)


@pytest.mark.parametrize("shape", [(3, 5), (300, 700)])
def test_counts(shape: tuple[int, int]) -> None:
    rng = torch.Generator().manual_seed(0)
    at_least, above = torch.zeros(2, shape[0], dtype=torch.int64)
    bad = torch.zeros(1, dtype=torch.int64)
    wanted = np.zeros((2, shape[0]), dtype=np.int64)
    own = torch.randint(5, (shape[0], 1), generator=rng).float()
    for _ in range(2):  # counts are added up
        block = torch.randint(5, shape, generator=rng).float()  # many ties
        native.count_scores(block, own, at_least, above, bad)
        wanted += [(block >= own).sum(dim=1).numpy(), (block > own).sum(dim=1).numpy()]
    np.testing.assert_array_equal(torch.stack([at_least, above]), wanted)
    assert bad.item() == 0
    block[0, 1], block[2, 3], block[-1, 0] = float("nan"), float("inf"), float("-inf")
    native.count_scores(block, own, at_least, above, bad)
    assert bad.item() == 3


def test_compiled_once_a_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[str] = []
    run = native._run
    monkeypatch.setattr(native, "_run", lambda c: runs.append("-c" if "-c" in c else "") or run(c))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    build = native.library.__wrapped__
    assert build() is not None
    (kept,) = (tmp_path / "p_rnn").iterdir()
    compiled = runs.count("-c")
    assert build() is not None
    assert runs.count("-c") == compiled > 0
    damaged = tmp_path / "other" / "p_rnn" / kept.name
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"damaged")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert build() is not None
    assert runs.count("-c") == 2 * compiled
    monkeypatch.setattr(native, "FLAGS", (*native.FLAGS, "-O1"))  # another library
    assert build() is not None
    assert len(list(damaged.parent.iterdir())) == 2
    monkeypatch.setenv("XDG_CACHE_HOME", str(kept))  # no folder
    assert build() is not None
    monkeypatch.chdir(tmp_path)
    for place in ("relative", ""):  # nothing is kept where it would be found by chance
        monkeypatch.setenv("XDG_CACHE_HOME", place)
        monkeypatch.setenv("HOME", "~")
        assert build() is not None
    assert {path.name for path in tmp_path.iterdir()} == {"p_rnn", "other"}


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    build = native.library.__wrapped__
    monkeypatch.setattr(native, "compiler", lambda: None)
    assert build() is None
    monkeypatch.setattr(native, "compiler", lambda: "false")  # one that fails
    assert build() is None
