"""Inputs: from item indices to the three gate inputs a = (a_r, a_z, a_n) of the first layer.

A *view* is what an input sees of an item: rows of a table by id (`ItemRows`), pooled rows by the
tokens of its bag (`PooledRows`), or its dense vector (`DenseRows`). A view that is 3H wide is the
gate inputs at once, namely the product of a 1-of-N or bag vector with W (`Direct`); any other
passes through a `Projection`.

An input takes distinct items [U] and `repeat` [P], which of them stands at each of P places (None:
each once), so that what depends on the item alone is computed once per item.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from p_rnn.data.features import BagFeature, DenseFeature
from p_rnn.models.ahead import Ahead
from p_rnn.models.dropout import Dropout
from p_rnn.models.plans import Bags, RowPlan, plan_bags, plan_rows
from p_rnn.models.table import Init, Table, uniform_
from p_rnn.random import Streams

# Dense features move to the GPU when they take at most this part of its free memory.
SHARE_OF_DEVICE = 0.5
# Room for tokens in a step, against the largest step of the first block.
MARGIN = 1.25


class ItemRows(nn.Module):
    """The row of an item id: E_i of an embedding, or its column of W, 3H wide (1-of-N, P)."""

    def __init__(self, table: Table) -> None:
        super().__init__()
        self.table = table

    def forward(self, items: Tensor) -> Tensor:
        """[B] -> [B, D]."""
        return self.table.rows(items)


class DenseRows(Ahead):
    """The dense vector phi of an item, gathered from a memory-mapped file or on the GPU."""

    def __init__(self, feature: DenseFeature, device: torch.device) -> None:
        super().__init__()
        values = torch.from_numpy(feature.values)  # [N, D], no copy
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if values.nbytes <= SHARE_OF_DEVICE * free:
                values = values.to(device)
        self.values = values
        self.device = device
        self.width: int = values.shape[1]
        self.numbers = self.width

    def wanted(self, learning: bool) -> bool:
        return self.values.device != self.device

    def ahead(self, items: Tensor) -> list[Tensor]:
        return [self._gather(items.flatten()).view(*items.shape, self.width)]

    def _gather(self, items: Tensor) -> Tensor:
        # Where values stay in main memory the CPU waits here for the item indices.
        rows = self.values.index_select(0, items.to(self.values.device))
        return rows.to(items.device)

    def forward(self, items: Tensor) -> Tensor:
        """[B] -> [B, D], as stored: float16 or float32."""
        return self.now[0] if self.now else self._gather(items)


class PooledRows(Ahead):
    """Rows of a table by the tokens of an item's bag, pooled; an empty bag gives zeros.

    With weights u: sum = sum_v u_v row_v, mean = sum / sum_v u_v, max = max_v u_v row_v per column.
    """

    def __init__(
        self, feature: BagFeature, table: Table, pooling_mode: str, device: torch.device
    ) -> None:
        super().__init__()
        self.table = table  # [V, D]
        self.pooling_mode = pooling_mode
        self.offsets = torch.from_numpy(feature.offsets).to(device)
        self.tokens = torch.from_numpy(feature.tokens).to(device)
        self.weights = None
        if feature.weights is not None:
            self.weights = torch.from_numpy(feature.weights).to(device)
        self.numbers = 8 * (1 + len(feature.tokens) // len(feature.offsets))
        self.capacity = 0  # tokens of a step that `ahead` makes room for

    def wanted(self, learning: bool) -> bool:
        return True

    def ahead(self, items: Tensor) -> list[Tensor]:
        """The bags of each step, and their plan."""
        bags = self._bags(items)
        if self.pooling_mode == "max":
            plan = plan_rows(bags.rows, self.table.num_rows)
        else:
            plan = plan_bags(bags, self.table.num_rows)
        return [bags.rows, bags.weights, bags.starts, bags.owner, *plan.tensors()]

    def forward(self, items: Tensor) -> Tensor:
        """[B] -> [B, D]."""
        if self.now:
            bags, plan = Bags(*self.now[:4]), RowPlan(*self.now[4:])
        else:
            many = self._bags(items[None])
            bags, plan = Bags(many.rows[0], many.weights[0], many.starts[0], many.owner[0]), None
        if self.pooling_mode != "max":
            return self.table.bags(bags, plan)
        rows = self.table.rows(bags.rows, plan) * bags.weights[:, None]
        # The padding belongs to one place more.
        lowest = rows.new_full((len(items) + 1, rows.shape[1]), float("-inf"))
        index = bags.owner[:, None].expand_as(rows)
        # Rows that tie share the gradient.
        largest = lowest.scatter_reduce(0, index, rows, "amax")[:-1]
        return torch.where(largest == float("-inf"), 0.0, largest)

    def _bags(self, items: Tensor) -> Bags:
        """[T, B] -> the bags of T steps, padded to the same number of tokens."""
        steps, batch = items.shape
        flat = items.flatten()
        start = self.offsets[flat]
        length = self.offsets[flat + 1] - start
        of_step = length.view(steps, batch).sum(dim=1)
        total, most = torch.stack([of_step.sum(), of_step.max()]).tolist()  # the CPU waits
        if steps > 1 and not self.capacity:
            # Steps that have more have shapes of their own.
            self.capacity = -(-int(most * MARGIN) // 64) * 64
        width = max(self.capacity if steps > 1 else 0, most)
        place = torch.repeat_interleave(length, output_size=total)  # of T * B places
        first = length.cumsum(0) - length
        at = torch.arange(total, device=items.device)
        token = at + (start - first)[place]
        step = place // batch
        first_of_step = of_step.cumsum(0) - of_step
        to = step * width + at - first_of_step[step]  # where it stands in [T, width]

        weight = torch.ones(total, dtype=self.table.storage.dtype, device=items.device)
        if self.weights is not None:
            weight = self.weights[token].to(weight.dtype)
        if self.pooling_mode == "mean":
            mass = weight.new_zeros(len(flat)).index_add_(0, place, weight)
            weight = weight / mass[place]
        rows = flat.new_full((steps * width,), self.table.num_rows)
        rows[to] = self.tokens[token].long()
        owner = flat.new_full((steps * width,), batch)
        owner[to] = place % batch
        weights = weight.new_zeros(steps * width)
        weights[to] = weight
        starts = first.view(steps, batch) - first_of_step[:, None]
        shape = (steps, width)
        return Bags(rows.view(shape), weights.view(shape), starts, owner.view(shape))


class Direct(nn.Module):
    """a = x, the view of the item."""

    def __init__(self, view: nn.Module) -> None:
        super().__init__()
        self.view = view

    def forward(self, items: Tensor, repeat: Tensor | None = None) -> Tensor:
        """[U], [P] -> [P, 3H]."""
        a: Tensor = self.view(items)
        return a if repeat is None else a.index_select(0, repeat)


class Projection(nn.Module):
    """a = dropout(x) W, x = the view of the item."""

    def __init__(
        self,
        view: nn.Module,
        width: int,
        hidden_size: int,
        dropout: float,
        name: str,
        streams: Streams,
        init: Init = uniform_,
    ) -> None:
        super().__init__()
        self.view = view
        self.dropout = Dropout(dropout, width, streams.running(f"{name}/dropout_embedding"))
        self.weight = nn.Parameter(torch.empty(width, 3 * hidden_size))  # W [D, 3H]
        init(self.weight, streams.initial(f"{name}/input"), gates=3)

    def forward(self, items: Tensor, repeat: Tensor | None = None) -> Tensor:
        """[U], [P] -> [P, 3H]; every place has its own dropout."""
        x: Tensor = self.view(items).to(self.weight.dtype)
        if repeat is not None and self.dropout.active:
            x, repeat = x.index_select(0, repeat), None
        a: Tensor = self.dropout(x) @ self.weight
        return a if repeat is None else a.index_select(0, repeat)


class Embedded(nn.Module):
    """A dense view in fewer dimensions: phi E, E [D, width]."""

    def __init__(self, view: DenseRows, width: int, name: str, streams: Streams, init: Init):
        super().__init__()
        self.view = view
        self.weight = nn.Parameter(torch.empty(view.width, width))
        init(self.weight, streams.initial(f"{name}/embedding"))

    def forward(self, items: Tensor) -> Tensor:
        """[B] -> [B, width]."""
        x: Tensor = self.view(items).to(self.weight.dtype) @ self.weight
        return x


def new_table(num_rows: int, width: int, key: str, streams: Streams, init: Init = uniform_,
              gates: int = 1) -> Table:  # fmt: skip
    """A table [num_rows, width], its initial weights from the stream `key`."""
    table = Table(num_rows, width)
    init(table.weight, streams.initial(key), gates=gates)
    return table
