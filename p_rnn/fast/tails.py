"""The end of a fast step: from the queries of the merge to the loss, and back.

This is where the scores [B, C] are computed. `NativeTail` does it in C++ for a few dozen candidates
at a time, so that scores stay in the cache (two losses); `ProductsTail` uses PyTorch's matrix
products, and autograd for the loss (any loss).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from p_rnn.batches import Batch
from p_rnn.fast.gradients import Gradients
from p_rnn.fast.native.functions import RowsRead, loss, offset
from p_rnn.fast.native.tape import off_tape
from p_rnn.models.merges import Merge
from p_rnn.models.tables import Table
from p_rnn.training import losses as plain
from p_rnn.training.step import Update, per_example

# Compiled losses: the name of the C++ function, and its parameters after the gradient.
COMPILED = {
    plain.cross_entropy: ("cross_entropy", ()),
    plain.bpr_max: ("bpr_max", ("elu_param", "bpreg")),
}


class Tail(Protocol):
    def __call__(
        self, queries: Sequence[Tensor], batch: Batch, found: Gradients
    ) -> tuple[Tensor, list[Tensor]]:
        """The loss of a mini-batch and the gradients of the queries [B, D_p].

        The gradients of the tables are added to `found`.
        """


@dataclass
class _MergeTail:
    update: Update

    @property
    def merge(self) -> Merge:
        merge = self.update.network.merge
        assert isinstance(merge, Merge)
        return merge

    def tables(self, queries: Sequence[Tensor]) -> list[Table]:
        tables = [table for table in self.merge.tables if isinstance(table, Table)]
        return tables[: len(queries)]

    def found(self, table: Table, batch: Batch, gradient: Tensor | None, found: Gradients) -> None:
        """Add the gradient of a table's rows of the candidates to `found`."""
        if gradient is None or not table.weight.requires_grad:
            return
        gradient = gradient.view(-1, table.weight.shape[1])
        if batch.items is None:
            found.whole(table.weight, gradient)
        else:
            found.rows(table.weight, RowsRead(batch.items, gradient))


class NativeTail(_MergeTail):
    """Scores, loss and gradients in C++."""

    def __init__(self, update: Update) -> None:
        super().__init__(update)
        function: Any = update.loss
        self.settings = function.keywords
        self.name, names = COMPILED[function.func]
        self.parameters = [self.settings[name] for name in names] or [0.0, 0.0]

    @staticmethod
    def serves(update: Update) -> bool:
        return getattr(update.loss, "func", None) in COMPILED

    def __call__(
        self, queries: Sequence[Tensor], batch: Batch, found: Gradients
    ) -> tuple[Tensor, list[Tensor]]:
        update, tables, bias, shift = self.update, self.tables(queries), self.merge.bias, None
        weights = [t.weight.detach() for t in tables]
        if bias is not None or update.log_support is not None:
            count = len(weights[0]) if batch.items is None else len(batch.items)
            shift = offset(
                None if bias is None else bias.weight.detach(),
                update.log_support,
                batch.items,
                len(batch.targets),
                self.settings.get("logq", 0.0),
                update.sample_alpha,
                count,
                weights[0],
            )
        wanted = [t.weight.requires_grad for t in tables]
        mean, of_queries, of_rows, of_offset = loss(
            self.name,
            queries,
            weights,
            batch.items,
            shift,
            batch.column,
            self.parameters,
            1 / update.batch_size,
            wanted,
        )
        for table, gradient in zip(tables, of_rows, strict=True):
            self.found(table, batch, gradient, found)
        if bias is not None:
            self.found(bias, batch, of_offset, found)
        return mean, of_queries


class ProductsTail(_MergeTail):
    """Matrix products by PyTorch, and the loss from p_rnn/training/losses.py by autograd."""

    def __call__(
        self, queries: Sequence[Tensor], batch: Batch, found: Gradients
    ) -> tuple[Tensor, list[Tensor]]:
        off_tape()
        tables, bias, items = self.tables(queries), self.merge.bias, batch.items
        rows = [t.weight if items is None else t.weight.index_select(0, items) for t in tables]
        scores: Tensor | None = None
        if bias is not None:
            scores = (bias.weight if items is None else bias.weight.index_select(0, items)).view(
                1, -1
            )
        for q, own in zip(queries, rows, strict=True):
            scores = q @ own.t() if scores is None else torch.addmm(scores, q, own.t())
        assert scores is not None
        scores.requires_grad_()
        with torch.enable_grad():
            losses = per_example(self.update.loss(scores, batch.column, self.update.log_q(batch)))
            mean = losses.sum() / self.update.batch_size
            (slope,) = torch.autograd.grad(mean, scores)
        for q, table in zip(queries, tables, strict=True):
            if table.weight.requires_grad:
                self.found(table, batch, slope.t() @ q, found)
        if bias is not None:
            self.found(bias, batch, slope.sum(dim=0), found)
        return mean.detach(), [slope @ own for own in rows]
