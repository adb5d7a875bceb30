"""Losses over the candidates of a mini-batch.

A loss maps scores [B, C], the column of each example's target [B] and log q [C] to losses [B]. One
that depends on the number of items takes a fourth argument, `num_items`.
o = output function(score) everywhere, also inside s; o_t is the target's; sigma is the logistic
function; s = softmax of o over all candidates but the example's own target position.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from p_rnn.settings.components import bind
from p_rnn.settings.declare import about
from p_rnn.settings.sections import Component

LossFunction = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def _target(o: Tensor, target: Tensor) -> Tensor:
    return o.gather(1, target[:, None])  # [B, 1]


def _weights(o: Tensor, target: Tensor) -> Tensor:
    """s [B, C]: softmax over the negatives; zero at the target's own position."""
    return o.scatter(1, target[:, None], float("-inf")).softmax(dim=1)


def cross_entropy(
    scores: Tensor,
    target: Tensor,
    log_q: Tensor | None,
    *,
    logq: Annotated[float, about("corrects for sampling: 0 = off, 1 = whole", low=0)] = 1.0,
    smoothing: Annotated[
        float, about("of the labels: shared by all C", low=0, below=1, later=True)
    ] = 0.0,
) -> Tensor:
    """-log softmax_t(score_j - logq * log q_j); q ~ how often j is drawn as a candidate.

    With logq=1 the expected gradient is that of the full softmax (sampled softmax; Bengio &
    Senecal 2008); in GRU4Rec since 2023. With smoothing the target has the probability
    1 - smoothing, and the rest is shared by all C candidates (Szegedy et al. 2016).
    """
    if logq and log_q is not None:
        scores = scores - logq * log_q
    return F.cross_entropy(scores, target, reduction="none", label_smoothing=smoothing)


def bpr_max(
    scores: Tensor,
    target: Tensor,
    log_q: Tensor | None,
    *,
    elu_param: Annotated[float, about("alpha of the ELU on the scores; 0 = linear", low=0)] = 0.5,
    bpreg: Annotated[float, about("weight of the penalty on scores", low=0)] = 1.0,
) -> Tensor:
    """-log(sum_j s_j sigma(o_t - o_j) + 1e-24) + bpreg sum_j s_j o_j^2 (CIKM 2018).

    o = ELU with alpha = elu_param; 0 means linear.
    """
    o = F.elu(scores, elu_param) if elu_param else scores
    s = _weights(o, target)
    ahead = (s * torch.sigmoid(_target(o, target) - o)).sum(dim=1)
    return bpreg * (s * o.square()).sum(dim=1) - torch.log(ahead + 1e-24)


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


def bpr(
    scores: Tensor,
    target: Tensor,
    log_q: Tensor | None,
    *,
    output: Annotated[str, about("output function", options=("linear", "tanh"))] = "tanh",
) -> Tensor:
    """-mean over the negatives of log sigma(o_t - o_j); o = tanh (GRU4Rec) or linear (RecBole)."""
    o = torch.tanh(scores) if output == "tanh" else scores
    terms = F.logsigmoid(_target(o, target) - o)
    own = _target(terms, target).squeeze(1)  # the target is not its own negative
    return -(terms.sum(dim=1) - own) / (o.shape[1] - 1)


def gbce(
    scores: Tensor,
    target: Tensor,
    log_q: Tensor | None,
    num_items: int,
    *,
    calibration: Annotated[
        float, about("t: 0 = binary cross-entropy, 1 = sampling undone", low=0, high=1)
    ] = 0.75,
) -> Tensor:
    """-(beta log sigma(score_t) + sum over the negatives of log(1 - sigma(score_j))) / C.

    beta = a (t (1 - 1/a) + 1/a), where a = (C - 1) / (N - 1) is the share of the other items that
    were sampled as negatives and t the calibration: gSASRec (Petrov & Macdonald, RecSys 2023).
    """
    count = scores.shape[1]
    sampled = min(1.0, (count - 1) / max(num_items - 1, 1))
    beta = calibration * (sampled - 1) + 1
    own = _target(scores, target).squeeze(1)
    others = scores.scatter(1, target[:, None], float("-inf"))
    return (beta * F.softplus(-own) + F.softplus(others).sum(dim=1)) / count


LOSSES: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": cross_entropy,
    "bpr_max": bpr_max,
    "top1": top1,
    "top1_max": top1_max,
    "bpr": bpr,
    "gbce": gbce,
}


def build_loss(chosen: Component, num_items: int) -> LossFunction:
    """The loss of that name, with its parameters and, if it asks, the number of items bound."""
    function, parameters = bind("loss", chosen)
    if "num_items" in inspect.signature(function).parameters:
        parameters["num_items"] = num_items
    return partial(function, **parameters)
