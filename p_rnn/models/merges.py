"""Merges: combine the hidden states of the subnets into one score per candidate.

Every merge has the form score_j = sum_p q_p . W^p_j + b_j: `queries` computes the vectors q_p from
the hidden states, and each table W^p has one row per item (p_rnn/models/outputs.py). One `forward`
therefore serves them all.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from p_rnn.models.outputs import ItemTable, rows_of
from p_rnn.models.tables import Init, ItemIndex, Table
from p_rnn.streams import Streams


class Merge(nn.Module):
    """score_j = sum_k w_k W^k_j h_k + b_j: `parallel`; with one subnet the ordinary output (P).

    Args:
        tables: W^k [N, H_k], one for each subnet; `owners`: the subnet that owns each.
        weights: w_k of the subnets. `bias`: whether to add b, which the first subnet owns.
    """

    def __init__(
        self,
        tables: Sequence[ItemTable],
        owners: Sequence[int | None],
        weights: Sequence[float],
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.tables = nn.ModuleList(tables)
        self.owners = list(owners)
        self.weights = list(weights)
        self.bias = Table(tables[0].num_trained, 1) if bias else None

    def owned(self) -> dict[nn.Parameter, int | None]:
        """The subnet that owns each parameter of the merge; None = shared."""
        own: dict[nn.Parameter, int | None] = {}
        for table, owner in zip(self.tables, self.owners, strict=True):
            own.update(dict.fromkeys(table.parameters(), owner))
        if self.bias is not None:
            own[self.bias.weight] = 0
        return own

    def queries(self, hidden: Sequence[Tensor]) -> list[Tensor]:
        """q_p [B, H] from the hidden states h_k [B, H_k] of the subnets in the score."""
        return [_times(w, h) for w, h in zip(self.weights, hidden, strict=False)]

    def forward(self, hidden: Sequence[Tensor], items: ItemIndex) -> Tensor:
        """Scores [B, C]; items: a slice or [C] shared by all examples, or [B, C] per example."""
        queries = self.queries(hidden)
        rows = rows_of(self.tables[: len(queries)], items)
        return scores_of(queries, rows, None if self.bias is None else self.bias(items).squeeze(-1))


def scores_of(queries: Sequence[Tensor], rows: Sequence[Tensor], bias: Tensor | None) -> Tensor:
    """sum_p q_p . rows_p + bias: [B, D_p], [C, D_p] or [B, C, D_p], [C] or [B, C] -> [B, C]."""
    scores: Tensor | None = None
    for q, own in zip(queries, rows, strict=True):
        if own.dim() == 3:
            product = torch.bmm(own, q.unsqueeze(2)).squeeze(2)
        elif scores is None and bias is not None and not torch.is_grad_enabled():
            # Adding the bias this way costs nothing extra.
            product, bias = torch.addmm(bias, q, own.t()), None
        else:
            product = q @ own.t()
        scores = product if scores is None else scores + product
    assert scores is not None
    return scores if bias is None else scores + bias


class SharedMerge(Merge):
    """score_j = W_j (sum_k w_k h_k) + b_j: `parallel_shared` (R: one W applied to the sum)."""

    def queries(self, hidden: Sequence[Tensor]) -> list[Tensor]:
        total = _times(self.weights[0], hidden[0])
        for w, h in zip(self.weights[1:], hidden[1:], strict=False):
            total = torch.add(total, h, alpha=w)
        return [total]


class InteractionMerge(Merge):
    """w_id W^id_j h_id + sum_f w_f W^f_j (h_id * h_f) + b_j: `parallel_interaction` (R)."""

    def queries(self, hidden: Sequence[Tensor]) -> list[Tensor]:
        of_id, weights = hidden[0], self.weights
        pairs = zip(weights[1:], hidden[1:], strict=False)
        return [_times(weights[0], of_id), *(_times(w, of_id * h) for w, h in pairs)]


class ProjectedMerge(Merge):
    """score_j = E_j . (sum_k w_k A_k h_k + a): `gru4recf`; A and a are RecBole's last layer."""

    def __init__(
        self,
        table: ItemTable,
        sizes: Sequence[int],
        weights: Sequence[float],
        key: str,
        streams: Streams,
        init: Init,
    ) -> None:
        super().__init__([table], [None], weights, bias=False)
        width = table.width
        whole = torch.empty(sum(sizes), width)  # one linear layer on the concatenated states
        init(whole, streams.initial(key))
        self.projections = nn.ParameterList(
            part.clone() for part in torch.split(whole, list(sizes))
        )
        self.offset = nn.Parameter(torch.zeros(width))  # a

    def owned(self) -> dict[nn.Parameter, int | None]:
        return {**super().owned(), **{p: k for k, p in enumerate(self.projections)}}

    def queries(self, hidden: Sequence[Tensor]) -> list[Tensor]:
        q: Tensor = self.offset
        for k, h in enumerate(hidden):
            q = torch.addmm(q, h, self.projections[k], alpha=self.weights[k])
        return [q]


def _times(weight: float, x: Tensor) -> Tensor:
    return x if weight == 1 else weight * x
