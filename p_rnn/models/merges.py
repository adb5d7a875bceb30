"""Merges: from the hidden states of the subnets to one score per candidate."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from p_rnn.models.table import Items, Table


class Output(nn.Module):
    """score_j = W_j h + b_j, over a candidate list shared by the batch or one of each example."""

    def __init__(self, table: Table) -> None:
        super().__init__()
        self.table = table  # W [N, H]
        self.bias = Table(len(table.weight), None)  # b [N]

    def forward(self, h: Tensor, items: Items) -> Tensor:
        """h [B, H]; items: slice or [C] for all, or [B, C] for each its own -> scores [B, C]."""
        if isinstance(items, Tensor) and items.dim() == 2:
            flat = items.flatten()
            rows = self.table.rows(flat).view(*items.shape, -1)  # [B, C, H]
            scores = torch.bmm(rows, h.unsqueeze(2)).squeeze(2)
            return scores + self.bias.rows(flat).view(items.shape)
        return torch.addmm(self.bias.rows(items), h, self.table.rows(items).t())
