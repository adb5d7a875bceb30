"""Optimizers against NumPy and against PyTorch's own, on dense parameters and on rows of tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from p_rnn.config import OptimizerConfig
from p_rnn.errors import UserError
from p_rnn.models.table import Table
from p_rnn.training.optimizers import Optimizer, build_optimizer

N, D = 7, 3
ADAM = OptimizerConfig("adam", beta1=0.9, beta2=0.99, eps=1e-12)


class Stub(nn.Module):
    """What an optimizer sees of a network: a dense parameter, and tables of rows and of scalars."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.dense = nn.Parameter(torch.from_numpy(rng.normal(size=(2, D))))
        self.rows = Table(N, D).double()
        self.bias = Table(N, None).double()
        self.rows.weight.copy_(torch.from_numpy(rng.normal(size=(N, D))))
        self.bias.weight.copy_(torch.from_numpy(rng.normal(size=N)))

    def tables(self) -> dict[str, Table]:
        return {"rows": self.rows, "bias": self.bias}

    def values(self) -> dict[str, np.ndarray]:
        return {name: x.detach().numpy().copy() for name, x in self.state_dict().items()}


def backward(stub: Stub, first: list[int], second: list[int] | None, factor: float) -> None:
    """A loss that reads the rows twice: `first` items, and `second` ones or the whole table."""
    items = slice(0, N) if second is None else torch.tensor(second)
    once = stub.rows.rows(torch.tensor(first))
    again, bias = stub.rows.rows(items), stub.bias.rows(items)
    position = torch.arange(1.0, len(again) + 1, dtype=torch.float64)
    loss = factor * (once @ stub.dense.t()).sum() + (again.square().sum(1) * position).sum()
    (loss + (position * bias).sum() * factor).backward()


def gradients(
    values: dict[str, np.ndarray], first: list[int], second: list[int] | None, factor: float
) -> dict[str, tuple[list[int], np.ndarray]]:
    """The same by hand: for each parameter the rows that were read, and its whole gradient."""
    dense, rows = values["dense"], values["rows.weight"]
    reread = list(range(N)) if second is None else second
    g = {name: np.zeros_like(x) for name, x in values.items()}
    for i in first:
        g["dense"] += factor * rows[i]
        g["rows.weight"][i] += factor * dense.sum(axis=0)
    for k, i in enumerate(reread):
        g["rows.weight"][i] += 2 * (k + 1) * rows[i]
        g["bias.weight"][i] += (k + 1) * factor
    read = {"dense": [0, 1], "rows.weight": sorted({*first, *reread}), "bias.weight": reread}
    return {name: (sorted(set(read[name])), g[name]) for name in g}


# Item 4 twice among the first and once among the second; 1 twice among the second; 0, 5 never.
STEPS: list[tuple[list[int], list[int] | None, float]] = [
    ([4, 2, 4], [1, 4, 1, 6], 0.5),
    ([2, 3], [3, 6, 2], -1.5),
    ([4, 1, 1], [1, 1, 6, 4], 0.25),
]
WITH_WHOLE: list[tuple[list[int], list[int] | None, float]] = [STEPS[0], ([5, 2, 5], None, 0.7)]


def adagrad(
    values: dict[str, np.ndarray], steps: Any, momentum: float, lr: float
) -> tuple[dict[str, np.ndarray], list[float]]:
    """acc += g^2; v = mu v - lr g / sqrt(acc + 1e-6); p += v, row by row where it was read."""
    p = {name: x.copy() for name, x in values.items()}
    acc = {name: np.zeros_like(x) for name, x in p.items()}
    v = {name: np.zeros_like(x) for name, x in p.items()}
    norms = []
    for step in steps:
        taken = gradients(p, *step)
        norms.append(np.sqrt(sum((g**2).sum() for _, g in taken.values())))
        for name, (read, g) in taken.items():
            for i in read:
                acc[name][i] += g[i] ** 2
                v[name][i] = momentum * v[name][i] - lr * g[i] / np.sqrt(acc[name][i] + 1e-6)
                p[name][i] += v[name][i]
    return p, norms


def run(stub: Stub, optimizer: Optimizer, steps: Any) -> list[Tensor | None]:
    norms = []
    for step in steps:
        backward(stub, *step)
        norms.append(optimizer.step(measure=True))
    return norms


def close(stub: Stub, wanted: dict[str, np.ndarray], rtol: float = 1e-12) -> None:
    for name, x in stub.values().items():
        np.testing.assert_allclose(x, wanted[name], rtol=rtol, atol=1e-14, err_msg=name)


@pytest.mark.parametrize("momentum", [0.0, 0.3])
@pytest.mark.parametrize("steps", [STEPS[:1], STEPS[:2], STEPS, WITH_WHOLE])
def test_adagrad(steps: Any, momentum: float) -> None:
    """Duplicates are summed before they are squared; the norm is that of all gradients."""
    stub = Stub()
    wanted, norms = adagrad(stub.values(), steps, momentum, lr=0.05)
    optimizer = build_optimizer(OptimizerConfig("adagrad", momentum=momentum), stub, 0.05)
    measured = run(stub, optimizer, steps)
    close(stub, wanted)
    np.testing.assert_allclose([float(x) for x in measured if x is not None], norms, rtol=1e-12)


def test_adagrad_by_hand_with_numbers() -> None:
    """One row, read three times in each of two steps: g = 1 + 1 + 1, then the same."""
    stub = Stub()
    start = stub.bias.weight[2].item()
    optimizer = build_optimizer(OptimizerConfig("adagrad", momentum=0.5), stub, 0.1)
    for _ in range(2):
        stub.bias.rows(torch.tensor([2, 2, 2])).sum().backward()
        assert optimizer.step() is None
    v1 = -0.1 * 3 / (9 + 1e-6) ** 0.5
    v2 = 0.5 * v1 - 0.1 * 3 / (18 + 1e-6) ** 0.5
    assert stub.bias.weight[2].item() == pytest.approx(start + v1 + v2, rel=1e-14)


@pytest.mark.parametrize("config", [OptimizerConfig("adagrad", momentum=0.3), ADAM])
def test_rows_that_were_not_read_rest_with_their_slots(config: OptimizerConfig) -> None:
    stub = Stub()
    optimizer = build_optimizer(config, stub, 0.05)
    run(stub, optimizer, STEPS)
    before, slots = stub.values(), clone(optimizer.state_dict())["slots"]
    run(stub, optimizer, [([2], [3], 1.0)])
    after, rest = stub.values(), [0, 1, 4, 5, 6]
    np.testing.assert_array_equal(after["rows.weight"][rest], before["rows.weight"][rest])
    others = [0, 1, 2, 4, 5, 6]
    np.testing.assert_array_equal(after["bias.weight"][others], before["bias.weight"][others])
    for name, keep in (("rows", rest), ("bias", others)):
        assert slots[name]
        for slot, x in slots[name].items():
            assert torch.equal(optimizer.state_dict()["slots"][name][slot][keep], x[keep])
    assert (after["rows.weight"][[2, 3]] != before["rows.weight"][[2, 3]]).all()


def test_nothing_is_left_for_the_next_step() -> None:
    """A step without a backward pass moves nothing, also not by momentum."""
    stub = Stub()
    optimizer = build_optimizer(OptimizerConfig("adagrad", momentum=0.9), stub, 0.05)
    run(stub, optimizer, STEPS)
    before = stub.values()
    optimizer.step()
    close(stub, before, rtol=0)


def test_adam_on_dense_parameters_is_that_of_torch() -> None:
    stub, steps = Stub(), 12
    optimizer = build_optimizer(ADAM, stub, 0.02)
    other = nn.Parameter(stub.dense.detach().clone())
    reference = torch.optim.Adam([other], lr=0.02, betas=(0.9, 0.99), eps=1e-12)
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(steps, 2, D)))
    for k in range(steps):
        (stub.dense.sin() * x[k]).sum().backward()
        optimizer.step()
        reference.zero_grad()
        (other.sin() * x[k]).sum().backward()
        reference.step()
    torch.testing.assert_close(stub.dense, other, rtol=1e-11, atol=1e-13)


def test_adam_on_rows_is_that_of_sparse_adam() -> None:
    stub = Stub()
    optimizer = build_optimizer(ADAM, stub, 0.02)
    embedding = nn.Embedding(N, D, sparse=True, dtype=torch.float64)
    embedding.weight.data.copy_(stub.rows.weight)
    reference = torch.optim.SparseAdam([embedding.weight], lr=0.02, betas=(0.9, 0.99), eps=1e-12)
    rng = np.random.default_rng(2)
    for _ in range(12):
        items = torch.from_numpy(rng.integers(0, N, 4))  # with duplicates
        x = torch.from_numpy(rng.normal(size=(4, D)))
        (stub.rows.rows(items).sin() * x).sum().backward()
        optimizer.step()
        reference.zero_grad()
        (embedding(items).sin() * x).sum().backward()
        reference.step()
    torch.testing.assert_close(stub.rows.weight, embedding.weight.data, rtol=1e-9, atol=1e-11)


def clone(state: Any) -> Any:
    if isinstance(state, dict):
        return {key: clone(value) for key, value in state.items()}
    return state.clone() if isinstance(state, Tensor) else state


@pytest.mark.parametrize("config", [OptimizerConfig("adagrad", momentum=0.3), ADAM])
def test_a_restored_optimizer_goes_on_bit_for_bit(config: OptimizerConfig) -> None:
    whole = Stub()
    straight = build_optimizer(config, whole, 0.05)
    run(whole, straight, [*STEPS, *WITH_WHOLE])

    first = Stub()
    optimizer = build_optimizer(config, first, 0.05)
    run(first, optimizer, STEPS)
    state, weights = clone(optimizer.state_dict()), clone(first.state_dict())
    second = Stub(seed=8)
    second.load_state_dict(weights)
    restored = build_optimizer(config, second, 0.05)
    restored.load_state_dict(state)
    run(second, restored, WITH_WHOLE)
    for name, x in whole.state_dict().items():
        assert torch.equal(x, second.state_dict()[name]), name


@pytest.mark.parametrize(
    "config",
    [
        OptimizerConfig("adagrad", momentum=0.1, eps=1e-8),
        OptimizerConfig("adagrad"),
        OptimizerConfig("adam", beta1=0.9, beta2=0.999),
        OptimizerConfig("adam", beta1=0.9, beta2=0.999, eps=1e-8, momentum=0.1),
        OptimizerConfig("sgd"),
    ],
)
def test_inert_missing_and_unknown_settings_are_refused(config: OptimizerConfig) -> None:
    with pytest.raises(UserError):
        build_optimizer(config, Stub(), 0.05)
