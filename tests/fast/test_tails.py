"""The compiled losses against the equations, and their gradients against autograd in double."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from p_rnn.fast import native
from p_rnn.fast.native import functions
from p_rnn.settings.sections import component
from p_rnn.training.losses import build_loss
from tests.fast.test_native import build, threads
from tests.training.test_losses import CASES, expected

__all__ = ["build", "threads"]

pytestmark = pytest.mark.skipif(
    native.library() is None, reason="no C++ compiler: compiled losses are not tested"
)

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
COMPILED = ("cross_entropy", "bpr_max", "top1")
SERVED = [c for c in CASES if c["name"] in COMPILED and not c.get("smoothing")]
every_case = pytest.mark.parametrize("case", SERVED, ids=str)


class World:
    """Tables, queries and candidates; `whole`: all rows of the tables are candidates."""

    def __init__(self, shape: str, whole: bool, biased: bool = True, spread: float = 1.0) -> None:
        self.examples, self.count, widths = SHAPES[shape]
        rng = np.random.default_rng(len(shape))
        rows = self.count if whole else self.count // 2 + 2  # some more than once
        self.index = rng.integers(rows, size=self.count)
        self.items = None if whole else torch.from_numpy(self.index)
        if whole:
            self.index = np.arange(rows)
        self.target = rng.integers(self.count, size=self.examples)
        if self.count == self.examples:  # no samples
            self.target = np.arange(self.count)
        self.log_q = rng.normal(0, 1, self.count)
        self.bias = rng.normal(0, 1, self.count) if biased else None
        scale = spread / math.sqrt(sum(widths))
        self.tables = [
            torch.from_numpy(rng.normal(0, 1, (rows, width))).float() for width in widths
        ]
        self.queries = [rng.normal(0, scale * 3, (self.examples, width)) for width in widths]

    def compiled(self, case: dict[str, Any], learning: list[bool]) -> tuple[Tensor, list[Any]]:
        """The mean loss and the gradients of bias, queries and rows of the tables."""
        offset = None if self.bias is None else torch.tensor(self.bias, dtype=torch.float32)
        if case.get("logq"):
            shift = torch.tensor(-case["logq"] * self.log_q, dtype=torch.float32)
            offset = shift if offset is None else offset + shift
        parameters = [case.get("elu_param", 0.0), case.get("bpreg", 0.0)]
        queries = [torch.tensor(q, dtype=torch.float32) for q in self.queries]
        mean, of_queries, of_rows, of_offset = functions.loss(
            case["name"],
            queries,
            self.tables,
            self.items,
            offset,
            torch.from_numpy(self.target),
            parameters,
            1 / self.examples,
            learning,
        )
        return mean, [*([] if self.bias is None else [of_offset]), *of_queries, *of_rows]

    def double(self, case: dict[str, Any]) -> tuple[float, list[Tensor]]:
        values = [*([] if self.bias is None else [self.bias]), *self.queries]
        leaves = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in values]
        rows = [table[self.index].double().requires_grad_() for table in self.tables]
        bias, queries = (0, leaves) if self.bias is None else (leaves[0], leaves[1:])
        scores = sum(q @ r.t() for q, r in zip(queries, rows, strict=True)) + bias
        losses = build_loss(component(**case), len(self.log_q))(
            scores, torch.from_numpy(self.target), torch.from_numpy(self.log_q)
        )
        losses.mean().backward()
        wanted = expected(case, scores.detach().numpy(), self.target, self.log_q)
        return float(np.mean(wanted)), [x.grad for x in (*leaves, *rows) if x.grad is not None]


IN_DOUBLE: dict[tuple[str, str, bool], tuple[float, list[Tensor]]] = {}


@every_case
@pytest.mark.parametrize("shape", SHAPES)
def test_losses_and_gradients(case: dict[str, Any], shape: str, build: None, threads: int) -> None:
    for whole in (False, True):
        world = World(shape, whole, biased=not whole or shape == "odd")
        mean, gradients = world.compiled(case, [True] * len(world.tables))
        key = (str(case), shape, whole)  # the same for every build and number of threads
        if key not in IN_DOUBLE:
            IN_DOUBLE[key] = world.double(case)
        wanted, others = IN_DOUBLE[key]
        np.testing.assert_allclose(mean.item(), wanted, rtol=2e-5, atol=2e-5)
        assert len(gradients) == len(others)
        for found, right in zip(gradients, others, strict=True):
            assert found is not None
            scale = max(float(right.abs().max()), 0.1 / world.examples)  # some are zero
            np.testing.assert_allclose(found, right, rtol=1e-3, atol=1e-5 * scale)


def test_what_is_frozen_gets_no_gradient(threads: int) -> None:
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
        from tests.fast.test_tails import CASES, World
        torch.set_num_threads(3)
        world = World("many", False)
        wanted = world.double(CASES[0])[1]
        for _ in range(10):
            dirt = [torch.full((n,), 1e9) for n in range(500, 30_000, 500)]
            del dirt
            found = world.compiled(CASES[0], [True])[1]
            assert all(torch.allclose(x.double(), y, 1e-3, 1e-5) for x, y in zip(found, wanted))
    """
    environment = {**os.environ, "OMP_THREAD_LIMIT": "2"}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)


@every_case
@pytest.mark.parametrize("spread", [30.0, 300.0])
def test_large_scores_stay_finite(case: dict[str, Any], spread: float) -> None:
    world = World("odd", whole=False, spread=spread)
    mean, gradients = world.compiled(case, [True] * 3)
    assert torch.isfinite(mean).all()
    assert all(torch.isfinite(x).all() for x in gradients)


@every_case
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
@pytest.mark.parametrize("of_target", [False, True])
def test_what_is_not_finite_is_not_hidden(
    case: dict[str, Any], wrong: float, of_target: bool
) -> None:
    world = World("long", whole=True)
    world.target[:] = 3
    world.tables[0][3 if of_target else 7, 0] = wrong
    mean, _ = world.compiled(case, [True])
    # An infinite score is as wrong as one that is no number, but for the target of an example.
    assert not torch.isfinite(mean).all()
