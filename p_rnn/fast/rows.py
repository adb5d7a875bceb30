"""Rows of items for inputs and outputs of a fast step: forward, and gradients of what made them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from p_rnn.fast.gradients import Gradients
from p_rnn.fast.native import serves
from p_rnn.fast.native.functions import gather, pool, product, times
from p_rnn.fast.native.moves import RowsRead
from p_rnn.fast.native.tape import off_tape
from p_rnn.models.features import Bags, DenseRows
from p_rnn.models.inputs import Embedded, PooledRows
from p_rnn.models.outputs import FeatureTable
from p_rnn.models.tables import Table

Dense = dict[DenseRows, Tensor]  # the vectors of some items, read once for all that need them


def bags_of(bags: Bags) -> tuple[Tensor, Tensor, Tensor]:
    return bags.offsets, bags.tokens, bags.weights


def dense_rows(view: DenseRows, items: Tensor, read: Dense) -> Tensor:
    """float32 [C, D] of a dense feature."""
    if view not in read:
        if serves(view.values):
            read[view] = gather(view.values, items)
        else:
            off_tape()
            read[view] = view(items).float()
    return read[view]


class ReadRows:
    """The rows [C, D] that an input or output reads of some items.

    Args:
        source: a table (of ids, or of ids and features), pooled rows of a bag, or phi E.
        items: int64 [C].
        read: the dense features of these items that were read before.
        to: rows [C, D] to which those of a bag are added at once; others are a result of their own.

    Attributes:
        rows: the result.
    """

    def __init__(
        self,
        source: nn.Module,
        items: Tensor,
        read: Dense | None = None,
        to: Tensor | None = None,
    ) -> None:
        self.source, self.items, self.parts = source, items, list[ReadRows]()
        read = {} if read is None else read
        if isinstance(source, Table):
            self.rows = gather(source.weight, items)
        elif isinstance(source, FeatureTable):
            whole = ([] if source.free is None else [source.free]) + list(source.parts)
            self.parts = [ReadRows(whole[0], items, read)]
            self.rows = self.parts[0].rows
            for each in whole[1:]:
                part = ReadRows(each, items, read, to=self.rows)
                if part.rows is not self.rows:
                    times(part.rows, to=self.rows)
                self.parts.append(part)
        elif isinstance(source, PooledRows) and source.pooling_mode != "max":
            self.rows = pool(source.table.weight, items, bags_of(source.bags), to)
        elif isinstance(source, Embedded):
            self.phi = dense_rows(source.view, items, read)
            self.rows = product(self.phi, source.weight)
        else:
            off_tape()
            with torch.enable_grad():
                self.made = source(items).float()
            self.rows = self.made.detach()

    def backward(self, gradient: Tensor, found: Gradients) -> None:
        """Add the gradients of the parameters to `found`, given that [C, D] of the rows."""
        source: Any = self.source
        if isinstance(source, Table):
            found.rows(source.weight, RowsRead(self.items, gradient))
        elif isinstance(source, FeatureTable):
            for part in self.parts:
                part.backward(gradient, found)
        elif isinstance(source, PooledRows) and source.pooling_mode != "max":
            found.rows(source.table.weight, RowsRead(self.items, gradient, bags_of(source.bags)))
        elif isinstance(source, Embedded):
            if source.weight.requires_grad:
                found.whole(source.weight, product(self.phi.t(), gradient))
        elif self.made.requires_grad:
            torch.autograd.backward(self.made, gradient)
