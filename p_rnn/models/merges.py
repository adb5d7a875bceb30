"""Merges: from the hidden states of the subnets to one score per candidate.

Every merge is score_j = sum_p q_p . W^p_j + b_j: `queries` makes the vectors q_p of the states, the
tables W^p hold a row per item. The score is linear in each table, so one loop serves them all.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from p_rnn.models.table import Init, Items, Table
from p_rnn.random import Streams

Learners = Collection[int] | None  # numbers of the subnets that learn; None = all


def learns(owner: int | None, learners: Learners) -> bool:
    """Whether something owned by a subnet (None = shared) learns in this update."""
    return owner is None or learners is None or owner in learners


@dataclass(frozen=True)
class Candidates:
    """Scores that are still to be computed, sum_p queries_p . rows of tables_p + bias.

    Attributes:
        queries: q_p [B, H_p]; `tables`: W^p; `learning`: whether a table is to get a gradient.
        items: the rows: a range or [C] for all examples, or [B, C] for each its own.
        bias: of the items, [C] or [B, C], or None.
    """

    queries: list[Tensor]
    tables: list[Table]
    learning: list[bool]
    items: Items
    bias: Tensor | None

    def scores(self) -> Tensor:
        """[B, C]."""
        scores: Tensor | None = None
        bias = self.bias
        for q, table, learning in zip(self.queries, self.tables, self.learning, strict=True):
            rows = _rows(table, self.items, learning)
            if rows.dim() == 3:
                product = torch.bmm(rows, q.unsqueeze(2)).squeeze(2)
            elif scores is None and bias is not None and not torch.is_grad_enabled():
                # As fast as the product alone.
                product, bias = torch.addmm(bias, q, rows.t()), None
            else:
                product = q @ rows.t()
            scores = product if scores is None else scores.add_(product)
        assert scores is not None
        return scores if bias is None else scores.add_(bias)


class Merge(nn.Module):
    """score_j = sum_k w_k W^k_j h_k + b_j: `parallel`, and with one subnet the plain output (P).

    Args:
        tables: W^k [N, H_k], one for each subnet; `owners`: the subnet that owns each.
        weights: w_k of the subnets. `bias`: whether there is a b; it belongs to the first subnet.
    """

    def __init__(
        self,
        tables: Sequence[Table],
        owners: Sequence[int | None],
        weights: Sequence[float],
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.tables = nn.ModuleList(tables)
        self.owners = list(owners)
        self.weights = list(weights)
        self.bias = Table(len(tables[0].weight), None) if bias else None

    def owned(self) -> dict[nn.Parameter, int | None]:
        """The owner of each parameter of the merge."""
        own: dict[nn.Parameter, int | None] = {}
        for table, owner in zip(self.tables, self.owners, strict=True):
            assert isinstance(table, Table)
            own[table.weight] = owner
        if self.bias is not None:
            own[self.bias.weight] = 0
        return own

    def queries(self, hidden: Sequence[Tensor], learners: Learners) -> list[Tensor]:
        """q_p [B, H] for the leading tables, of the states h_k [B, H_k] of the leading subnets."""
        return [_times(w, h) for w, h in zip(self.weights, hidden, strict=False)]

    def forward(self, hidden: Sequence[Tensor], items: Items, learners: Learners) -> Tensor:
        """Scores [B, C]; items: slice or [C] for all examples, or [B, C] for each its own."""
        return self.candidates(hidden, items, learners).scores()

    def candidates(self, hidden: Sequence[Tensor], items: Items, learners: Learners) -> Candidates:
        """What `forward` makes scores of."""
        queries = self.queries(hidden, learners)
        tables = [table for table in self.tables if isinstance(table, Table)][: len(queries)]
        learning = [learns(owner, learners) for owner in self.owners[: len(queries)]]
        bias = None if self.bias is None else _rows(self.bias, items, learns(0, learners))
        return Candidates(queries, tables, learning, items, bias)


class SharedMerge(Merge):
    """score_j = W_j (sum_k w_k h_k) + b_j: `parallel_shared` (R: one W for the sum of states)."""

    def queries(self, hidden: Sequence[Tensor], learners: Learners) -> list[Tensor]:
        total = _times(self.weights[0], hidden[0])
        for w, h in zip(self.weights[1:], hidden[1:], strict=False):
            total = torch.add(total, h, alpha=w)
        return [total]


class InteractionMerge(Merge):
    """w_id W^id_j h_id + sum_f w_f W^f_j (h_id * h_f) + b_j: `parallel_interaction` (R)."""

    def queries(self, hidden: Sequence[Tensor], learners: Learners) -> list[Tensor]:
        of_id, weights = hidden[0], self.weights
        pairs = zip(weights[1:], hidden[1:], strict=False)
        return [_times(weights[0], of_id), *(_times(w, of_id * h) for w, h in pairs)]


class ProjectedMerge(Merge):
    """score_j = E_j . (sum_k w_k A_k h_k + a): `gru4recf`, A and a being RecBole's last layer."""

    def __init__(self, table: Table, sizes: Sequence[int], weights: Sequence[float], key: str,
                 streams: Streams, init: Init) -> None:  # fmt: skip
        super().__init__([table], [None], weights, bias=False)
        width = table.weight.shape[1]
        whole = torch.empty(sum(sizes), width)  # one linear layer on the concatenated states
        init(whole, streams.initial(key))
        self.projections = nn.ParameterList(
            part.clone() for part in torch.split(whole, list(sizes))
        )
        self.offset = nn.Parameter(torch.zeros(width))  # a

    def owned(self) -> dict[nn.Parameter, int | None]:
        return {**super().owned(), **{p: k for k, p in enumerate(self.projections)}}

    def queries(self, hidden: Sequence[Tensor], learners: Learners) -> list[Tensor]:
        q: Tensor = self.offset
        for k, h in enumerate(hidden):
            matrix = self.projections[k]
            if not learns(k, learners):
                matrix = matrix.detach()
            q = torch.addmm(q, h, matrix, alpha=self.weights[k])
        return [q]


def _times(weight: float, x: Tensor) -> Tensor:
    return x if weight == 1 else weight * x


def _rows(table: Table, items: Items, learning: bool) -> Tensor:
    """Rows of the items; with a gradient only where their owner learns."""
    with torch.set_grad_enabled(torch.is_grad_enabled() and learning):
        if isinstance(items, Tensor) and items.dim() == 2:
            rows = table.rows(items.flatten())
            return rows.view(*items.shape, *rows.shape[1:])
        return table.rows(items)
