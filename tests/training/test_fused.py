"""The compiled losses against the equations, and their gradients against autograd in double."""

from __future__ import annotations

import math
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from p_rnn import native
from p_rnn.config import LossConfig
from p_rnn.models.merges import Candidates
from p_rnn.models.table import Items, Table
from p_rnn.training.fused import CHUNK, KEPT, LINE, build_fused, takes
from p_rnn.training.losses import build_loss
from tests.training.test_losses import CASES, expected

pytestmark = pytest.mark.skipif(
    native.library() is None, reason="no C++ compiler: compiled losses are not tested"
)

# Vectors of the CPU, or of 8 numbers although it has longer ones.
BUILDS = [(), ("-mno-avx512f",)] if platform.machine() in ("x86_64", "AMD64") else [()]
# Examples, candidates, widths of the terms; enough for threads in the last ones.
SHAPES = {
    "one": (1, 2, [1]),
    "pair": (3, 2, [5]),
    "line": (16, 48, [16, 8]),
    "odd": (17, 49, [24, 9, 40]),
    "long": (33, 700, [100]),
    "wide": (130, 331, [130, 64]),
    "many": (61, 1000, [7]),
    "tail": (145, 145, [8]),  # a chunk of one candidate
}
every_case = pytest.mark.parametrize("case", [c for c in CASES if c["name"] in KEPT], ids=str)


@pytest.fixture(params=[1, 3, 8])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=BUILDS, ids=" ".join)
def build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.param:
        monkeypatch.setattr(native, "FLAGS", (*native.FLAGS, *request.param))
        native.library.cache_clear()
    yield
    if request.param:
        native.library.cache_clear()


class World:
    """Tables, queries and candidates; `whole`: all rows of the tables are candidates."""

    def __init__(self, shape: str, whole: bool, biased: bool = True, spread: float = 1.0) -> None:
        self.examples, self.count, widths = SHAPES[shape]
        rng = np.random.default_rng(len(shape))
        rows = self.count if whole else self.count // 2 + 2  # some more than once
        self.index = rng.integers(rows, size=self.count)
        self.items: Items = slice(0, rows) if whole else torch.from_numpy(self.index)
        if whole:
            self.index = np.arange(rows)
        self.target = rng.integers(self.count, size=self.examples)
        if self.count == self.examples:  # no samples
            self.target = np.arange(self.count)
        self.log_q = rng.normal(0, 1, self.count)
        self.bias = rng.normal(0, 1, self.count) if biased else None
        scale = spread / math.sqrt(sum(widths))
        self.tables = [Table(rows, width) for width in widths]
        for table in self.tables:
            table.weight.data.copy_(torch.from_numpy(rng.normal(0, 1, table.weight.shape)))
        self.queries = [rng.normal(0, scale * 3, (self.examples, width)) for width in widths]

    def leaves(self, dtype: torch.dtype) -> list[Tensor]:
        """The bias and the queries."""
        values = [*([] if self.bias is None else [self.bias]), *self.queries]
        return [torch.tensor(x, dtype=dtype, requires_grad=True) for x in values]

    def candidates(self, leaves: list[Tensor], learning: list[bool]) -> Candidates:
        bias = None if self.bias is None else leaves[0]
        return Candidates(leaves[-len(self.tables) :], self.tables, learning, self.items, bias)

    def compiled(self, case: dict[str, Any], learning: list[bool]) -> tuple[Tensor, list[Any]]:
        """Losses and the gradients of all leaves and of the rows of the tables."""
        leaves = self.leaves(torch.float32)
        candidates = self.candidates(leaves, learning)
        assert takes(candidates)
        loss = build_fused(LossConfig(**case))
        assert loss is not None
        log_q = torch.tensor(self.log_q, dtype=torch.float32)
        losses = loss(candidates, torch.from_numpy(self.target), log_q)
        (losses * torch.arange(1, len(losses) + 1)).sum().backward()
        taken = [table.reads.pop() if table.reads else None for table in self.tables]
        return losses.detach(), [
            *(x.grad for x in leaves),
            *(None if read is None else read.gradient for read in taken),
        ]

    def double(self, case: dict[str, Any]) -> tuple[np.ndarray, list[Tensor]]:
        leaves = self.leaves(torch.float64)
        rows = [table.weight.data[self.index].double().requires_grad_() for table in self.tables]
        bias, queries = (0, leaves) if self.bias is None else (leaves[0], leaves[1:])
        scores = sum(q @ r.t() for q, r in zip(queries, rows, strict=True)) + bias
        losses = build_loss(LossConfig(**case))(
            scores, torch.from_numpy(self.target), torch.from_numpy(self.log_q)
        )
        (losses * torch.arange(1, len(losses) + 1)).sum().backward()
        wanted = expected(case, scores.detach().numpy(), self.target, self.log_q)
        return wanted, [x.grad for x in (*leaves, *rows) if x.grad is not None]


@every_case
@pytest.mark.parametrize("shape", SHAPES)
def test_losses_and_gradients(case: dict[str, Any], shape: str, build: None, threads: None) -> None:
    for whole in (False, True):
        world = World(shape, whole, biased=not whole or shape == "odd")
        losses, gradients = world.compiled(case, [True] * len(world.tables))
        wanted, others = world.double(case)
        np.testing.assert_allclose(losses, wanted, rtol=2e-5, atol=2e-5)
        assert len(gradients) == len(others)
        for found, right in zip(gradients, others, strict=True):
            assert found is not None
            scale = max(float(right.abs().max()), 0.1)  # some are zero
            np.testing.assert_allclose(found, right, rtol=1e-3, atol=1e-5 * scale)


def test_what_rests_gets_no_gradient(threads: None) -> None:
    """And the others do, to the same bits."""
    for case in (CASES[0], CASES[3]):
        world = World("wide", whole=False)
        _, every = world.compiled(case, [True, True])
        _, some = world.compiled(case, [True, False])
        assert some[-1] is None
        for found, wanted in zip(some[:-1], every[:-1], strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_fewer_threads_than_asked_for() -> None:
    """Often, as memory that nobody has written may hold anything."""
    script = """if True:
        import torch
        from tests.training.test_fused import CASES, World
        torch.set_num_threads(3)
        world = World("many", False)
        wanted = world.double(CASES[0])[1]
        for _ in range(10):
            dirt = [torch.full((n,), 1e9) for n in range(500, 30_000, 500)]
            del dirt
            found = world.compiled(CASES[0], [True])[1]
            assert all(torch.allclose(x.double(), y, 1e-3, 1e-4) for x, y in zip(found, wanted))
    """
    environment = {**os.environ, "OMP_THREAD_LIMIT": "2"}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)


def test_sizes_are_those_of_the_headers() -> None:
    text = "".join(path.read_text() for path in native.HERE.glob("*.h"))
    for name, value in (("CHUNK", CHUNK), ("LINE", LINE)):
        assert f"constexpr int64_t {name} = {value};" in text
    kept = [int(x) for x in re.findall(r"KEPT = (\d+);", text)]
    assert kept == list(KEPT.values())


@every_case
@pytest.mark.parametrize("spread", [30.0, 300.0])
def test_large_scores_stay_finite(case: dict[str, Any], spread: float) -> None:
    world = World("odd", whole=False, spread=spread)
    losses, gradients = world.compiled(case, [True] * 3)
    assert torch.isfinite(losses).all()
    assert all(torch.isfinite(x).all() for x in gradients)


@every_case
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
@pytest.mark.parametrize("of_target", [False, True])
def test_what_is_not_finite_is_not_hidden(
    case: dict[str, Any], wrong: float, of_target: bool
) -> None:
    world = World("long", whole=True)
    world.target[:] = 3
    world.tables[0].weight.data[3 if of_target else 7, 0] = wrong
    losses, _ = world.compiled(case, [True])
    # An infinite score is as wrong as one that is no number, but for the target of an example.
    assert not torch.isfinite(losses).all()


def test_what_is_taken() -> None:
    world = World("odd", whole=False)
    leaves = world.leaves(torch.float32)
    assert takes(world.candidates(leaves, [True] * 3))
    assert not takes(world.candidates(world.leaves(torch.float64), [True] * 3))
    assert isinstance(world.items, Tensor)
    world.items = world.items[None].expand(17, 49)  # for each example its own
    assert not takes(world.candidates(leaves, [True] * 3))
    for items in (slice(0, 10), world.items[0, ::2], world.items[0].int()):
        world.items = items
        assert not takes(world.candidates(leaves, [True] * 3))
    assert build_fused(LossConfig("top1")) is None
