"""A textbook implementation of GRU4Rec, for comparison in the benchmark only.

Its mini-batches and negatives are prepared in advance, while p_rnn draws them during training.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .serving import Spec, draw_sessions

STEPS = 256  # prepared mini-batches, which the textbook step cycles through


def cross_entropy(scores: Tensor) -> Tensor:
    e = torch.exp(scores - scores.max(dim=1, keepdim=True).values)
    return -torch.log((e / e.sum(dim=1, keepdim=True)).diagonal() + 1e-24)


def bpr_max(scores: Tensor, bpreg: float = 1.0) -> Tensor:
    o = F.elu(scores, 0.5)
    s, o_t = _weights(o), o.diagonal()[:, None]
    return -torch.log((s * torch.sigmoid(o_t - o)).sum(1) + 1e-24) + bpreg * (s * o**2).sum(1)


def top1(scores: Tensor) -> Tensor:
    o = torch.tanh(scores)
    o_t = o.diagonal()
    terms = torch.sigmoid(o - o_t[:, None]) + torch.sigmoid(o**2)
    return terms.mean(1) - torch.sigmoid(o_t**2) / o.shape[1]


def top1_max(scores: Tensor) -> Tensor:
    o = torch.tanh(scores)
    terms = torch.sigmoid(o - o.diagonal()[:, None]) + torch.sigmoid(o**2)
    return (_weights(o) * terms).sum(1)


def bpr(scores: Tensor) -> Tensor:
    o = torch.tanh(scores)
    terms = torch.log(torch.sigmoid(o.diagonal()[:, None] - o))
    return -(terms.sum(1) - terms.diagonal()) / (o.shape[1] - 1)


def _weights(o: Tensor) -> Tensor:
    target = torch.eye(*o.shape, dtype=torch.bool, device=o.device)
    return o.masked_fill(target, float("-inf")).softmax(dim=1)


# Losses of scores [B, C] in which column i is the target of row i, as in the papers.
LOSSES = {
    "cross_entropy": cross_entropy,
    "bpr_max": bpr_max,
    "top1": top1,
    "top1_max": top1_max,
    "bpr": bpr,
}


class Textbook(nn.Module):
    """Textbook GRU4Rec: autograd, sparse embeddings, GRUCell, Adagrad, loss.item() each step."""

    def __init__(self, num_items: int, hidden_size: int, loss: str, batch_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_items, hidden_size, sparse=True)  # input and output
        self.output_bias = nn.Embedding(num_items, 1, sparse=True)
        self.gru = nn.GRUCell(hidden_size, hidden_size)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.zeros_(self.output_bias.weight)
        self.loss, self.learning_rate = LOSSES[loss], 0.05
        self.squares = [torch.zeros_like(p) for p in self.parameters()]
        self.state = torch.zeros(batch_size, hidden_size)

    def to_device(self, device: str) -> Textbook:
        self.squares = [x.to(device) for x in self.squares]
        self.state = self.state.to(device)
        return self.to(device)

    def step(self, inputs: Tensor, targets: Tensor, keep: Tensor, negatives: Tensor) -> float:
        """Make one update; return the loss."""
        hidden = self.gru(self.embedding(inputs), self.state * keep)
        items = torch.cat([targets, negatives])
        scores = hidden @ self.embedding(items).t() + self.output_bias(items).t()
        loss = self.loss(scores).sum() / len(inputs)
        loss.backward()  # type: ignore[no-untyped-call]
        self.adagrad()
        self.state = hidden.detach()
        return float(loss.item())

    @torch.no_grad()
    def adagrad(self) -> None:
        """acc += g^2, p -= lr g / sqrt(acc + 1e-6), on the touched rows of an embedding."""
        for p, squares in zip(self.parameters(), self.squares, strict=True):
            g, p.grad = p.grad, None
            assert g is not None
            if g.is_sparse:
                g = g.coalesce()
                rows, values = g.indices()[0], g.values()
                acc = squares[rows] + values**2
                squares[rows] = acc
                p.index_add_(0, rows, values / (acc + 1e-6).sqrt(), alpha=-self.learning_rate)
            else:
                squares.addcmul_(g, g)
                p.addcdiv_(g, (squares + 1e-6).sqrt(), value=-self.learning_rate)


def draw_steps(spec: Spec) -> dict[str, Tensor]:
    """T mini-batches: inputs and targets [T, B], keep [T, B, 1], negatives [T, S].

    Each slot reads one session after another; keep is 0 where a session begins.
    """
    B, S = spec.batch_size, spec.num_negatives
    items, offsets = draw_sessions(spec.num_items, 2 * STEPS * B)
    paired = np.ones(len(items), dtype=bool)
    paired[offsets[1:] - 1] = False
    at = np.flatnonzero(paired)[: STEPS * B].reshape(B, -1).T
    keep = ~np.isin(at, offsets)
    keep[0] = False
    below = np.sqrt(np.bincount(items, minlength=spec.num_items).clip(1)).cumsum()
    draws = np.random.default_rng(1).random((len(at), S)) * below[-1]
    arrays = {
        "inputs": items[at].astype(np.int64),
        "targets": items[at + 1].astype(np.int64),
        "keep": keep[:, :, None].astype(np.float32),
        "negatives": np.searchsorted(below, draws, side="right"),
    }
    return {n: torch.from_numpy(a).contiguous().to(spec.device) for n, a in arrays.items()}
