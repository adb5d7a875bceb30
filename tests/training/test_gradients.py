"""Sums of the rows of sparse gradients, and norms, against loops in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from p_rnn.training.gradients import clip_, gradient_norm, segment_sum, summed_rows

N, D = 9, 3
READS = {"once": [4, 1, 7], "often": [4, 1, 4, 4, 8, 0, 8], "one": [3], "same": [2] * 5, "none": []}


def gradient(index: list[int], seed: int = 0) -> tuple[Tensor, np.ndarray]:
    values = np.random.default_rng(seed).normal(size=(len(index), D))
    rows = torch.tensor(index, dtype=torch.int64)[None]
    return torch.sparse_coo_tensor(
        rows, torch.from_numpy(values), (N, D), check_invariants=False
    ), values


def dense(index: list[int], values: np.ndarray) -> np.ndarray:
    total = np.zeros((N, D))
    for i, x in zip(index, values, strict=True):
        total[i] += x
    return total


@pytest.mark.parametrize("index", READS.values(), ids=READS)
def test_rows_that_come_again_have_the_same_sum(index: list[int]) -> None:
    sparse, values = gradient(index)
    wanted = dense(index, values)
    rows, sums, segment = segment_sum(sparse)
    assert rows.tolist() == sorted(index)
    np.testing.assert_allclose(sums[segment], wanted[rows.numpy()], rtol=1e-12)
    distinct = len(set(index))
    assert (sums[distinct:] == 0).all()
    np.testing.assert_allclose(sums[:distinct], wanted[sorted(set(index))], rtol=1e-12)
    rows, total = summed_rows(sparse)
    np.testing.assert_allclose(total, wanted[rows.numpy()], rtol=1e-12)


def test_no_shape_depends_on_values() -> None:
    """On PyTorch's meta device there are none."""
    index = torch.zeros(1, 5, dtype=torch.int64, device="meta")
    values = torch.zeros(5, D, device="meta")

    class Sparse:
        def _indices(self) -> Tensor:
            return index

        def _values(self) -> Tensor:
            return values

    rows, sums, segment = segment_sum(Sparse())  # type: ignore[arg-type]
    assert (rows.shape, sums.shape, segment.shape) == ((5,), (5, D), (5,))


def parameters(index: list[int]) -> list[nn.Parameter]:
    """A table with a sparse gradient, one with a dense gradient, and one without any."""
    table, whole, none = (nn.Parameter(torch.zeros(n, D, dtype=torch.float64)) for n in (N, 2, 2))
    table.grad, _ = gradient(index)
    whole.grad = torch.from_numpy(np.random.default_rng(1).normal(size=(2, D)))
    return [table, whole, none]


def by_hand(index: list[int]) -> tuple[list[np.ndarray], float]:
    """The two gradients, whole, and their norm."""
    _, values = gradient(index)
    both = [dense(index, values), np.random.default_rng(1).normal(size=(2, D))]
    total = 0.0
    for each in both:
        for x in each.ravel():
            total += x * x
    return both, float(np.sqrt(total))


@pytest.mark.parametrize("index", READS.values(), ids=READS)
def test_the_norm_counts_each_row_once(index: list[int]) -> None:
    assert gradient_norm(parameters(index)).item() == pytest.approx(by_hand(index)[1], rel=1e-12)


@pytest.mark.parametrize("most", [0.5, 1e6])
@pytest.mark.parametrize("index", READS.values(), ids=READS)
def test_clipping(index: list[int], most: float) -> None:
    made, (before, wanted) = parameters(index), by_hand(index)
    norm = gradient_norm(made)
    clip_(made, norm, most)
    scale = most / wanted if wanted > most else 1.0
    for p, x in zip(made, before, strict=False):
        assert p.grad is not None
        # The scale has 1e-6 beside the norm.
        rtol = 1e-5 if scale < 1 else 1e-14
        np.testing.assert_allclose(p.grad.to_dense(), x * scale, rtol=rtol, atol=1e-12)
    assert made[2].grad is None
    assert gradient_norm(made).item() == pytest.approx(min(most, norm.item()), rel=1e-5)
