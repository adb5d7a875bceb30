"""Recurrent cells against PyTorch's and against their equations in NumPy; layers; dropout."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from p_rnn.models.cells import CELLS, Cell, Initial, Mean
from p_rnn.models.cells.attention import Attention
from p_rnn.models.cells.gru import GRU
from p_rnn.models.cells.lstm import LSTM
from p_rnn.models.dropout import Dropout
from p_rnn.models.layers import Layers
from p_rnn.models.parts import Parts
from p_rnn.settings.resolve import resolve
from p_rnn.streams import Streams
from tests.composed import composed

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


def array(x: Tensor) -> np.ndarray:
    return x.detach().numpy()


def sigma(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


# --- the equations in NumPy ---------------------------------------------------------------------


def gru_equations(
    a: np.ndarray, h: np.ndarray, u: np.ndarray, c: np.ndarray, reset: str
) -> np.ndarray:
    """h' of one session: a [3H], h [H], U [H, 3H] as h U, c [3H]; gates in the order r, z, n."""
    size = len(h)
    (a_r, a_z, a_n), (c_r, c_z, c_n) = a.reshape(3, size), c.reshape(3, size)
    u_r, u_z, u_n = (u[:, k * size : (k + 1) * size] for k in range(3))
    r = sigma(a_r + h @ u_r + c_r)
    z = sigma(a_z + h @ u_z + c_z)
    acted = r * (h @ u_n + c_n) if reset == "after" else (r * h) @ u_n + c_n
    n = np.tanh(a_n + acted)
    return (1 - z) * n + z * h


def lstm_equations(
    a: np.ndarray, h: np.ndarray, m: np.ndarray, u: np.ndarray, c: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(h', m') of one session: a [4H], h and m [H], U [H, 4H], c [4H]; in the order i, f, g, o."""
    x_i, x_f, x_g, x_o = (a + h @ u + c).reshape(4, len(h))
    m = sigma(x_f) * m + sigma(x_i) * np.tanh(x_g)
    return sigma(x_o) * np.tanh(m), m


def by_equations(cell: Cell, a: np.ndarray, state: list[np.ndarray]) -> list[np.ndarray]:
    """The state after a step, session by session: a [B, gates H], each of the state [B, H]."""
    u, c = array(cell.recurrent), array(cell.bias)
    if isinstance(cell, LSTM):
        pairs = [lstm_equations(a[b], state[0][b], state[1][b], u, c) for b in range(len(a))]
        return [np.stack(x) for x in zip(*pairs, strict=True)]
    assert isinstance(cell, GRU)
    if cell.reset_after:
        a = a + array(cell.input_bias)
    reset = "after" if cell.reset_after else "before"
    return [np.stack([gru_equations(a[b], state[0][b], u, c, reset) for b in range(len(a))])]


# --- one step -----------------------------------------------------------------------------------

KINDS: dict[str, Callable[[Initial], Cell]] = {
    "gru-after": lambda initial: GRU(H, initial, reset="after"),
    "gru-before": lambda initial: GRU(H, initial, reset="before"),
    "lstm": lambda initial: LSTM(H, initial),
}


def cell(kind: str, bias: bool = True) -> Cell:
    made = KINDS[kind](Initial("test", Streams(0), bias=bias))
    randomise(made)
    return made


def state_of(made: Cell, batch: int = B, seed: int = 2) -> tuple[Tensor, ...]:
    return tuple(normal(batch, w, seed=seed + k) for k, w in enumerate(made.state_widths))


def test_every_registered_cell_is_tested() -> None:
    ours = {kind for kind in CELLS.values() if kind.__module__.startswith("p_rnn.")}
    elsewhere = {Attention}  # tests/models/test_attention.py
    assert ours == {type(cell(kind)) for kind in KINDS} | elsewhere


def test_reset_after_is_the_gru_cell_of_torch() -> None:
    """W_ih x plays the part of a; input biases d and hidden biases c."""
    ours, theirs = cell("gru-after"), nn.GRUCell(D, H).double()
    with torch.no_grad():
        theirs.weight_hh.copy_(ours.recurrent.t())
        theirs.bias_hh.copy_(ours.bias)
        theirs.bias_ih.copy_(ours.input_bias)
    x, h = normal(B, D), normal(B, H, seed=2)
    (new,) = ours(x @ theirs.weight_ih.t(), (h,))
    torch.testing.assert_close(new, theirs(x, h), rtol=1e-12, atol=1e-14)


def test_lstm_is_the_lstm_cell_of_torch() -> None:
    """W_ih x plays the part of a; the bias is the sum of its two."""
    ours, theirs = cell("lstm"), nn.LSTMCell(D, H).double()
    randomise(theirs, seed=3)
    with torch.no_grad():
        theirs.weight_hh.copy_(ours.recurrent.t())
        ours.bias.copy_(theirs.bias_ih + theirs.bias_hh)
    x, state = normal(B, D), state_of(ours)
    for _ in range(3):
        new, wanted = ours(x @ theirs.weight_ih.t(), state), theirs(x, state)
        torch.testing.assert_close(new, wanted, rtol=1e-12, atol=1e-14)
        state = tuple(h.detach() for h in new)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_follows_the_equations(kind: str) -> None:
    ours = cell(kind)
    a, state = normal(B, ours.gates * H), state_of(ours)
    wanted = by_equations(ours, a.numpy(), [h.numpy() for h in state])
    found = ours(a, state)
    assert len(found) == len(wanted) == len(ours.state_widths)
    for h, w in zip(found, wanted, strict=True):
        np.testing.assert_allclose(array(h), w, rtol=1e-12)


def test_the_two_resets_differ_unless_the_state_is_zero() -> None:
    """From h = 0 and c = 0 there is nothing for r to act on."""
    after, before, a = cell("gru-after"), cell("gru-before"), normal(B, 3 * H)
    h = normal(B, H, seed=2)
    assert (after(a, (h,))[0] - before(a, (h,))[0]).abs().max() > 1e-3
    with torch.no_grad():
        after.bias.zero_()
        after.input_bias.zero_()
        before.bias.zero_()
    torch.testing.assert_close(after(a, (0 * h,)), before(a, (0 * h,)), rtol=0, atol=1e-15)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cell_begins_with_zeros_like_its_inputs(kind: str) -> None:
    ours = cell(kind)
    state = ours.begin(3, normal(1, 1))
    assert [h.shape for h in state] == [(3, H)] * len(ours.state_widths)
    assert all((h == 0).all() and h.dtype == torch.float64 for h in state)


# --- gradients, and scans of packed sequences ---------------------------------------------------


def by_autograd(made: Cell, a: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A step from the plain equations, for autograd to differentiate."""
    h, u, c = state[0], made.recurrent, made.bias
    if isinstance(made, LSTM):
        i, f, g, o = (a + h @ u + c).split(H, dim=1)
        m = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
        return o.sigmoid() * m.tanh(), m
    assert isinstance(made, GRU)
    if made.reset_after:
        a = a + made.input_bias
    (a_r, a_z, a_n), (u_r, u_z, u_n) = a.split(H, dim=1), u.split(H, dim=1)
    c_r, c_z, c_n = c.split(H)
    r, z = (a_r + h @ u_r + c_r).sigmoid(), (a_z + h @ u_z + c_z).sigmoid()
    acted = r * (h @ u_n + c_n) if made.reset_after else (r * h) @ u_n + c_n
    return ((1 - z) * (a_n + acted).tanh() + z * h,)


def gradients_of(loss: Tensor, made: nn.Module, *inputs: Tensor) -> dict[str, Tensor]:
    """Of the parameters and of the inputs."""
    of = {**dict(made.named_parameters()), **{f"input {k}": x for k, x in enumerate(inputs)}}
    return dict(zip(of, torch.autograd.grad(loss, list(of.values())), strict=True))


def assert_equal_gradients(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert (gradient != 0).any(), name
        torch.testing.assert_close(found[name], gradient, rtol=1e-10, atol=1e-12, msg=name)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_a_step_are_those_of_its_equations(kind: str, bias: bool) -> None:
    ours = cell(kind, bias)
    a, state = normal(B, ours.gates * H).requires_grad_(), state_of(ours)
    state = tuple(h.requires_grad_() for h in state)
    weights = state_of(ours, seed=8)

    def loss(new: tuple[Tensor, ...]) -> Tensor:
        return sum((h * w).sum() for h, w in zip(new, weights, strict=True))  # type: ignore[return-value]

    found = gradients_of(loss(ours(a, state)), ours, a, *state)
    assert_equal_gradients(found, gradients_of(loss(by_autograd(ours, a, state)), ours, a, *state))


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_has_a_gradient(kind: str) -> None:
    ours = cell(kind)
    ours(normal(B, ours.gates * H), state_of(ours))[0].sum().backward()
    assert len(list(ours.parameters())) == (3 if kind == "gru-after" else 2)
    for name, p in ours.named_parameters():
        assert p.grad is not None, name
        assert (p.grad != 0).any(), name


WIDTHS = [4, 3, 3, 1, 1]  # sequences of 5, 3, 3 and 1 items
PLACES = sum(WIDTHS)


def dropout_mask(p: float = 0.4) -> Tensor:
    keep = np.random.default_rng(7).random((PLACES, H)) >= p
    return torch.from_numpy(keep / (1 - p))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_scan_is_the_steps_of_each_sequence(kind: str, masked: bool, bias: bool) -> None:
    """Each sequence on its own, by the equations; gradients are autograd's through its steps."""
    ours, mask = cell(kind, bias), dropout_mask() if masked else None
    a = normal(PLACES, ours.gates * H).requires_grad_()
    starts = np.cumsum([0, *WIDTHS])
    steps: dict[int, Tensor] = {}
    for k in range(WIDTHS[0]):
        state = tuple(torch.zeros(1, H).double() for _ in ours.state_widths)
        numbers = [h.numpy() for h in state]
        for t in range(sum(width > k for width in WIDTHS)):
            place = int(starts[t]) + k
            at = slice(place, place + 1)
            state = by_autograd(ours, a[at], state)
            numbers = by_equations(ours, array(a[at]), numbers)
            if mask is not None:  # the dropped output is the state
                state = (state[0] * mask[at], *state[1:])
                numbers[0] = numbers[0] * mask[at].numpy()
            np.testing.assert_allclose(array(state[0]), numbers[0], rtol=1e-11, atol=1e-14)
            steps[place] = state[0]
    wanted = torch.cat([steps[place] for place in range(PLACES)])
    found = ours.scan(a, WIDTHS, mask)
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-14)
    weight = normal(PLACES, H, seed=9)
    own = gradients_of((found * weight).sum(), ours, a)
    assert_equal_gradients(own, gradients_of((wanted * weight).sum(), ours, a))


@pytest.mark.parametrize("kind", KINDS)
def test_a_scan_of_one_step(kind: str) -> None:
    ours = cell(kind)
    a = normal(B, ours.gates * H)
    wanted = ours(a, ours.begin(B, a))[0]
    torch.testing.assert_close(ours.scan(a, [B], None), wanted, rtol=1e-12, atol=1e-14)


# --- the mean in the place of a cell ------------------------------------------------------------


def test_steps_and_scan_of_the_mean_are_running_means() -> None:
    rng = np.random.default_rng(0)
    lengths = [4, 3, 3, 1]
    items = [rng.standard_normal((n, 5)) for n in lengths]
    wanted = [np.cumsum(x, axis=0) / np.arange(1, len(x) + 1)[:, None] for x in items]
    widths = [sum(n > t for n in lengths) for t in range(4)]
    packed = np.concatenate([[items[k][t] for k in range(w)] for t, w in enumerate(widths)])
    mean = Mean(5)
    found = mean.scan(torch.from_numpy(packed), widths, None).numpy()
    at = 0
    for t, width in enumerate(widths):
        for k in range(width):
            np.testing.assert_allclose(found[at], wanted[k][t], rtol=1e-12)
            at += 1
    state = mean.begin(1, torch.zeros(1, dtype=torch.float64))
    for t in range(4):
        now, count = state = mean(torch.from_numpy(items[0][t : t + 1]), state)
        assert count.tolist() == [[t + 1.0]]
        np.testing.assert_allclose(now[0], wanted[0][t], rtol=1e-12)


def test_gradients_of_the_mean() -> None:
    a = normal(6, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: Mean(3).scan(x, [3, 2, 1], None), a)


# --- layers -------------------------------------------------------------------------------------

OVERRIDES = {
    "gru-after": ("cell.reset=after",),
    "gru-before": ("cell=gru", "cell.reset=before"),
    "lstm": ("cell=lstm",),
    "attention": ("cell=attention",),
}


def layers(
    num_layers: int,
    kind: str = "gru-after",
    dropout: float = 0.0,
    name: str = "test",
    streams: Streams | None = None,
) -> Layers:
    """As a network has them, but in float64 and random."""
    config = resolve(
        composed(
            "dataset=table",
            "dataset.path=none",
            "dataset.test_days=1",
            "device=cpu",
            f"hidden_size={H}",
            f"num_layers={num_layers}",
            f"dropout_hidden={dropout}",
            *OVERRIDES[kind],
        )
    )
    made = Parts(config, 1, streams or Streams(0), {}).layers(name, H)
    randomise(made)
    return made


def states(made: Layers, seed: int = 5) -> tuple[Tensor, ...]:
    return tuple(normal(B, w, seed=seed + k) for k, w in enumerate(made.state_widths))


def numpy_layers(made: Layers, a: np.ndarray, state: list[np.ndarray]) -> list[np.ndarray]:
    """One step of all layers; layer k > 0 reads W_k times the new output of the one below."""
    new: list[np.ndarray] = []
    parts = len(state) // len(made.cells)
    for k, one in enumerate(made.cells):
        if k > 0:
            a = new[-parts] @ array(made.inputs[k - 1])
        new += by_equations(one, a, state[k * parts : (k + 1) * parts])
    return new


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_layers_over_time(num_layers: int, kind: str) -> None:
    made, steps = layers(num_layers, kind), 6
    gates, parts = made.cells[0].gates, 2 if kind == "lstm" else 1
    a, state = normal(steps, B, gates * H), states(made)
    wanted = [h.numpy() for h in state]
    for t in range(steps):
        state = made(a[t], state)
        wanted = numpy_layers(made, a[t].numpy(), wanted)
        assert len(state) == num_layers * parts
        for h, w in zip(state, wanted, strict=True):
            np.testing.assert_allclose(array(h), w, rtol=1e-11, atol=1e-14)
    assert made.top == (num_layers - 1) * parts


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_of_every_layer_has_a_gradient(kind: str) -> None:
    made = layers(3, kind)
    new = made(normal(B, made.cells[0].gates * H), states(made))
    new[made.top].sum().backward()
    assert len(list(made.parameters())) == 3 * (3 if kind == "gru-after" else 2) + 2
    for name, p in made.named_parameters():
        assert p.grad is not None, name
        assert (p.grad != 0).any(), name


@pytest.mark.parametrize("kind", KINDS)
def test_a_scan_of_layers_has_a_mask_for_each(kind: str) -> None:
    made = layers(2, kind, dropout=0.4)
    below, above = made.cells
    a = normal(PLACES, below.gates * H)
    before = [dropout.generator.get_state() for dropout in made.dropouts]
    masks = [dropout.mask(PLACES, H, like=a) for dropout in made.dropouts]
    for dropout, numbers in zip(made.dropouts, before, strict=True):
        dropout.generator.set_state(numbers)
    middle = below.scan(a, WIDTHS, masks[0])
    wanted = above.scan(middle @ made.inputs[0], WIDTHS, masks[1])
    assert 0 < (wanted == 0).sum() < wanted.numel()
    assert torch.equal(made.scan(a, WIDTHS), wanted)


# --- dropout ------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_dropout_zeroes_or_scales(p: float) -> None:
    """Entries become 0 with probability p, else x / (1 - p); p in steps of 2^-16."""
    dropout, x = Dropout(p, torch.Generator().manual_seed(3)), normal(200, 300)
    y = dropout(x)
    dropped, rounded = y == 0, round(p * 2**16) / 2**16
    torch.testing.assert_close(y[~dropped], x[~dropped] / (1 - rounded), rtol=1e-12, atol=0)
    five_sigma = 5 * (p * (1 - p) / x.numel()) ** 0.5
    assert dropped.double().mean().item() == pytest.approx(p, abs=five_sigma)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_entries_of_one_random_word_are_dropped_independently(p: float) -> None:
    """Four entries share 64 random bits: each has the rate p, and each two of them p^2."""
    dropout, count = Dropout(p, torch.Generator().manual_seed(3)), 100_000
    mask = dropout.mask(count, 4, like=torch.zeros(()))
    assert mask is not None
    dropped = (mask == 0).double()
    both = (dropped.t() @ dropped / count).numpy()
    wanted = np.where(np.eye(4) > 0, p, p**2)
    np.testing.assert_array_less(np.abs(both - wanted), 5 * np.sqrt(wanted / count))


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (2, 5), (8,)])
def test_masks_of_any_shape(shape: tuple[int, ...]) -> None:
    """Also where the last random word is not used up."""
    mask = Dropout(0.5, torch.Generator().manual_seed(3)).mask(*shape, like=torch.zeros(()))
    assert mask is not None
    assert mask.shape == shape
    assert mask.dtype == torch.float32
    assert set(mask.flatten().tolist()) <= {0.0, 2.0}


def test_dropout_does_nothing_in_evaluation_or_at_zero() -> None:
    generator, x = torch.Generator().manual_seed(3), normal(20, 30)
    before = generator.get_state()
    assert torch.equal(Dropout(0.5, generator).eval()(x), x)
    assert torch.equal(Dropout(0.0, generator)(x), x)
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("kind", KINDS)
def test_the_dropped_output_is_the_carried_state_and_the_next_layers_input(kind: str) -> None:
    p = 26214 / 2**16
    made = layers(2, kind, dropout=p)
    a, state = normal(B, made.cells[0].gates * H), states(made)
    new, old = [array(h) for h in made(a, state)], [h.numpy() for h in state]
    parts = len(new) // 2
    for k, one in enumerate(made.cells):
        # The second layer reads the dropped output of the first, and its own is dropped too.
        read = a.numpy() if k == 0 else new[0] @ array(made.inputs[0])
        at = slice(k * parts, (k + 1) * parts)
        full, *others = by_equations(one, read, old[at])
        output, *rest = new[at]
        kept = output != 0
        assert 0 < kept.sum() < kept.size
        np.testing.assert_allclose(output[kept], full[kept] / (1 - p), rtol=1e-12)
        for ours, wanted in zip(rest, others, strict=True):  # what is no output is not dropped
            np.testing.assert_allclose(ours, wanted, rtol=1e-12)


def test_evaluation_is_the_network_without_dropout() -> None:
    with_dropout, without = layers(2, dropout=0.5).eval(), layers(2)
    a, state = normal(B, 3 * H), states(without)
    for x, y in zip(with_dropout(a, state), without(a, state), strict=True):
        assert torch.equal(x, y)


def zeros_of(made: Layers, layer: int) -> Tensor:
    """Where the outputs of two steps in a row are dropped, [2, B, H]."""
    a, state = normal(B, 3 * H), states(made)
    return torch.stack([made(a, state)[layer] == 0 for _ in range(2)])


def test_dropout_draws_from_its_own_stream() -> None:
    """The same seed gives the same masks, whatever else draws; another seed gives others."""
    mask = zeros_of(layers(1, dropout=0.5), 0)
    assert torch.equal(mask, zeros_of(layers(1, dropout=0.5), 0))
    assert not torch.equal(mask, zeros_of(layers(1, dropout=0.5, streams=Streams(1)), 0))
    assert not torch.equal(mask[0], mask[1])
    assert torch.equal(mask, zeros_of(layers(2, dropout=0.5), 0))
    assert not torch.equal(mask, zeros_of(layers(2, dropout=0.5), 1))

    streams = Streams(0)
    another = layers(2, dropout=0.5, name="another", streams=streams)
    assert not torch.equal(mask, zeros_of(another, 0))
    made = layers(1, dropout=0.5, streams=streams)
    streams.running("negatives").seed()
    torch.rand(100)
    assert torch.equal(mask, zeros_of(made, 0))


def test_epochs_have_their_own_masks_which_return_when_an_epoch_does() -> None:
    streams = Streams(4)
    made = layers(1, dropout=0.5, streams=streams)
    masks = []
    for epoch in (0, 1, 0, 1):
        streams.start_epoch(epoch)
        masks.append(zeros_of(made, 0))
    assert torch.equal(masks[0], masks[2])
    assert torch.equal(masks[1], masks[3])
    assert not torch.equal(masks[0], masks[1])
