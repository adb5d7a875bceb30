"""Outputs: the row W_j of an item that the merge multiplies with hidden states.

    free        W_j = E_j, a row of a table that is learned for each item (P)
    features    W_j = sum_f A_f phi_jf, from the item's features f
    both        W_j = E_j + sum_f A_f phi_jf (R)

A_f phi is the pooled rows of a bag's tokens, or a dense vector times a matrix. With `features` and
`both` an item without a training event has a row, and so a score. Where input and output share the
table (model.input=shared), the same row is read by the input.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from p_rnn.models.features import Read
from p_rnn.models.tables import ItemIndex, Table

ROWS_AT_ONCE = 2**16  # of all items, so that dense features are not read as a whole


class FeatureTable(nn.Module):
    """Rows [N, D] of items from their features, plus those of a table for the items trained on.

    Args:
        num_items: n, the items that occur in training; `free`: their table, or None.
        parts: for each feature a module that maps items [C] to A_f phi [C, D].
    """

    def __init__(
        self, num_items: int, width: int, free: Table | None, parts: Mapping[str, nn.Module]
    ) -> None:
        super().__init__()
        self.width, self.num_trained, self.free = width, num_items, free
        self.names = tuple(parts)
        self.parts = nn.ModuleList(parts.values())

    @property
    def num_items(self) -> int:
        """N, all items that have features."""
        return min(int(part.num_items) for part in self.parts)  # type: ignore[arg-type]

    def forward(self, items: ItemIndex, read: Read | None = None) -> Tensor:
        """[C] -> [C, D], [M, C] -> [M, C, D]; a slice is of the items that occur in training.

        Args:
            read: where to keep what was read of the items' features (`read_once`).
        """
        device = next(self.parameters()).device
        if isinstance(items, slice):
            items = torch.arange(self.num_trained, device=device)[items]
        flat = items.reshape(-1)
        total: Tensor | None = None
        if self.free is not None:
            total = self.free(flat) if self.training else known_rows(self.free, flat)
        for part in self.parts:
            rows = part(flat, read)
            total = rows if total is None else total + rows
        assert total is not None
        return total.view(*items.shape, self.width)


ItemTable = Table | FeatureTable


def known_rows(table: Table, items: Tensor) -> Tensor:
    """Rows [B, D] of a table, zero for items that it does not have."""
    known = items < table.num_items
    rows: Tensor = table(torch.where(known, items, 0))
    return rows * known[:, None]


def rows_of(tables: Iterable[nn.Module], items: ItemIndex) -> list[Tensor]:
    """The rows of some items in each table; features are read once for all of them."""
    read: Read = {}
    return [t(items, read) if isinstance(t, FeatureTable) else t(items) for t in tables]


@torch.no_grad()
def all_rows(table: nn.Module) -> Tensor:
    """The rows [N, D] of all items; those of a table are its weight itself, without a copy."""
    if isinstance(table, Table):
        return table.weight.detach()
    assert isinstance(table, FeatureTable)
    device = next(table.parameters()).device
    return torch.cat([table(part) for part in in_parts(table.num_items, device)])


def in_parts(num_items: int, device: torch.device | None = None) -> Iterator[Tensor]:
    """All item indices, `ROWS_AT_ONCE` at a time."""
    for lo in range(0, num_items, ROWS_AT_ONCE):
        yield torch.arange(lo, min(lo + ROWS_AT_ONCE, num_items), device=device)
