"""Losses over the candidates of a step.

A loss maps scores [B, C], the column of each example's target [B] and log q [C] to losses [B].
o = output function(score) everywhere, also inside s; o_t is the target's; sigma is the logistic
function; s = softmax of o over all candidates but the example's own target position.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from p_rnn.config import LossConfig
from p_rnn.registry import lookup, settings_for

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def _target(o: Tensor, target: Tensor) -> Tensor:
    return o.gather(1, target[:, None])  # [B, 1]


def _weights(o: Tensor, target: Tensor) -> Tensor:
    """s [B, C]: softmax over the negatives; zero at the target's own position."""
    return o.scatter(1, target[:, None], float("-inf")).softmax(dim=1)


def cross_entropy(scores: Tensor, target: Tensor, log_q: Tensor | None, *, logq: float) -> Tensor:
    """-log softmax_t(score_j - logq * log q_j); q ~ how often j comes up as a candidate.

    With logq=1 the expected gradient is that of the full softmax (sampled softmax; Bengio &
    Senecal 2008); in GRU4Rec since 2023.
    """
    if logq and log_q is not None:
        scores = scores - logq * log_q
    losses: Tensor = _CrossEntropy.apply(scores, target[:, None])  # type: ignore[no-untyped-call]
    return losses


class _CrossEntropy(torch.autograd.Function):
    """-log softmax_t(x) with its gradient by hand, so that the exponentials are taken once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, target: Tensor) -> Tensor:
        highest = x.amax(dim=1, keepdim=True)
        e = (x - highest).exp_()
        total = e.sum(dim=1, keepdim=True)
        ctx.save_for_backward(e, total, target)
        return (total.log() + highest - x.gather(1, target)).squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        e, total, target = ctx.saved_tensors
        dx = e.mul_(gradient[:, None] / total)
        return dx.scatter_add_(1, target, -gradient[:, None]), None


def bpr_max(
    scores: Tensor, target: Tensor, log_q: Tensor | None, *, elu_param: float, bpreg: float
) -> Tensor:
    """-log(sum_j s_j sigma(o_t - o_j) + 1e-24) + bpreg sum_j s_j o_j^2, o = ELU (CIKM 2018).

    elu_param is ELU's alpha; 0 means linear.
    """
    losses: Tensor = _BprMax.apply(scores, target[:, None], elu_param, bpreg)  # type: ignore[no-untyped-call]
    return losses


class _BprMax(torch.autograd.Function):
    """bpr_max with its gradient by hand: half the passes over [B, C] that autograd makes.

    With g_j = sigma(o_t - o_j), m = sum_j s_j g_j and r = sum_j s_j o_j^2,
    dL/do_j = s_j [(m - g_j^2) / m + bpreg (o_j^2 + 2 o_j - r)] for j other than t, and
    dL/do_t = -sum_j s_j g_j (1 - g_j) / m.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, target: Tensor, elu_param: float, bpreg: float) -> Tensor:
        o = scores.clone()
        if elu_param:
            # exp(x) - 1: to the rounding of 1, and several times as fast as expm1.
            o = torch.where(scores > 0, scores, o.exp_().sub_(1).mul_(elu_param))
        o_t = o.gather(1, target)
        s = o.scatter(1, target, float("-inf")).softmax(dim=1)
        g = torch.sigmoid(o_t - o)
        square = o.square()
        m = _row_dot(s, g) + 1e-24
        r = _row_dot(s, square)
        ctx.save_for_backward(o, target, s, g, square, m, r)
        ctx.elu_param, ctx.bpreg = elu_param, bpreg
        return (bpreg * r - m.log()).squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        o, target, s, g, square, m, r = ctx.saved_tensors
        own = _row_dot(s, g.square()) - (m - 1e-24)  # -sum_j s_j g_j (1 - g_j)
        do = g.square_().div_(-m).add_(square.add_(o, alpha=2), alpha=ctx.bpreg)
        do.add_(1 - 1e-24 / m - ctx.bpreg * r).mul_(s)
        do.scatter_(1, target, own / m).mul_(gradient[:, None])
        if ctx.elu_param:
            # From the result: 1 above 0, o + elu_param below.
            do = torch.ops.aten.elu_backward(do, ctx.elu_param, 1, 1, True, o)
        return do, None, None, None


def _row_dot(x: Tensor, y: Tensor) -> Tensor:
    """sum_j x_ij y_ij, [B, 1]; on a CPU four times as fast as a batched product of vectors."""
    return (x * y).sum(dim=1, keepdim=True)


def top1(scores: Tensor, target: Tensor, log_q: Tensor | None) -> Tensor:
    """Mean over all C candidates of sigma(o_j - o_t) + sigma(o_j^2), less sigma(o_t^2) / C.

    o = tanh. The mean includes the target's own term, as in the original code (ICLR 2016,
    section 3.1.3).
    """
    o = torch.tanh(scores)
    o_t = _target(o, target)
    own = torch.sigmoid(o_t.square()).squeeze(1) / o.shape[1]
    return (torch.sigmoid(o - o_t) + torch.sigmoid(o.square())).mean(dim=1) - own


def top1_max(scores: Tensor, target: Tensor, log_q: Tensor | None) -> Tensor:
    """sum_j s_j [sigma(o_j - o_t) + sigma(o_j^2)], o = tanh (CIKM 2018)."""
    o = torch.tanh(scores)
    terms = torch.sigmoid(o - _target(o, target)) + torch.sigmoid(o.square())
    return (_weights(o, target) * terms).sum(dim=1)


def bpr(scores: Tensor, target: Tensor, log_q: Tensor | None, *, output: str) -> Tensor:
    """-mean over the negatives of log sigma(o_t - o_j); o = tanh (GRU4Rec) or linear (RecBole)."""
    o = torch.tanh(scores) if output == "tanh" else scores
    terms = F.logsigmoid(_target(o, target) - o)
    own = _target(terms, target).squeeze(1)  # the target against itself is no pair
    return -(terms.sum(dim=1) - own) / (o.shape[1] - 1)


LOSSES: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": cross_entropy,
    "bpr_max": bpr_max,
    "top1": top1,
    "top1_max": top1_max,
    "bpr": bpr,
}


def build_loss(config: LossConfig) -> Loss:
    """The loss of a resolved config, its parameters bound."""
    function = lookup("loss", LOSSES, config.name)
    return partial(function, **settings_for("loss", function, config))
