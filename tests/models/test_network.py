"""The network: input modes, candidate lists, initial weights, streams, and where gradients end."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from p_rnn.data.dataset import Sessions
from p_rnn.models.architectures import build_network
from p_rnn.models.network import PRNN
from p_rnn.models.tables import Table
from p_rnn.settings.config import Config
from p_rnn.settings.resolve import resolve
from p_rnn.settings.sections import TrackingConfig
from p_rnn.streams import Streams
from p_rnn.tracking import Tracker
from p_rnn.training.trainer import Trainer
from tests.composed import composed

N, H, B = 11, 4, 5


def make_config(*overrides: str) -> Config:
    fixed = (
        "dataset=table",
        "dataset.path=none",
        "dataset.test_days=1",
        "device=cpu",
        f"hidden_size={H}",
    )
    return resolve(composed(*fixed, *overrides))


def build(*overrides: str, seed: int = 0, num_items: int = N) -> PRNN:
    return build_network(make_config(*overrides), num_items, Streams(seed), {})


def random_network(*overrides: str) -> PRNN:
    """Float64, and all parameters random, biases too."""
    network = build(*overrides).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in network.parameters():
            p.normal_(generator=generator)
    return network


def normal(*shape: int, seed: int = 2) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def array(x: Tensor) -> np.ndarray:
    return x.detach().numpy()


def gru_step(network: PRNN, a: np.ndarray, h: np.ndarray) -> np.ndarray:
    """h' from the gate inputs, reset=after."""
    layer = network.subnets[0].layers.cells[0]
    u, c = array(layer.recurrent), array(layer.bias)
    gates, a = h @ u + c, a + array(layer.input_bias)
    r = 1 / (1 + np.exp(-(a[:, :H] + gates[:, :H])))
    z = 1 / (1 + np.exp(-(a[:, H : 2 * H] + gates[:, H : 2 * H])))
    n = np.tanh(a[:, 2 * H :] + r * gates[:, 2 * H :])
    return (1 - z) * n + z * h


# --- inputs -------------------------------------------------------------------------------------

ITEMS = [3, 0, 10, 3, 7]
ONE_HOT = np.eye(N)[ITEMS]


@pytest.mark.parametrize("mode", ["one_hot", "embedding", "shared"])
def test_inputs_are_one_of_n_vectors_times_dense_matrices(mode: str) -> None:
    overrides = ["embedding_size=3"] if mode == "embedding" else []
    network = random_network(f"model.input={mode}", *overrides)
    inputs, h = network.subnets[0].inputs[0], normal(B, H)
    table = array(inputs.view.table.weight)
    if mode == "one_hot":
        assert table.shape == (N, 3 * H)
        a = ONE_HOT @ table
    else:
        assert table.shape == (N, 3 if mode == "embedding" else H)
        a = ONE_HOT @ table @ array(inputs.weight)
    np.testing.assert_allclose(array(inputs(torch.tensor(ITEMS))), a, rtol=1e-12)
    (new,) = network.advance(torch.tensor(ITEMS), (h,))
    np.testing.assert_allclose(array(new), gru_step(network, a, h.numpy()), rtol=1e-11)


@pytest.mark.parametrize("mode", ["one_hot", "embedding", "shared"])
def test_only_shared_input_reads_the_output_matrix(mode: str) -> None:
    network, item = random_network(f"model.input={mode}"), torch.tensor([6])
    a, score = network.subnets[0].inputs[0](item), network.scores((normal(1, H),), item)
    with torch.no_grad():
        network.merge.tables[0].weight[6] += 1
    assert torch.equal(a, network.subnets[0].inputs[0](item)) == (mode != "shared")
    assert not torch.equal(score, network.scores((normal(1, H),), item))


@pytest.mark.parametrize(
    ("overrides", "tables"),
    [
        (("model.input=one_hot",), N * 3 * H + N * H),
        (("model.input=embedding", "embedding_size=3"), N * 3 + 3 * 3 * H + N * H),
        (("model.input=shared",), N * H + H * 3 * H),
    ],
)
@pytest.mark.parametrize("layers", [1, 3])
def test_parameters_are_counted_once(overrides: tuple[str, ...], tables: int, layers: int) -> None:
    network = build(*overrides, f"num_layers={layers}")
    one_layer = H * 3 * H + 2 * 3 * H  # U, c and d
    total = tables + N + layers * one_layer + (layers - 1) * H * 3 * H
    assert sum(p.numel() for p in network.parameters()) == total
    tables_of = [m for m in network.modules() if isinstance(m, Table)]
    assert len(tables_of) == (2 if overrides == ("model.input=shared",) else 3)


@pytest.mark.parametrize("mode", ["embedding", "shared"])
def test_dropout_acts_on_the_embedding_and_not_on_the_gate_inputs(mode: str) -> None:
    """a = (m * E[i] / (1 - p)) W for one of the 2^H masks m, and not the same for all."""
    network = random_network(f"model.input={mode}", "dropout_embedding=0.25")
    inputs, items = network.subnets[0].inputs[0], torch.tensor(ITEMS * 8)
    masks = np.array(list(np.ndindex(*[2] * H))) / 0.75  # [2^H, H]
    table, weight = array(inputs.view.table.weight), array(inputs.weight)
    used = set()
    for item, a in zip(items.tolist(), array(inputs(items)), strict=True):
        error = np.abs(masks * table[item] @ weight - a).max(axis=1)
        assert error.min() < 1e-12
        used.add(int(error.argmin()))
    assert len(used) > 3
    whole = np.eye(N)[items] @ table @ weight
    np.testing.assert_allclose(array(network.eval().subnets[0].inputs[0](items)), whole, rtol=1e-11)


# --- scores and steps ---------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 2])
def test_scores_of_every_kind_of_candidate_list(layers: int) -> None:
    network = random_network(f"num_layers={layers}")
    state = tuple(normal(B, H, seed=k) for k in range(layers))
    w, b = array(network.merge.tables[0].weight), array(network.merge.bias.weight)[:, 0]
    full = state[-1].numpy() @ w.T + b  # [B, N]; the topmost layer counts
    some = torch.tensor([9, 2, 2, 0])
    own = torch.tensor(np.random.default_rng(0).integers(0, N, (B, 3)))
    wanted = {"own": np.take_along_axis(full, own.numpy(), axis=1), "some": full[:, some]}
    for train in (True, False):
        with torch.set_grad_enabled(train):
            whole = network.scores(state, slice(0, N))
            np.testing.assert_allclose(array(whole), full, rtol=1e-11)
            np.testing.assert_allclose(array(network.scores(state, some)), wanted["some"], 1e-11)
            np.testing.assert_allclose(array(network.scores(state, own)), wanted["own"], 1e-11)
    with torch.no_grad():
        part = network.scores(state, slice(3, 8))
    np.testing.assert_allclose(array(part), full[:, 3:8], rtol=1e-11)


def test_begin_is_zero_and_step_keeps_the_state_of_inactive_sessions() -> None:
    network = random_network("num_layers=2")
    state = network.begin(B)
    assert [h.shape for h in state] == [(B, H), (B, H)]
    assert all((h == 0).all() and h.dtype == torch.float64 for h in state)
    state = tuple(normal(B, H, seed=k) for k in range(2))
    active = torch.tensor([True, False, True, True, False])
    items = torch.tensor([3, -1, 10, 3, N + 5])  # what stands in a padded place is no item
    with torch.no_grad():
        stepped = network.step(items, state, active)
        alone = network.advance(items[active], tuple(h[active] for h in state))
    for old, new, of_active in zip(state, stepped, alone, strict=True):
        assert torch.equal(new[~active], old[~active])
        torch.testing.assert_close(new[active], of_active, rtol=1e-12, atol=1e-14)


# --- initial weights ----------------------------------------------------------------------------


def assert_uniform(x: Tensor, rows: int, cols: int, gates: int = 1) -> None:
    """Each gate fills +-sqrt(6 / (rows + cols)) and no more, and evenly."""
    bound = float(np.sqrt(6 / (rows + cols)))
    assert x.shape == (rows, gates * cols)
    for gate in x.detach().chunk(gates, dim=1):
        assert gate.abs().max() <= bound
        assert gate.max() > 0.95 * bound
        assert gate.min() < -0.95 * bound
        five_sigma = 5 / (3 * gate.numel()) ** 0.5
        assert abs(gate.mean().item() / bound) < five_sigma
        assert gate.square().mean().item() / bound**2 == pytest.approx(1 / 3, abs=five_sigma)


def test_initial_weights() -> None:
    n, h, d = 300, 40, 30
    size = f"hidden_size={h}"
    for mode in ("one_hot", "embedding", "shared"):
        more = [f"embedding_size={d}"] if mode == "embedding" else []
        network = build(f"model.input={mode}", size, "num_layers=2", *more, num_items=n)
        inputs, layers = network.subnets[0].inputs[0], network.subnets[0].layers
        assert_uniform(network.merge.tables[0].weight, n, h)
        if mode == "one_hot":
            assert_uniform(inputs.view.table.weight, n, h, gates=3)
        else:
            width = d if mode == "embedding" else h
            assert_uniform(inputs.view.table.weight, n, width)
            assert_uniform(inputs.weight, width, h, gates=3)
        assert_uniform(layers.inputs[0], h, h, gates=3)
        for layer in layers.cells:
            assert_uniform(layer.recurrent, h, h, gates=3)
            assert (layer.bias == 0).all()
            assert (layer.input_bias == 0).all()
        assert (network.merge.bias.weight == 0).all()
        assert all(p.dtype == torch.float32 for p in network.parameters())


def test_no_two_components_start_alike() -> None:
    network = build("model.input=embedding", "num_layers=3")
    layers = network.subnets[0].layers
    square = [*layers.inputs, *(x.recurrent for x in layers.cells)]
    square.append(network.subnets[0].inputs[0].weight)
    for k, x in enumerate(square):
        assert not any(torch.equal(x, y) for y in square[:k])
    assert not torch.equal(
        network.merge.tables[0].weight, network.subnets[0].inputs[0].view.table.weight
    )


def test_another_layer_changes_nobody_elses_numbers() -> None:
    small, large = build("num_layers=1").state_dict(), build("num_layers=2").state_dict()
    assert set(small) < set(large)
    for name, x in small.items():
        assert torch.equal(x, large[name]), name
    other = build("num_layers=1", seed=1).state_dict()
    assert any(not torch.equal(x, other[name]) for name, x in small.items())


def test_another_input_changes_nobody_elses_numbers() -> None:
    a, b = (build(f"model.input={mode}") for mode in ("one_hot", "embedding"))
    ours, theirs = (x.subnets[0].layers.cells[0].recurrent for x in (a, b))
    assert torch.equal(ours, theirs)
    assert torch.equal(a.merge.tables[0].weight, b.merge.tables[0].weight)


# --- where gradients end ------------------------------------------------------------------------


class Watch:
    """Stands in for the optimizer: keeps the gradients of each update, and moves nothing."""

    def __init__(self, network: PRNN) -> None:
        self.network = network
        self.gradients: list[dict[str, Any]] = []

    def zero_grad(self) -> None:
        assert all(p.grad is None for p in self.network.parameters())

    def step(self) -> None:
        self.gradients.append(gradients(self.network))


def gradients(network: PRNN) -> dict[str, np.ndarray]:
    """Of everything, in full size; they are cleared."""
    found = {}
    for name, p in network.named_parameters():
        assert p.grad is not None, name
        found[name], p.grad = p.grad.to_dense().numpy().copy(), None
    return found


SESSIONS = Sessions(
    items=np.array([0, 1, 2, 3, 4, 5], dtype=np.int32),
    offsets=np.array([0, 3, 6]),
    times=np.zeros(6, dtype=np.int64),
)


def differ(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    return max(float(np.abs(a[name] - b[name]).max()) for name in a)


def test_the_gradient_of_a_step_never_reaches_an_earlier_one(tmp_path: Path) -> None:
    """Two sessions of three events, so two updates, of which the second starts from a state.

    Its gradient is that of a fresh network which is handed the same numbers as its state, and
    not that of both steps unrolled.
    """
    config = make_config("batch_size=2", "num_negatives=0", "num_layers=2", "loss=cross_entropy")
    network = random_network("num_layers=2")
    fresh, unrolled = copy.deepcopy(network), copy.deepcopy(network)
    tracker = Tracker(tmp_path, TrackingConfig(tensorboard=False, progress=False))
    support = SESSIONS.support(N)[:6]
    trainer = Trainer(config, network, SESSIONS, support, Streams(0), tracker)
    watch = Watch(network)
    trainer.update.optimizer = watch  # type: ignore[assignment]
    seen: list[tuple[Tensor, ...]] = []
    advance = network.advance

    def spy(items: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        seen.append(state)
        return advance(items, state)

    network.advance = spy  # type: ignore[method-assign]
    trainer.run_pass(0)
    assert len(seen) == len(watch.gradients) == 2
    for state in seen:
        assert all(h.grad_fn is None and not h.requires_grad for h in state)
    assert (seen[1][0] != 0).all()

    def loss(of: PRNN, inputs: list[int], targets: list[int], state: Any) -> tuple[Tensor, Any]:
        after = of.advance(torch.tensor(inputs), state)
        scores = of.scores(after, torch.tensor(targets))
        return -(scores.log_softmax(1).diagonal().sum() / 2), after

    first, _ = loss(fresh, [0, 3], [1, 4], fresh.begin(2))
    first.backward()
    assert differ(watch.gradients[0], gradients(fresh)) < 1e-12
    handed_over = tuple(torch.tensor(h.tolist(), dtype=torch.float64) for h in seen[1])
    second, _ = loss(fresh, [1, 4], [2, 5], handed_over)
    second.backward()
    assert differ(watch.gradients[1], gradients(fresh)) < 1e-12
    # The other thing that it could have been is far away.
    _, after = loss(unrolled, [0, 3], [1, 4], unrolled.begin(2))
    with_memory, _ = loss(unrolled, [1, 4], [2, 5], after)
    assert with_memory.item() == pytest.approx(second.item(), rel=1e-12)
    with_memory.backward()
    assert differ(gradients(unrolled), watch.gradients[1]) > 1e-3
