"""The GRU against torch.nn.GRUCell and against its equations in NumPy; dropout."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from p_rnn.models.dropout import Dropout
from p_rnn.models.gru import GRU, GRULayer
from p_rnn.random import Streams

B, H, D = 5, 4, 3


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Float64 and all parameters random, biases too."""
    generator = torch.Generator().manual_seed(seed)
    module.double()
    with torch.no_grad():
        for p in module.parameters():
            p.normal_(generator=generator)


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def sigma(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def equations(a: np.ndarray, h: np.ndarray, u: np.ndarray, c: np.ndarray, reset: str) -> np.ndarray:
    """h' of one session: a [3H], h [H], U [H, 3H] as h U, c [3H]; gates in the order r, z, n."""
    size = len(h)
    (a_r, a_z, a_n), (c_r, c_z, c_n) = a.reshape(3, size), c.reshape(3, size)
    u_r, u_z, u_n = (u[:, k * size : (k + 1) * size] for k in range(3))
    r = sigma(a_r + h @ u_r + c_r)
    z = sigma(a_z + h @ u_z + c_z)
    acted = r * (h @ u_n + c_n) if reset == "after" else (r * h) @ u_n + c_n
    n = np.tanh(a_n + acted)
    return (1 - z) * n + z * h


def gate_inputs(layer: GRULayer, a: np.ndarray) -> np.ndarray:
    """a + d; reset=before has no d."""
    return a + layer.input_bias.detach().numpy() if hasattr(layer, "input_bias") else a


def layer(reset: str) -> GRULayer:
    made = GRULayer(H, reset, "test", Streams(0))
    randomise(made)
    return made


def test_reset_after_is_the_gru_cell_of_torch() -> None:
    """W_ih x plays the part of a; input biases d and hidden biases c."""
    ours, cell = layer("after"), nn.GRUCell(D, H).double()
    with torch.no_grad():
        cell.weight_hh.copy_(ours.recurrent.t())
        cell.bias_hh.copy_(ours.bias)
        cell.bias_ih.copy_(ours.input_bias)
    x, h = normal(B, D), normal(B, H, seed=2)
    torch.testing.assert_close(ours(x @ cell.weight_ih.t(), h), cell(x, h), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("reset", ["after", "before"])
def test_a_step_follows_the_equations(reset: str) -> None:
    ours, a, h = layer(reset), normal(B, 3 * H), normal(B, H, seed=2)
    u, c = ours.recurrent.detach().numpy(), ours.bias.detach().numpy()
    inputs = gate_inputs(ours, a.numpy())
    wanted = [equations(inputs[b], h[b].numpy(), u, c, reset) for b in range(B)]
    np.testing.assert_allclose(ours(a, h).detach(), wanted, rtol=1e-12)


def test_the_two_resets_differ_unless_the_state_is_zero() -> None:
    """From h = 0 and c = 0 there is nothing for r to act on."""
    after, before, a = layer("after"), layer("before"), normal(B, 3 * H)
    h = normal(B, H, seed=2)
    assert (after(a, h) - before(a, h)).abs().max() > 1e-3
    with torch.no_grad():
        after.bias.zero_()
        after.input_bias.zero_()
        before.bias.zero_()
    torch.testing.assert_close(after(a, 0 * h), before(a, 0 * h), rtol=0, atol=1e-15)


def gru(num_layers: int, reset: str = "after", dropout: float = 0.0, seed: int = 0) -> GRU:
    made = GRU(H, num_layers, reset, dropout, "test", Streams(seed))
    randomise(made)
    return made


def numpy_layers(made: GRU, a: np.ndarray, state: list[np.ndarray], reset: str) -> list[np.ndarray]:
    """One step of all layers; layer k > 0 reads W_k times the new state of the one below."""
    new: list[np.ndarray] = []
    for k, one in enumerate(made.layers):
        if k > 0:
            a = new[-1] @ made.inputs[k - 1].detach().numpy()
        u, c = one.recurrent.detach().numpy(), one.bias.detach().numpy()
        x = gate_inputs(one, a)
        new.append(np.stack([equations(x[b], state[k][b], u, c, reset) for b in range(len(a))]))
    return new


@pytest.mark.parametrize("reset", ["after", "before"])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_layers_over_time(num_layers: int, reset: str) -> None:
    made, steps = gru(num_layers, reset), 6
    a = normal(steps, B, 3 * H)
    state = tuple(normal(B, H, seed=5 + k) for k in range(num_layers))
    wanted = [h.numpy() for h in state]
    for t in range(steps):
        state = made(a[t], state)
        wanted = numpy_layers(made, a[t].numpy(), wanted, reset)
        assert len(state) == num_layers
        for h, w in zip(state, wanted, strict=True):
            np.testing.assert_allclose(h.detach(), w, rtol=1e-11, atol=1e-14)


def test_every_parameter_of_every_layer_has_a_gradient() -> None:
    made = gru(3)
    made(normal(B, 3 * H), tuple(normal(B, H, seed=k) for k in range(3)))[-1].sum().backward()
    assert len(list(made.parameters())) == 3 * 3 + 2
    for name, p in made.named_parameters():
        assert p.grad is not None, name
        assert (p.grad != 0).any(), name


# --- dropout ------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_dropout_zeroes_or_scales(p: float) -> None:
    """Entries become 0 with probability p, else x / (1 - p)."""
    dropout, x = Dropout(p, 300, torch.Generator().manual_seed(3)), normal(200, 300)
    y = dropout(x)
    dropped = y == 0
    torch.testing.assert_close(y[~dropped], x[~dropped] / (1 - p), rtol=1e-12, atol=0)
    five_sigma = 5 * (p * (1 - p) / x.numel()) ** 0.5
    assert dropped.double().mean().item() == pytest.approx(p, abs=five_sigma)


def test_dropout_does_nothing_in_evaluation_or_at_zero() -> None:
    generator, x = torch.Generator().manual_seed(3), normal(20, 30)
    before = generator.get_state()
    assert torch.equal(Dropout(0.5, 300, generator).eval()(x), x)
    assert torch.equal(Dropout(0.0, 300, generator)(x), x)
    assert torch.equal(generator.get_state(), before)


def test_the_dropped_output_is_the_carried_state_and_the_next_layers_input() -> None:
    p = 0.4
    made = gru(2, dropout=p)
    a, state = normal(B, 3 * H), (normal(B, H, seed=6), normal(B, H, seed=7))
    low, high = (h.detach().numpy() for h in made(a, state))
    full = numpy_layers(made, a.numpy(), [h.numpy() for h in state], "after")[0]
    kept = low != 0
    assert 0 < kept.sum() < kept.size
    np.testing.assert_allclose(low[kept], full[kept] / (1 - p), rtol=1e-12)
    # The second layer reads the dropped output of the first, and its own output is dropped too.
    u, c = made.layers[1].recurrent.detach().numpy(), made.layers[1].bias.detach().numpy()
    above = gate_inputs(made.layers[1], low @ made.inputs[0].detach().numpy())
    full = np.stack([equations(above[b], state[1][b].numpy(), u, c, "after") for b in range(B)])
    kept = high != 0
    assert 0 < kept.sum() < kept.size
    np.testing.assert_allclose(high[kept], full[kept] / (1 - p), rtol=1e-12)


def test_evaluation_is_the_network_without_dropout() -> None:
    a, state = normal(B, 3 * H), (normal(B, H, seed=6), normal(B, H, seed=7))
    with_dropout, without = gru(2, dropout=0.5).eval(), gru(2)
    for x, y in zip(with_dropout(a, state), without(a, state), strict=True):
        assert torch.equal(x, y)


def zeros_of(made: GRU, layer: int) -> Tensor:
    """Where the outputs of two steps in a row are dropped, [2, B, H]."""
    a, state = normal(B, 3 * H), tuple(normal(B, H, seed=6) for _ in made.layers)
    return torch.stack([made(a, state)[layer] == 0 for _ in range(2)])


def test_dropout_draws_from_its_own_stream() -> None:
    """The same seed gives the same masks, whatever else draws; another seed gives others."""
    mask = zeros_of(gru(1, dropout=0.5), 0)
    assert torch.equal(mask, zeros_of(gru(1, dropout=0.5), 0))
    assert not torch.equal(mask, zeros_of(gru(1, dropout=0.5, seed=1), 0))
    assert not torch.equal(mask[0], mask[1])
    assert torch.equal(mask, zeros_of(gru(2, dropout=0.5), 0))
    assert not torch.equal(mask, zeros_of(gru(2, dropout=0.5), 1))

    streams = Streams(0)
    another = GRU(H, 2, "after", 0.5, "another", streams).double()
    assert not torch.equal(mask, zeros_of(another, 0))
    made = GRU(H, 1, "after", 0.5, "test", streams)
    streams.running("negatives").seed()
    torch.rand(100)
    randomise(made)
    assert torch.equal(mask, zeros_of(made, 0))


def test_epochs_have_their_own_masks_which_return_when_an_epoch_does() -> None:
    streams = Streams(4)
    made = GRU(H, 1, "after", 0.5, "test", streams)
    randomise(made)
    masks = []
    for epoch in (0, 1, 0, 1):
        streams.start_epoch(epoch)
        masks.append(zeros_of(made, 0))
    assert torch.equal(masks[0], masks[2])
    assert torch.equal(masks[1], masks[3])
    assert not torch.equal(masks[0], masks[1])
