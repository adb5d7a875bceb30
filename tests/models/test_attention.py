"""The attention cell against PyTorch's transformer layer and its equations in NumPy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from p_rnn.models.cells import Initial
from p_rnn.models.cells.attention import Attention, of_similar_length
from p_rnn.settings.errors import UserError
from p_rnn.streams import Streams
from tests.models.test_cells import array, layers, normal, randomise, sigma

H, HEADS, SPAN = 6, 2, 4
WIDTHS = [3, 3, 3, 2, 2, 1]  # sessions of 6, 5 and 3 items: longer than the span
PLACES = sum(WIDTHS)


def block(gated: bool = False, span: int = SPAN, dropout: float = 0.0) -> Attention:
    initial = Initial("test", Streams(0))
    made = Attention(H, initial, heads=HEADS, span=span, dropout=dropout, gated=gated)
    randomise(made)
    return made


def sequences(packed: np.ndarray, widths: Sequence[int] = WIDTHS) -> list[np.ndarray]:
    """The rows of each session, in order, from packed positions."""
    found: list[list[np.ndarray]] = [[] for _ in range(widths[0])]
    at = 0
    for width in widths:
        for k in range(width):
            found[k].append(packed[at])
            at += 1
    return [np.stack(each) for each in found]


def norm(x: np.ndarray, of: nn.LayerNorm) -> np.ndarray:
    centred = x - x.mean()
    return centred / np.sqrt((x**2).mean() - x.mean() ** 2 + 1e-5) * array(of.weight) + array(
        of.bias
    )


def gelu(x: np.ndarray) -> np.ndarray:
    return x * np.array([0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x])


def equations(made: Attention, a: np.ndarray) -> np.ndarray:
    """Outputs [T, H] of one session a [T, H], position by position and head by head."""
    first, second, third = made.norms
    size = H // HEADS
    read = np.stack([norm(x, first) for x in a]) @ array(made.read)
    q, k, v = read[:, :H], read[:, H : 2 * H], read[:, 2 * H :]
    outputs = []
    for t in range(len(a)):
        heard = np.zeros(H)
        for head in range(HEADS):
            own = slice(head * size, (head + 1) * size)
            back = range(min(t + 1, made.span))
            e = [
                np.exp(q[t, own] @ k[t - d, own] / math.sqrt(size) + array(made.distance)[head, d])
                for d in back
            ]
            heard[own] = sum(w * v[t - d, own] for w, d in zip(e, back, strict=True)) / sum(e)
        change = heard @ array(made.out)
        if made.gated:
            change *= sigma(norm(a[t], first) @ array(made.gate)[:, :H])
        x = a[t] + change
        inner = norm(x, second) @ array(made.first) + array(made.first_bias)
        if made.gated:
            gate, inner = np.split(inner, 2)
            inner = gate * sigma(gate) * inner
        else:
            inner = gelu(inner)
        change = inner @ array(made.second) + array(made.second_bias)
        if made.gated:
            change *= sigma(norm(x, second) @ array(made.gate)[:, H:])
        outputs.append(norm(x + change, third))
    return np.stack(outputs)


@pytest.mark.parametrize("gated", [False, True])
def test_it_follows_the_equations(gated: bool) -> None:
    made, a = block(gated), normal(PLACES, H)
    found = sequences(array(made.scan(a, WIDTHS, None)))
    for ours, given in zip(found, sequences(a.numpy()), strict=True):
        np.testing.assert_allclose(ours, equations(made, given), rtol=1e-9)


def test_sessions_of_very_different_length() -> None:
    """They are padded in groups of similar length."""
    lengths = [35, 18, 17, 16, 9, 8, 8, 1]
    widths = [sum(length > step for length in lengths) for step in range(35)]
    groups = [(5, 8, 8), (3, 5, 16), (1, 3, 32), (0, 1, 35)]
    assert list(of_similar_length(widths)) == groups
    made, a = block(), normal(sum(widths), H)
    found = sequences(array(made.scan(a, widths, None)), widths)
    for ours, given in zip(found, sequences(a.numpy(), widths), strict=True):
        np.testing.assert_allclose(ours, equations(made, given), rtol=1e-9)


@pytest.mark.parametrize("gated", [False, True])
def test_one_item_at_a_time_is_the_whole_session(gated: bool) -> None:
    """Also when the session is longer than the span."""
    made, a = block(gated), normal(9, 2, H)
    wanted = made.scan(a.reshape(-1, H), [2] * 9, None).view(9, 2, H)
    state = made.begin(2, a[0])
    for t in range(9):
        state = made(a[t], state)
        torch.testing.assert_close(state[0], wanted[t], rtol=1e-9, atol=1e-12)
    assert state[3].tolist() == [[SPAN], [SPAN]]


def test_it_is_the_transformer_layer_of_torch() -> None:
    """Norms first, no positions, and a norm after the block."""
    made, a = block(span=9), normal(5, 3, H)
    theirs = nn.TransformerEncoderLayer(
        H, HEADS, 4 * H, dropout=0, activation="gelu", batch_first=True, norm_first=True
    ).double()
    with torch.no_grad():
        made.distance.zero_()
        theirs.self_attn.in_proj_weight.copy_(made.read.t())
        theirs.self_attn.in_proj_bias.zero_()
        theirs.self_attn.out_proj.weight.copy_(made.out.t())
        theirs.self_attn.out_proj.bias.zero_()
        theirs.linear1.weight.copy_(made.first.t())
        theirs.linear1.bias.copy_(made.first_bias)
        theirs.linear2.weight.copy_(made.second.t())
        theirs.linear2.bias.copy_(made.second_bias)
        theirs.norm1.load_state_dict(made.norms[0].state_dict())
        theirs.norm2.load_state_dict(made.norms[1].state_dict())
    causal = nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64)
    wanted = made.norms[2](theirs(a.transpose(0, 1), src_mask=causal)).transpose(0, 1)
    found = made.scan(a.reshape(-1, H), [3] * 5, None).view(5, 3, H)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("gated", [False, True])
def test_gradients(gated: bool) -> None:
    made, a = block(gated), normal(PLACES, H).requires_grad_()
    mask = (normal(PLACES, H, seed=7) > 0).double()

    def outputs(a: Tensor, *_: Tensor) -> Tensor:
        return made.scan(a, WIDTHS, mask)

    assert torch.autograd.gradcheck(outputs, (a, *made.parameters()))


def test_dropout_inside() -> None:
    """In training only; drawn from its own streams."""
    made, a = block(dropout=0.5), normal(PLACES, H)
    once, again = made.scan(a, WIDTHS, None), made.scan(a, WIDTHS, None)
    assert not torch.equal(once, again)
    made.eval()
    wanted = block().scan(a, WIDTHS, None)
    assert torch.equal(made.scan(a, WIDTHS, None), wanted)


def test_stacked_blocks_have_no_matrix_in_between() -> None:
    made = layers(2, "attention")
    below, above = made.cells
    a = normal(PLACES, below.hidden_size)
    assert len(made.inputs) == 0
    wanted = above.scan(below.scan(a, WIDTHS, None), WIDTHS, None)
    assert torch.equal(made.scan(a, WIDTHS), wanted)
    state = made(a[:3], tuple(a.new_zeros(3, width) for width in made.state_widths))
    torch.testing.assert_close(state[made.top], wanted[:3], rtol=1e-9, atol=1e-12)


def test_heads_that_do_not_divide_the_hidden_size() -> None:
    with pytest.raises(UserError, match=r"cell.heads=4 must divide hidden_size=6"):
        Attention(H, Initial("test", Streams(0)), heads=4)
