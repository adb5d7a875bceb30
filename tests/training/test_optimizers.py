"""Optimizers against NumPy and against PyTorch's own, on dense parameters and on rows of tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from p_rnn.models.tables import Table
from p_rnn.settings.errors import UserError
from p_rnn.settings.sections import Component, component
from p_rnn.training.gradients import gradient_norm
from p_rnn.training.optimizers import build_optimizer as build
from p_rnn.training.step import train_step
from p_rnn.training.trainer import Trainer
from tests.worlds import settings, trainer, weights

N, D = 7, 3
ADAM = component("adam", beta1=0.9, beta2=0.99, eps=1e-12)
EVERY = {
    "adagrad": component("adagrad", momentum=0.3),
    "adagrad-decay": component("adagrad", momentum=0.3, weight_decay=0.1),
    "adam": ADAM,
    "adamw": component("adamw", beta1=0.9, beta2=0.99, eps=1e-12, weight_decay=0.1),
    "sgd": component("sgd", momentum=0.5, weight_decay=0.1),
}
every_optimizer = pytest.mark.parametrize("config", EVERY.values(), ids=EVERY)


class Stub(nn.Module):
    """What an optimizer sees of a network: a dense parameter, and tables of rows and of scalars."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.dense = nn.Parameter(torch.from_numpy(rng.normal(size=(2, D))))
        self.rows = Table(N, D).double()
        self.bias = Table(N, 1).double()
        with torch.no_grad():
            self.rows.weight.copy_(torch.from_numpy(rng.normal(size=(N, D))))
            self.bias.weight.copy_(torch.from_numpy(rng.normal(size=(N, 1))))

    def values(self) -> dict[str, np.ndarray]:
        return {name: x.detach().numpy().copy() for name, x in self.state_dict().items()}


def build_optimizer(config: component, stub: Stub, lr: Any) -> torch.optim.Optimizer:
    return build(config, stub.parameters(), lr)


def backward(stub: Stub, first: list[int], second: list[int] | None, factor: float) -> None:
    """A loss that reads the rows twice: `first` items, and `second` ones or the whole table."""
    items = slice(0, N) if second is None else torch.tensor(second)
    once = stub.rows(torch.tensor(first))
    again, bias = stub.rows(items), stub.bias(items).squeeze(1)
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


def run(stub: Stub, optimizer: torch.optim.Optimizer, steps: Any) -> list[Tensor]:
    norms = []
    for step in steps:
        backward(stub, *step)
        norms.append(gradient_norm(stub.parameters()))
        optimizer.step()
        optimizer.zero_grad()
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
    optimizer = build_optimizer(component("adagrad", momentum=momentum), stub, 0.05)
    measured = run(stub, optimizer, steps)
    close(stub, wanted)
    np.testing.assert_allclose([x.item() for x in measured], norms, rtol=1e-12)


def test_adagrad_by_hand_with_numbers() -> None:
    """One row, read three times in each of two steps: g = 1 + 1 + 1, then the same."""
    stub = Stub()
    start = stub.bias.weight[2, 0].item()
    optimizer = build_optimizer(component("adagrad", momentum=0.5), stub, 0.1)
    for _ in range(2):
        stub.bias(torch.tensor([2, 2, 2])).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    v1 = -0.1 * 3 / (9 + 1e-6) ** 0.5
    v2 = 0.5 * v1 - 0.1 * 3 / (18 + 1e-6) ** 0.5
    assert stub.bias.weight[2, 0].item() == pytest.approx(start + v1 + v2, rel=1e-14)


@every_optimizer
def test_rows_that_were_not_read_rest_with_their_slots(config: Component) -> None:
    stub = Stub()
    optimizer = build_optimizer(config, stub, 0.05)
    run(stub, optimizer, STEPS)
    tables = {"rows": stub.rows.weight, "bias": stub.bias.weight}
    before = stub.values()
    slots = {name: clone(dict(optimizer.state[p])) for name, p in tables.items()}
    run(stub, optimizer, [([2], [3], 1.0)])
    after, rest = stub.values(), [0, 1, 4, 5, 6]
    np.testing.assert_array_equal(after["rows.weight"][rest], before["rows.weight"][rest])
    others = [0, 1, 2, 4, 5, 6]
    np.testing.assert_array_equal(after["bias.weight"][others], before["bias.weight"][others])
    for name, keep in (("rows", rest), ("bias", others)):
        assert slots[name]
        for slot, x in slots[name].items():
            if slot != "step":
                assert torch.equal(optimizer.state[tables[name]][slot][keep], x[keep])
    assert (after["rows.weight"][[2, 3]] != before["rows.weight"][[2, 3]]).all()


@every_optimizer
def test_nothing_is_left_for_the_next_step(config: Component) -> None:
    """A step without a backward pass moves nothing, also not by momentum or decay."""
    stub = Stub()
    optimizer = build_optimizer(config, stub, 0.05)
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
        optimizer.zero_grad()
        reference.zero_grad()
        (other.sin() * x[k]).sum().backward()
        reference.step()
    torch.testing.assert_close(stub.dense, other, rtol=1e-11, atol=1e-13)


def test_adam_on_rows_is_that_of_sparse_adam() -> None:
    stub = Stub()
    optimizer = build_optimizer(ADAM, stub, 0.02)
    embedding = nn.Embedding(N, D, sparse=True, dtype=torch.float64)
    embedding.weight.data.copy_(stub.rows.weight.data)
    reference = torch.optim.SparseAdam([embedding.weight], lr=0.02, betas=(0.9, 0.99), eps=1e-12)
    rng = np.random.default_rng(2)
    for _ in range(12):
        items = torch.from_numpy(rng.integers(0, N, 4))  # with duplicates
        x = torch.from_numpy(rng.normal(size=(4, D)))
        (stub.rows(items).sin() * x).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        reference.zero_grad()
        (embedding(items).sin() * x).sum().backward()
        reference.step()
    torch.testing.assert_close(stub.rows.weight.data, embedding.weight.data, rtol=1e-9, atol=1e-11)


def clone(state: Any) -> Any:
    if isinstance(state, dict):
        return {key: clone(value) for key, value in state.items()}
    return state.clone() if isinstance(state, Tensor) else state


@every_optimizer
def test_a_restored_optimizer_goes_on_bit_for_bit(config: component, tmp_path: Path) -> None:
    """Through a file that holds tensors and plain Python only, as checkpoints do."""
    whole = Stub()
    straight = build_optimizer(config, whole, 0.05)
    run(whole, straight, [*STEPS, *WITH_WHOLE])

    first = Stub()
    optimizer = build_optimizer(config, first, 0.05)
    run(first, optimizer, STEPS)
    torch.save([optimizer.state_dict(), first.state_dict()], tmp_path / "both.pt")
    run(first, optimizer, STEPS)  # what was kept does not move with it
    state, weights = torch.load(tmp_path / "both.pt", weights_only=True)
    second = Stub(seed=8)
    second.load_state_dict(weights)
    restored = build_optimizer(config, second, 0.7)
    restored.load_state_dict(state)
    assert restored.param_groups[0]["lr"] == 0.05
    run(second, restored, WITH_WHOLE)
    for name, x in whole.state_dict().items():
        assert torch.equal(x, second.state_dict()[name]), name


@pytest.mark.parametrize(
    "config",
    [
        component("adagrad", momentum=0.1, eps=1e-8),
        component("adagrad", momentum=1.0),
        component("adam", beta1=0.9, beta2=0.999, eps=0.0),
        component("adam", beta1=0.9, beta2=0.999, eps=1e-8, momentum=0.1),
        component("sgd", beta1=0.9),
        component("adamw", momentum=0.1),
        component("adamw", weight_decay=-0.1),
        component("rmsprop"),
        Component(),
    ],
)
def test_inert_missing_and_unknown_settings_are_refused(config: Component) -> None:
    with pytest.raises(UserError):
        build_optimizer(config, Stub(), 0.05)


@pytest.mark.parametrize(
    ("config", "reference"),
    [
        (
            component("adamw", beta1=0.9, beta2=0.99, eps=1e-12, weight_decay=0.1),
            lambda p: torch.optim.AdamW(
                [p], lr=0.02, betas=(0.9, 0.99), eps=1e-12, weight_decay=0.1
            ),
        ),
        (
            component("adam", beta1=0.9, beta2=0.99, eps=1e-12, weight_decay=0.1),
            lambda p: torch.optim.Adam(
                [p], lr=0.02, betas=(0.9, 0.99), eps=1e-12, weight_decay=0.1
            ),
        ),
        (
            component("sgd", momentum=0.5, weight_decay=0.1),
            lambda p: torch.optim.SGD([p], lr=0.02, momentum=0.5, weight_decay=0.1),
        ),
        (
            component("adagrad", momentum=0.0, weight_decay=0.1),
            lambda p: torch.optim.Adagrad([p], lr=0.02, weight_decay=0.1),
        ),
    ],
    ids=lambda x: x.name if isinstance(x, Component) else "",
)
def test_dense_parameters_move_as_in_pytorch(config: component, reference: Any) -> None:
    stub = Stub()
    ours, other = build_optimizer(config, stub, 0.02), nn.Parameter(stub.dense.detach().clone())
    theirs = reference(other)
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(12, 2, D)))
    for k in range(12):
        for p, optimizer in ((stub.dense, ours), (other, theirs)):
            optimizer.zero_grad()
            (p.sin() * x[k]).sum().backward()
            optimizer.step()
    # Adagrad's 1e-6 stands within the root here, and PyTorch's 1e-10 beside it.
    rtol, atol = (1e-5, 1e-6) if config.name == "adagrad" else (1e-11, 1e-13)
    torch.testing.assert_close(stub.dense, other, rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", ["adagrad", "sgd", "adamw"])
def test_weight_decay_acts_on_rows_that_were_read(name: str) -> None:
    """With gradients of zero."""
    given = {"adamw": {"beta1": 0.9, "beta2": 0.9, "eps": 1e-8}}.get(name, {"momentum": 0.0})
    stub = Stub()
    optimizer = build_optimizer(component(name, weight_decay=0.5, **given), stub, 0.1)
    before = stub.values()["rows.weight"]
    (stub.rows(torch.tensor([2, 4, 2])) * 0).sum().backward()
    optimizer.step()
    after, read = stub.values()["rows.weight"], [2, 4]
    rest = [0, 1, 3, 5, 6]
    np.testing.assert_array_equal(after[rest], before[rest])
    smaller = before[read] * (1 - 0.1 * 0.5)
    if name == "adagrad":
        g = 0.5 * before[read]
        smaller = before[read] - 0.1 * g / np.sqrt(g**2 + 1e-6)
    np.testing.assert_allclose(after[read], smaller, rtol=1e-12)


def test_gradient_descent_by_hand_with_numbers() -> None:
    """One row, read twice in each of two steps, with momentum: v = 2, then 0.5 * 2 + 2."""
    stub = Stub()
    optimizer = build_optimizer(component("sgd", momentum=0.5), stub, 0.1)
    start = stub.bias.weight[2, 0].item()
    for _ in range(2):
        stub.bias(torch.tensor([2, 2, 3])).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert stub.bias.weight[2, 0].item() == pytest.approx(start - 0.1 * 2 - 0.1 * (1 + 2))


@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("steps", [STEPS, WITH_WHOLE])
def test_gradient_descent_row_by_row(steps: Any, decay: float, momentum: float) -> None:
    """v = mu v + g + decay p; p -= lr v, row by row where it was read."""
    stub = Stub()
    p = stub.values()
    v = {name: np.zeros_like(x) for name, x in p.items()}
    for step in steps:
        for name, (read, g) in gradients(p, *step).items():
            for i in read:
                v[name][i] = momentum * v[name][i] + g[i] + decay * p[name][i]
                p[name][i] -= 0.02 * v[name][i]
    config = component("sgd", momentum=momentum, weight_decay=decay)
    run(stub, build_optimizer(config, stub, 0.02), steps)
    close(stub, p)


def test_adamw_row_by_row() -> None:
    """p -= lr decay p, then Adam's step; steps are counted by parameter, not by row."""
    stub, lr, decay, beta1, beta2, eps = Stub(), 0.02, 0.1, 0.9, 0.99, 1e-12
    p = stub.values()
    mean, square = ({name: np.zeros_like(x) for name, x in p.items()} for _ in range(2))
    for t, step in enumerate(STEPS, 1):
        for name, (read, g) in gradients(p, *step).items():
            for i in read:
                p[name][i] *= 1 - lr * decay
                mean[name][i] = beta1 * mean[name][i] + (1 - beta1) * g[i]
                square[name][i] = beta2 * square[name][i] + (1 - beta2) * g[i] ** 2
                root = np.sqrt(square[name][i] / (1 - beta2**t)) + eps
                p[name][i] -= lr * mean[name][i] / (1 - beta1**t) / root
    run(stub, build_optimizer(EVERY["adamw"], stub, lr), STEPS)
    close(stub, p, rtol=1e-11)


@every_optimizer
def test_a_learning_rate_may_be_a_tensor(config: Component) -> None:
    number, tensor = Stub(), Stub()
    run(number, build_optimizer(config, number, 0.05), STEPS)
    run(tensor, build_optimizer(config, tensor, torch.tensor(0.05, dtype=torch.float64)), STEPS)
    close(tensor, number.values(), rtol=1e-10)


# --- optimizers of others ------------------------------------------------------------------------


MIXED = ("model=parallel", "model.input=one_hot", "loss=cross_entropy", "compile=never")


def updated(job: Trainer, optimizer: torch.optim.Optimizer) -> dict[str, np.ndarray]:
    """The weights after three mini-batches."""
    job.update.optimizer = optimizer
    state = job.network.begin(job.update.batch_size)
    for batch, _ in zip(job.batches, range(3), strict=False):
        state = train_step(job.update, batch, state, [None])[1]
    return weights(job.network)


def pair(tmp_path: Path) -> tuple[Trainer, Trainer]:
    """The same job twice, in float64: its tables make sparse gradients, or dense ones."""
    sparse, whole = (trainer(settings(*MIXED), tmp_path)[0] for _ in range(2))
    sparse.network.double()
    whole.network.double().dense_gradients()
    return sparse, whole


def tables(network: nn.Module) -> dict[str, nn.Parameter]:
    found = {f"{n}.weight": m for n, m in network.named_modules() if isinstance(m, Table)}
    return {name: table.weight for name, table in found.items()}


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adagrad])
def test_optimizers_of_pytorch_step_a_network_with_sparse_gradients(
    kind: Any, tmp_path: Path
) -> None:
    """As they do with dense gradients: neither moves a row whose gradient is zero."""
    sparse, whole = pair(tmp_path)
    before = weights(sparse.network)
    found = updated(sparse, kind(sparse.network.parameters(), lr=0.1))
    wanted = updated(whole, kind(whole.network.parameters(), lr=0.1))
    assert all(p.grad is not None and p.grad.is_sparse for p in tables(sparse.network).values())
    assert not any(p.grad.is_sparse for p in whole.network.parameters() if p.grad is not None)
    for name, x in found.items():
        assert (x != before[name]).any(), name
        np.testing.assert_allclose(x, wanted[name], rtol=1e-9, atol=1e-12, err_msg=name)


def test_sparse_adam_of_pytorch_steps_the_tables_of_a_network(tmp_path: Path) -> None:
    """It is our Adam there, and what is no table rests."""
    theirs, ours = (trainer(settings(*MIXED), tmp_path)[0] for _ in range(2))
    before = weights(theirs.network.double())
    reference = torch.optim.SparseAdam(
        list(tables(theirs.network).values()), lr=0.1, betas=(0.9, 0.99), eps=1e-12
    )
    found = updated(theirs, reference)
    wanted = updated(ours, build(ADAM, tables(ours.network.double()).values(), 0.1))
    for name, x in found.items():
        assert (x != before[name]).any() == (name in tables(theirs.network)), name
        np.testing.assert_allclose(x, wanted[name], rtol=1e-6, atol=1e-8, err_msg=name)
