"""The gated recurrent unit, in both conventions for the reset gate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from p_rnn.models.cells.base import Cell, Initial, State, places
from p_rnn.settings.declare import about

Reset = Annotated[
    str,
    about("the reset gate multiplies h (before) or U_n h (after)", options=("after", "before")),
]


class GRU(Cell):
    """One step of one layer, given its gate inputs a = (a_r, a_z, a_n).

    r = s(a_r + U_r h + c_r),  z = s(a_z + U_z h + c_z),  h' = (1 - z) * n + z * h, and
    reset=after:   n = tanh(a_n + r * (U_n h + c_n)), where a includes a second bias d, as in
                   torch.nn.GRUCell. For r and z it doubles Adagrad's step; n needs it, because
                   r multiplies c_n;
    reset=before:  n = tanh(a_n + U_n (r * h) + c_n), as the Theano original.
    """

    gates: ClassVar[int] = 3

    def __init__(self, hidden_size: int, initial: Initial, *, reset: Reset = "after") -> None:
        super().__init__(hidden_size)
        self.reset_after = reset == "after"
        self.recurrent = initial.matrix(hidden_size, 3 * hidden_size, "recurrent", gates=3)  # U
        self.bias = initial.zeros(3 * hidden_size)  # c
        if self.reset_after:
            self.input_bias = initial.zeros(3 * hidden_size)  # d

    def forward(self, a: Tensor, state: State) -> State:
        """a [B, 3H], h [B, H] -> h' [B, H]."""
        (h,) = state
        if self.reset_after:
            new: Tensor = _ResetAfter.apply(a, h, self.recurrent, self.input_bias, self.bias)  # type: ignore[no-untyped-call]
            return (new,)
        size = self.hidden_size
        u = torch.addmm(self.bias[: 2 * size], h, self.recurrent[:, : 2 * size])
        r, z = torch.sigmoid(a[:, : 2 * size] + u).chunk(2, dim=1)
        u = torch.addmm(self.bias[2 * size :], r * h, self.recurrent[:, 2 * size :])
        n = torch.tanh(a[:, 2 * size :] + u)
        return (torch.lerp(n, h, z),)

    def scan(self, a: Tensor, widths: Sequence[int], mask: Tensor | None) -> Tensor:
        """As `Cell.scan`; with reset=after all steps are one autograd function."""
        if not self.reset_after:
            return super().scan(a, widths, mask)
        outputs: Tensor = _ResetAfterScan.apply(  # type: ignore[no-untyped-call]
            a, self.recurrent, self.input_bias, self.bias, mask, widths
        )
        return outputs


class _ResetAfter(torch.autograd.Function):
    """One step with reset=after, with a hand-written gradient of a third of autograd's operations.

    The gradient with respect to h is skipped where h is detached, as in training.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, h: Tensor, recurrent: Tensor, d: Tensor, c: Tensor) -> Tensor:
        # No writes into slices: torch.compile would turn each into a copy of the whole tensor.
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
        du = torch.cat([dr, dz, dn * r], dim=1)  # r multiplies U_n h + c_n
        back = torch.addcmul(du @ recurrent.t(), dh, z) if ctx.needs_input_grad[1] else None
        biased = ctx.needs_input_grad[3]
        dd, dc = (da.sum(dim=0), du.sum(dim=0)) if biased else (None, None)
        return da, back, h.t() @ du, dd, dc


class _ResetAfterScan(torch.autograd.Function):
    """All steps of packed sequences with reset=after, with back-propagation through time.

    Each step works on data that is still in the cache; dU is one product over all positions at the
    end.
    """

    @staticmethod
    def forward(
        ctx: Any,
        a: Tensor,
        recurrent: Tensor,
        d: Tensor,
        c: Tensor,
        mask: Tensor | None,
        widths: Sequence[int],
    ) -> Tensor:
        size = recurrent.shape[0]
        gates = torch.empty_like(a)
        u_n, before, out = (a.new_empty(len(a), size) for _ in range(3))
        before[: widths[0]] = 0
        bias = torch.cat([c[: 2 * size] + d[: 2 * size], c[2 * size :]])
        for at, following in places(widths):
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
        acted = torch.empty_like(before)  # r dn, the gradient of h U_n
        of_both, of_n = recurrent[:, : 2 * size].t(), recurrent[:, 2 * size :].t()
        later: Tensor | None = None  # dh of the sequences that have a next step
        for at, following in reversed(places(ctx.widths)):
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
