"""A causal transformer block as a cell: the latest inputs of a session attend to each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from p_rnn.models.cells.base import Cell, Initial, State
from p_rnn.models.dropout import Dropout
from p_rnn.settings.declare import about
from p_rnn.settings.errors import UserError

Heads = Annotated[int, about("attention heads; hidden_size is a multiple", low=1)]
Span = Annotated[int, about("inputs that it attends to, the newest included", low=1)]
Inner = Annotated[
    float, about("dropout inside, after attention and after the two layers", low=0, below=1)
]
Gated = Annotated[bool, about("gates on both residual connections, and SwiGLU, as in LiGR")]

SHORTEST = 8  # steps; shorter sessions are padded to it


class Attention(Cell):
    """One transformer block with the norms first, given its inputs a.

    x = a + P(heads(N(a)));  y = x + F(N(x));  h = N(y)

    N is layer normalization; F(x) = W_2 gelu(W_1 x + b_1) + b_2, with 4H inner units. Each head
    weighs the values of the latest `span` inputs by softmax(q . k / sqrt(H / heads) + b_d), where
    b_d is learned for each distance d = 0, 1, ... back in the session: the learned positions of
    SASRec (Kang & McAuley 2018), counted from the newest input, so that a session of any length is
    read one item at a time, without reading its earlier items again (R).

    gated: both sums become a + sigmoid(G N(a)) * (...), and F(x) = W_2 (silu(W_g x) * W_1 x), as in
    LiGR (Borisyuk et al. 2025) and eSASRec (Tikhonovich et al. 2025).

    The state is h, the keys and values of the latest `span` inputs, and their number. Training
    with batching=sequences back-propagates through whole windows; with session_parallel the keys
    and values of earlier steps are constants, as the state of a GRU is.
    """

    gates: ClassVar[int] = 1
    residual: ClassVar[bool] = True

    def __init__(
        self,
        hidden_size: int,
        initial: Initial,
        *,
        heads: Heads = 2,
        span: Span = 50,
        dropout: Inner = 0.0,
        gated: Gated = False,
    ) -> None:
        super().__init__(hidden_size)
        if hidden_size % heads:
            raise UserError(
                f"cell.heads={heads} must divide hidden_size={hidden_size}; change either"
            )
        self.heads, self.span, self.gated, size = heads, span, gated, hidden_size
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(3))
        self.read = initial.matrix(size, 3 * size, "read", gates=3)  # queries, keys, values
        self.distance = nn.Parameter(torch.zeros(heads, span))  # b
        self.out = initial.matrix(size, size, "out", gates=1)  # P
        parts = 2 if gated else 1
        self.first = initial.matrix(size, parts * 4 * size, "first", gates=parts)  # W_1 (and W_g)
        self.second = initial.matrix(4 * size, size, "second", gates=1)
        self.first_bias, self.second_bias = initial.zeros(parts * 4 * size), initial.zeros(size)
        if gated:
            self.gate = initial.matrix(size, 2 * size, "gate", gates=2)  # G of both sums
        self.dropouts = nn.ModuleList(
            Dropout(dropout, initial.streams.running(f"{initial.name}/{place}"))
            for place in ("attention", "layers")
        )

    @property
    def state_widths(self) -> tuple[int, ...]:
        memory = self.span * self.hidden_size
        return self.hidden_size, memory, memory, 1

    def forward(self, a: Tensor, state: State) -> State:
        """a [B, H], (h, keys, values, count) -> those after this step."""
        _, keys, values, count = state
        batch, size = a.shape
        normed = self.norms[0](a)
        query, key, value = (normed @ self.read).chunk(3, dim=1)
        keys = torch.cat([keys[:, size:], key], dim=1)  # the newest is the last
        values = torch.cat([values[:, size:], value], dim=1)
        count = (count + 1).clamp(max=self.span)
        back = torch.arange(self.span - 1, -1, -1, device=a.device)  # distance of each
        bias = self.distance.flip(1)[None, :, None].masked_fill(
            (back >= count)[:, None, None], float("-inf")
        )  # [B, heads, 1, span]
        split = (batch, self.span, self.heads, size // self.heads)
        heard = self._attend(
            query.view(batch, self.heads, 1, -1),
            keys.view(split).transpose(1, 2),
            values.view(split).transpose(1, 2),
            bias,
        )
        return self._rest(a, normed, heard.reshape(batch, size)), keys, values, count

    def scan(self, a: Tensor, widths: Sequence[int], mask: Tensor | None) -> Tensor:
        """As `Cell.scan`, all positions at once."""
        there = np.arange(widths[0]) < np.array(widths)[:, None]  # [steps, rows]
        step, row = there.nonzero()
        normed = self.norms[0](a)
        packed, biases = normed @ self.read, self._biases(len(widths))
        at, heard = [], []
        for first, last, steps in of_similar_length(widths):
            inside = ((first <= row) & (row < last)).nonzero()[0]
            place = (row[inside] - first) * steps + step[inside]  # in [rows, steps]
            at.append(torch.from_numpy(inside).to(a.device))
            heard.append(
                self._hear(
                    packed.index_select(0, at[-1]),
                    torch.from_numpy(place).to(a.device),
                    biases[:, :steps, :steps],
                    (last - first, steps),
                )
            )
        together = torch.empty_like(a).index_copy(0, torch.cat(at), torch.cat(heard))
        outputs = self._rest(a, normed, together)
        return outputs if mask is None else outputs * mask

    def _hear(self, packed: Tensor, place: Tensor, bias: Tensor, shape: tuple[int, int]) -> Tensor:
        """What the heads hear [P, H]; packed [P, 3 H] lies at `place` of `shape` [rows, steps]."""
        (rows, steps), size = shape, self.hidden_size
        padded = packed.new_zeros(rows * steps, 3 * size).index_copy(0, place, packed)
        split = (rows, steps, 3, self.heads, size // self.heads)
        query, key, value = padded.view(split).permute(2, 0, 3, 1, 4)
        heard = self._attend(query, key, value, bias)
        return heard.transpose(1, 2).reshape(rows * steps, size).index_select(0, place)

    def _biases(self, steps: int) -> Tensor:
        """b [heads, steps, steps] of each pair of query and key; -inf where it must not look."""
        at = torch.arange(steps, device=self.distance.device)
        back = at[:, None] - at
        seen = (back >= 0) & (back < self.span)
        bias = self.distance[:, back.clamp(0, self.span - 1)]
        return bias.masked_fill(~seen, float("-inf"))

    @staticmethod
    def _attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        """[B, heads, Q, D], [B, heads, K, D] and biases [.., heads, Q, K] -> [B, heads, Q, D]."""
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5 + bias
        heard: Tensor = scores.softmax(dim=-1) @ value
        return heard

    def _rest(self, a: Tensor, normed: Tensor, heard: Tensor) -> Tensor:
        """The block [P, H] after its heads; `normed` is N(a)."""
        x = a + self._gate(0, normed, self.dropouts[0](heard @ self.out))
        normed = self.norms[1](x)
        inner = torch.addmm(self.first_bias, normed, self.first)
        if self.gated:
            gate, inner = inner.chunk(2, dim=1)
            inner = F.silu(gate) * inner
        else:
            inner = F.gelu(inner)
        inner = torch.addmm(self.second_bias, inner, self.second)
        y = x + self._gate(1, normed, self.dropouts[1](inner))
        output: Tensor = self.norms[2](y)
        return output

    def _gate(self, which: int, normed: Tensor, change: Tensor) -> Tensor:
        if not self.gated:
            return change
        size = self.hidden_size
        own = self.gate[:, which * size : (which + 1) * size]
        return torch.sigmoid(normed @ own) * change


def of_similar_length(widths: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Groups (first, last, steps) of the sequences [first, last) with up to `steps` steps each.

    Padding costs steps^2 per sequence, and most sessions are short, so each group holds those of
    more than half of its `steps`.
    """
    last, steps = widths[0], SHORTEST
    while last:
        first = widths[steps] if steps < len(widths) else 0
        if first < last:
            yield first, last, min(steps, len(widths))
        last, steps = first, 2 * steps
