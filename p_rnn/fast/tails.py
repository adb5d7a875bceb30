"""The end of a fast step: from the queries of the merge to the loss, and back.

This is where the scores [B, C] are computed. `NativeTail` does it in C++ for a few dozen candidates
at a time, so that scores stay in the cache (three losses); `ProductsTail` uses PyTorch's matrix
products, and autograd for the loss (any loss).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from p_rnn.batches import Batch
from p_rnn.fast.gradients import Gradients
from p_rnn.fast.native.functions import loss, offset
from p_rnn.fast.native.moves import RowsRead
from p_rnn.fast.native.tape import off_tape
from p_rnn.fast.rows import Dense, ReadRows
from p_rnn.models.merges import Merge
from p_rnn.models.outputs import FeatureTable
from p_rnn.models.tables import Table
from p_rnn.training import losses as plain
from p_rnn.training.step import Update, per_example

# Compiled losses: the name of the C++ function, and its parameters after the gradient.
COMPILED: dict[Any, tuple[str, tuple[str, ...]]] = {
    plain.cross_entropy: ("cross_entropy", ()),
    plain.bpr_max: ("bpr_max", ("elu_param", "bpreg")),
    plain.top1: ("top1", ()),
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

    def tables(self, queries: Sequence[Tensor]) -> list[OutputRows]:
        """How the rows of the candidates are read from each output table."""
        tables = list(self.merge.tables)[: len(queries)]
        from_features = any(isinstance(table, FeatureTable) for table in tables)
        read: Dense = {}
        return [OutputRows(table, read, from_features) for table in tables]


class OutputRows:
    """An output table in a step: its weight [N, D] and the candidates, or their rows [C, D].

    Args:
        gathered: read the rows of the candidates; otherwise the loss reads them from the weight.
        read: the dense features of the candidates that were read before.
    """

    def __init__(self, table: nn.Module, read: Dense, gathered: bool) -> None:
        self.table, self.dense, self.gathered = table, read, gathered
        self.learns = any(p.requires_grad for p in table.parameters())

    def weight(self, items: Tensor | None) -> Tensor:
        """[N, D], or [C, D] where it is gathered."""
        if not self.gathered:
            assert isinstance(self.table, Table)
            return self.table.weight.detach()
        if items is None:
            if isinstance(self.table, Table):
                return self.table.weight.detach()
            assert isinstance(self.table, FeatureTable)
            items = torch.arange(self.table.num_trained)
        self.read = ReadRows(self.table, items, self.dense)
        return self.read.rows

    def rows(self, items: Tensor | None) -> Tensor:
        """[C, D], the rows of the candidates."""
        weight = self.weight(items)
        return weight if self.gathered or items is None else weight.index_select(0, items)

    def backward(self, gradient: Tensor | None, items: Tensor | None, found: Gradients) -> None:
        """Add the gradients of the parameters, given that [C, D] of the candidates' rows."""
        if gradient is None or not self.learns:
            return
        if isinstance(self.table, Table):
            add_rows(self.table, items, gradient, found)
        else:
            self.read.backward(gradient, found)


def add_rows(table: Table, items: Tensor | None, gradient: Tensor, found: Gradients) -> None:
    """Add the gradient of a table's rows of the candidates (None: of all)."""
    if not table.weight.requires_grad:
        return
    gradient = gradient.view(-1, table.width)
    if items is None:
        found.whole(table.weight, gradient)
    else:
        found.rows(table.weight, RowsRead(items, gradient))


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
        function: Any = update.loss
        compiled = getattr(function, "func", None) in COMPILED
        return compiled and not function.keywords.get("smoothing")

    def __call__(
        self, queries: Sequence[Tensor], batch: Batch, found: Gradients
    ) -> tuple[Tensor, list[Tensor]]:
        update, tables, bias, shift = self.update, self.tables(queries), self.merge.bias, None
        weights = [t.weight(batch.items) for t in tables]
        if bias is not None or update.log_support is not None:
            count = len(weights[0]) if batch.items is None else len(batch.items)
            shift = offset(
                None if bias is None else bias.weight.detach(),
                update.log_support,
                batch.items,
                batch.examples,
                self.settings.get("logq", 0.0),
                update.sample_alpha,
                count,
                weights[0],
            )
        gathered = any(t.gathered for t in tables)
        mean, of_queries, of_rows, of_offset = loss(
            self.name,
            queries,
            weights,
            None if gathered else batch.items,
            shift,
            batch.column,
            self.parameters,
            1 / update.batch_size,
            [t.learns for t in tables],
        )
        for table, gradient in zip(tables, of_rows, strict=True):
            table.backward(gradient, batch.items, found)
        if bias is not None and of_offset is not None:
            add_rows(bias, batch.items, of_offset, found)
        return mean, of_queries


class ProductsTail(_MergeTail):
    """Matrix products by PyTorch, and the loss from p_rnn/training/losses.py by autograd."""

    def __call__(
        self, queries: Sequence[Tensor], batch: Batch, found: Gradients
    ) -> tuple[Tensor, list[Tensor]]:
        off_tape()
        tables, bias, items = self.tables(queries), self.merge.bias, batch.items
        rows = [t.rows(items) for t in tables]
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
            if table.learns:
                table.backward(slope.t() @ q, items, found)
        if bias is not None:
            add_rows(bias, items, slope.sum(dim=0), found)
        return mean.detach(), [slope @ own for own in rows]
