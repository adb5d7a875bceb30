"""Losses over the candidates of a mini-batch.

A loss maps scores [B, C], the column of each example's target [B] and log q [C] to losses [B].
o = output function(score) everywhere, also inside s; o_t is the target's; sigma is the logistic
function; s = softmax of o over all candidates but the example's own target position.
"""

from __future__ import annotations

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
    logq: Annotated[float, about("corrects for sampling: 0 = off, 1 = whole", low=0)] = 0.0,
) -> Tensor:
    """-log softmax_t(score_j - logq * log q_j); q ~ how often j is drawn as a candidate.

    With logq=1 the expected gradient is that of the full softmax (sampled softmax; Bengio &
    Senecal 2008); in GRU4Rec since 2023.
    """
    if logq and log_q is not None:
        scores = scores - logq * log_q
    return F.cross_entropy(scores, target, reduction="none")


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


LOSSES: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": cross_entropy,
    "bpr_max": bpr_max,
    "top1": top1,
    "top1_max": top1_max,
    "bpr": bpr,
}


def build_loss(chosen: Component) -> LossFunction:
    """The loss of that name, with its parameters bound."""
    function, parameters = bind("loss", chosen)
    return partial(function, **parameters)
