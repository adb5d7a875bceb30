"""The gated recurrent unit, step by step, in both conventions for the reset gate."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from p_rnn.models.dropout import Dropout
from p_rnn.models.table import Init, uniform_
from p_rnn.random import Streams


class GRULayer(nn.Module):
    """One step of one layer, given its gate inputs a = (a_r, a_z, a_n).

    r = s(a_r + U_r h + c_r),  z = s(a_z + U_z h + c_z),  h' = (1 - z) * n + z * h, and
    reset=after:   n = tanh(a_n + r * (U_n h + c_n)), where a holds a second bias d, as in
                   torch.nn.GRUCell. For r and z that doubles the step that Adagrad takes, and n
                   needs it, because r acts on c_n;
    reset=before:  n = tanh(a_n + U_n (r * h) + c_n), as the Theano original.
    """

    def __init__(
        self,
        hidden_size: int,
        reset: str,
        name: str,
        streams: Streams,
        init: Init = uniform_,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.reset_after = reset == "after"
        self.recurrent = nn.Parameter(torch.empty(hidden_size, 3 * hidden_size))  # U, as h U
        self.bias = _bias(3 * hidden_size, bias)  # c
        if self.reset_after:
            self.input_bias = _bias(3 * hidden_size, bias)  # d
        init(self.recurrent, streams.initial(f"{name}/recurrent"), gates=3)

    def forward(self, a: Tensor, h: Tensor) -> Tensor:
        """a [B, 3H], h [B, H] -> h' [B, H]."""
        if self.reset_after:
            new: Tensor = _ResetAfter.apply(a, h, self.recurrent, self.input_bias, self.bias)  # type: ignore[no-untyped-call]
            return new
        return self._reset_before(a, h)

    def scan(self, a: Tensor, mask: Tensor | None, widths: Sequence[int]) -> Tensor:
        """`GRU.scan` of this layer, with reset=after; mask [P, H] multiplies its outputs."""
        outputs: Tensor = _Scan.apply(  # type: ignore[no-untyped-call]
            a, self.recurrent, self.input_bias, self.bias, mask, widths
        )
        return outputs

    def _reset_before(self, a: Tensor, h: Tensor) -> Tensor:
        size = h.shape[1]
        u = torch.addmm(self.bias[: 2 * size], h, self.recurrent[:, : 2 * size])
        r, z = torch.sigmoid(a[:, : 2 * size] + u).chunk(2, dim=1)
        u = torch.addmm(self.bias[2 * size :], r * h, self.recurrent[:, 2 * size :])
        n = torch.tanh(a[:, 2 * size :] + u)
        return torch.lerp(n, h, z)


def _bias(size: int, learned: bool) -> nn.Parameter | nn.Buffer:
    """Zeros: a parameter, or for a layer without biases a constant that no checkpoint holds."""
    zeros = torch.zeros(size)
    return nn.Parameter(zeros) if learned else nn.Buffer(zeros, persistent=False)


class _ResetAfter(torch.autograd.Function):
    """A step with reset=after, its gradient by hand: a third of autograd's small operations.

    The gradient with respect to h is not made where h, as in training, is cut off from the graph.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, h: Tensor, recurrent: Tensor, d: Tensor, c: Tensor) -> Tensor:
        # Nothing is written into a part of a tensor: compiled, that would be copies of the whole.
        size = h.shape[1]
        u, gates = torch.addmm(c, h, recurrent), a + d
        both = torch.sigmoid(gates[:, : 2 * size] + u[:, : 2 * size])
        r, z = both.chunk(2, dim=1)
        u_n = u[:, 2 * size :]
        n = torch.addcmul(gates[:, 2 * size :], r, u_n).tanh_()
        ctx.save_for_backward(h, recurrent, both, n, u_n)
        return torch.lerp(n, h, z)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh: Tensor) -> tuple[Tensor | None, ...]:
        h, recurrent, both, n, u_n = ctx.saved_tensors
        r, z = both.chunk(2, dim=1)
        of_r, of_z = (both - both.square()).chunk(2, dim=1)
        dn = dh * (1 - z) * (1 - n.square())
        dz = dh * (h - n) * of_z
        dr = dn * u_n * of_r
        da = torch.cat([dr, dz, dn], dim=1)
        du = torch.cat([dr, dz, dn * r], dim=1)  # r acts on U_n h + c_n
        back = torch.addcmul(du @ recurrent.t(), dh, z) if ctx.needs_input_grad[1] else None
        biased = ctx.needs_input_grad[3]
        dd, dc = (da.sum(dim=0), du.sum(dim=0)) if biased else (None, None)
        return da, back, h.t() @ du, dd, dc


class _Scan(torch.autograd.Function):
    """All steps of packed sequences with reset=after, by back-propagation through time.

    What a step computes stays in the cache until it has been used; dU comes at the end, of all
    places at once.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, recurrent: Tensor, d: Tensor, c: Tensor, mask: Tensor | None,
                widths: Sequence[int]) -> Tensor:  # fmt: skip
        size = recurrent.shape[0]
        gates = torch.empty_like(a)
        u_n, before, out = (a.new_empty(len(a), size) for _ in range(3))
        before[: widths[0]] = 0
        bias = torch.cat([c[: 2 * size] + d[: 2 * size], c[2 * size :]])
        for at, following in _steps(widths):
            h, own, g = before[at], a[at], gates[at]
            u = torch.addmm(bias, h, recurrent)
            both = torch.add(own[:, : 2 * size], u[:, : 2 * size], out=g[:, : 2 * size])
            r, z = both.sigmoid_().chunk(2, dim=1)
            u_n[at] = u[:, 2 * size :]
            n = torch.add(own[:, 2 * size :], d[2 * size :], out=g[:, 2 * size :])
            n.addcmul_(r, u_n[at]).tanh_()
            new = torch.lerp(n, h, z, out=out[at])
            if mask is not None:
                new.mul_(mask[at])
            before[following] = new[: following.stop - following.start]
        ctx.save_for_backward(recurrent, gates, u_n, before, mask)
        ctx.widths = widths
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        recurrent, gates, u_n, before, mask = ctx.saved_tensors
        size = recurrent.shape[0]
        da = torch.empty_like(gates)
        acted = torch.empty_like(before)  # r dn, which is what h U_n gets
        of_both, of_n = recurrent[:, : 2 * size].t(), recurrent[:, 2 * size :].t()
        later: Tensor | None = None  # dh of the sessions that go on
        for at, following in reversed(_steps(ctx.widths)):
            dh, (r, z, n), h = dout[at], gates[at].chunk(3, dim=1), before[at]
            if following.stop > following.start:
                assert later is not None
                dh = dh.clone()
                dh[: len(later)].add_(later)
            if mask is not None:
                dh = dh * mask[at]
            own = da[at]
            dn = torch.mul(dh, 1 - z, out=own[:, 2 * size :]).mul_(1 - n.square())
            dz = torch.sub(h, n, out=own[:, size : 2 * size]).mul_(dh)
            dr = torch.mul(dn, u_n[at], out=own[:, :size])
            dz.mul_(z - z.square())
            dr.mul_(r - r.square())
            torch.mul(dn, r, out=acted[at])
            if at.start > 0:
                later = torch.addmm(dh * z, own[:, : 2 * size], of_both).addmm_(acted[at], of_n)
        dc = dd = None
        if ctx.needs_input_grad[2]:
            dd = da.sum(dim=0)
            dc = torch.cat([dd[: 2 * size], acted.sum(dim=0)])
        past = before.t()
        du = torch.cat([past @ da[:, : 2 * size], past @ acted], dim=1)
        return da, du, dd, dc, None, None


def _steps(widths: Sequence[int]) -> list[tuple[slice, slice]]:
    """Where each step stands, and the step after it; an empty one at the end."""
    ends = list(accumulate(widths))
    places = [slice(end - width, end) for end, width in zip(ends, widths, strict=True)]
    return list(zip(places, [*places[1:], slice(ends[-1], ends[-1])], strict=True))


class GRU(nn.Module):
    """L layers; the dropped-out output of each is both the next one's input and the state (P)."""

    def __init__(
        self,
        hidden_size: int,
        num_layers: int,
        reset: str,
        dropout: float,
        name: str,
        streams: Streams,
        init: Init = uniform_,
        bias: bool = True,
    ) -> None:
        super().__init__()
        names = [f"{name}/gru{k}" for k in range(num_layers)]
        self.hidden_size = hidden_size
        self.layers = nn.ModuleList(
            GRULayer(hidden_size, reset, n, streams, init, bias) for n in names
        )
        self.dropouts = nn.ModuleList(
            Dropout(dropout, hidden_size, streams.running(f"{n}/dropout_hidden")) for n in names
        )
        self.inputs = nn.ParameterList(  # W of the layers above the first, [H, 3H]
            init(torch.empty(hidden_size, 3 * hidden_size), streams.initial(f"{n}/input"), 3)
            for n in names[1:]
        )

    def forward(self, a: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """a [B, 3H] and L states [B, H] -> the L states after this step."""
        new: list[Tensor] = []
        for k, (layer, dropout) in enumerate(zip(self.layers, self.dropouts, strict=True)):
            if k > 0:
                a = new[-1] @ self.inputs[k - 1]
            new.append(dropout(layer(a, state[k])))
        return tuple(new)

    def scan(self, a: Tensor, widths: Sequence[int]) -> Tensor:
        """The top layer's outputs [P, H] at all P places of sequences that start from zero.

        Args:
            a: [P, 3H], the gate inputs of step 0 of all sequences, then those of step 1, and so on.
            widths: sequences that have a step t; the longest come first, so these are the leading.
        """
        outputs = a
        for k, (layer, dropout) in enumerate(zip(self.layers, self.dropouts, strict=True)):
            if k > 0:
                a = outputs @ self.inputs[k - 1]
            assert isinstance(layer, GRULayer)
            assert isinstance(dropout, Dropout)
            if layer.reset_after:
                outputs = layer.scan(a, dropout.mask(a, self.hidden_size), widths)
                continue
            h = a.new_zeros(widths[0], self.hidden_size)
            steps: list[Tensor] = []
            for now in torch.split(a, list(widths)):
                h = dropout(layer(now, h[: len(now)]))
                steps.append(h)
            outputs = torch.cat(steps)
        return outputs
