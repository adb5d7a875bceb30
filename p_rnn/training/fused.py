"""Two losses as compiled C++ (native.cpp): two passes over the scores [B, C] and no copy of them.

PyTorch's operations take four to ten passes, most of them with a new matrix. The equations are
those of p_rnn/training/losses.py, which runs where there is no C++ compiler, on other devices, and
in double precision.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from p_rnn import native

KEPT = {"cross_entropy": 2, "bpr_max": 5}  # numbers of a row that the backward pass needs again


def takes(scores: Tensor, bias: Tensor | None) -> bool:
    """Whether the compiled losses can be used."""
    return native.serves(scores) and (bias is None or bias.dim() == 1)


def cross_entropy(
    scores: Tensor, target: Tensor, log_q: Tensor | None, bias: Tensor | None, *, logq: float
) -> Tensor:
    """`losses.cross_entropy` of scores + bias."""
    offset = bias
    if logq and log_q is not None:
        offset = -logq * log_q if bias is None else bias - logq * log_q
    return _loss(scores, offset, target, "cross_entropy", ())


def bpr_max(
    scores: Tensor,
    target: Tensor,
    log_q: Tensor | None,
    bias: Tensor | None,
    *,
    elu_param: float,
    bpreg: float,
) -> Tensor:
    """`losses.bpr_max` of scores + bias."""
    return _loss(scores, bias, target, "bpr_max", (elu_param, bpreg))


FUSED: dict[str, Callable[..., Tensor]] = {"cross_entropy": cross_entropy, "bpr_max": bpr_max}


def _loss(
    scores: Tensor, offset: Tensor | None, target: Tensor, name: str, parameters: tuple[float, ...]
) -> Tensor:
    losses: Tensor = _Fused.apply(scores, offset, target, name, parameters)  # type: ignore[no-untyped-call]
    return losses


class _Fused(torch.autograd.Function):
    """Losses [B] of scores [B, C], which the backward pass turns into their gradient in place.

    Nothing else may need the scores afterwards: they are a product whose own gradient does not.
    """

    @staticmethod
    def forward(
        ctx: Any,
        scores: Tensor,
        offset: Tensor | None,
        target: Tensor,
        name: str,
        parameters: tuple[float, ...],
    ) -> Tensor:
        losses: Tensor
        losses, kept = torch.ops.p_rnn.loss(name, scores, offset, target, parameters)
        ctx.save_for_backward(scores, offset, target, kept)
        ctx.name, ctx.parameters = name, parameters
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        scores, offset, target, kept = ctx.saved_tensors
        sums = torch.ops.p_rnn.loss_gradient_(
            ctx.name, scores, offset, target, kept, gradient.contiguous(), ctx.parameters
        )
        return scores, sums if offset is not None else None, None, None, None


def _forward(
    name: str, x: Tensor, offset: Tensor | None, target: Tensor, parameters: list[float]
) -> tuple[Tensor, Tensor]:
    losses, kept = _empty(name, x, offset, target, parameters)
    _call(f"{name}_forward", (x, offset, target, losses, kept), x, parameters)
    return losses, kept


def _empty(name: str, x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return x.new_empty(len(x)), x.new_empty(len(x), KEPT[name])


def _backward(
    name: str,
    x: Tensor,
    offset: Tensor | None,
    target: Tensor,
    kept: Tensor,
    gradient: Tensor,
    parameters: list[float],
) -> Tensor:
    sums = _sums(name, x, offset)
    wanted = sums if offset is not None else None
    _call(f"{name}_backward", (x, offset, target, kept, gradient, wanted), x, parameters)
    return sums


def _sums(name: str, x: Tensor, offset: Tensor | None, *rest: Any) -> Tensor:
    return x.new_empty(0 if offset is None else x.shape[1])


def _call(
    function: str, tensors: tuple[Tensor | None, ...], x: Tensor, parameters: list[float]
) -> None:
    loaded = native.library()
    assert loaded is not None
    assert all(t is None or t.is_contiguous() for t in tensors)
    pointers = [None if t is None else t.data_ptr() for t in tensors]
    getattr(loaded, function)(*pointers, *x.shape, *parameters)


native.LIBRARY.define(
    "loss(str name, Tensor x, Tensor? offset, Tensor target, float[] parameters) "
    "-> (Tensor, Tensor)"
)
native.LIBRARY.define(
    "loss_gradient_(str name, Tensor(a!) x, Tensor? offset, Tensor target, Tensor kept, "
    "Tensor gradient, float[] parameters) -> Tensor"
)
for operation, on_cpu, of_shapes in (
    ("loss", _forward, _empty),
    ("loss_gradient_", _backward, _sums),
):
    native.LIBRARY.impl(operation, on_cpu, "CPU")
    native.LIBRARY.impl(operation, of_shapes, "Meta")
