"""Subnets of a fast step: forward, and a hand-written backward where that is faster.

A runner computes the output of a subnet on a mini-batch, and from the gradient of that output the
gradients of the subnet's parameters. `AutogradRunner` serves any subnet, `GRURunner` subnets of
GRUs.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from p_rnn.batches import Batch
from p_rnn.fast.gradients import Gradients
from p_rnn.fast.native.functions import (
    GateValues,
    before_backward,
    before_forward,
    gates_backward,
    gates_forward,
    mask,
    product,
    times,
)
from p_rnn.fast.native.tape import off_tape
from p_rnn.fast.rows import ReadRows, dense_rows
from p_rnn.models.cells import State
from p_rnn.models.cells.gru import GRU
from p_rnn.models.dropout import Dropout
from p_rnn.models.features import DenseRows
from p_rnn.models.inputs import Direct, ItemRows, Projection
from p_rnn.models.network import Subnet


class SubnetRunner(Protocol):
    def forward(self, batch: Batch, state: State) -> tuple[Tensor, State]:
        """The subnet's output [M, H] and its state after the mini-batch, detached."""

    def backward(self, gradient: Tensor, found: Gradients) -> None:
        """Add the gradients of the parameters to `found`, given that [M, H] of the output."""


class AutogradRunner:
    """Runs any subnet, with autograd."""

    def __init__(self, subnet: Subnet) -> None:
        self.subnet = subnet

    def forward(self, batch: Batch, state: State) -> tuple[Tensor, State]:
        off_tape()
        with torch.enable_grad():
            if batch.repeat is None:
                after = self.subnet(batch.inputs, state)
                self.output = after[self.subnet.layers.top]
            else:
                assert batch.picks is not None
                outputs = self.subnet.scan(batch.inputs, batch.repeat, batch.widths)
                self.output, after = outputs.index_select(0, batch.picks), state
        return self.output.detach(), tuple(h.detach() for h in after)

    def backward(self, gradient: Tensor, found: Gradients) -> None:
        if self.output.requires_grad:
            torch.autograd.backward(self.output, gradient)
        del self.output


class Input:
    """An input of a subnet: computes gate inputs, and the gradients of its parameters."""

    def __init__(self, read: nn.Module, weight: float) -> None:
        self.read, self.weight = read, weight
        self.viewed: ReadRows | None = None

    def forward(self, items: Tensor) -> Tensor:
        assert isinstance(self.read, (Direct, Projection))
        x = self.x = self._view(self.read.view, items)
        if isinstance(self.read, Projection):
            self.mask = mask(self.read.dropout, x)
            if self.mask is not None:
                self.x = times(x, self.mask)
            x = product(self.x, self.read.weight)
        return x if self.weight == 1 else times(x, scale=self.weight)

    def backward(self, of_a: Tensor, found: Gradients) -> None:
        if self.weight != 1:
            of_a = times(of_a, scale=self.weight)
        if isinstance(self.read, Projection):
            found.whole(self.read.weight, product(self.x.t(), of_a))
            if self.viewed is None:
                return  # a dense feature has no parameters before W
            of_x = product(of_a, self.read.weight, turned=True)
            of_a = of_x if self.mask is None else times(of_x, self.mask)
        assert self.viewed is not None
        self.viewed.backward(of_a, found)

    def _view(self, view: nn.Module, items: Tensor) -> Tensor:
        if isinstance(view, DenseRows):
            self.viewed = None
            return dense_rows(view, items, {})
        self.viewed = ReadRows(view.table if isinstance(view, ItemRows) else view, items)
        return self.viewed.rows


class GRURunner:
    """Runs a subnet of GRUs, with hand-written gradients."""

    def __init__(self, subnet: Subnet) -> None:
        self.subnet = subnet
        self.inputs = [
            Input(read, weight) for read, weight in zip(subnet.inputs, subnet.weights, strict=True)
        ]

    @staticmethod
    def serves(subnet: Subnet) -> bool:
        cells = all(isinstance(c, GRU) for c in subnet.layers.cells)
        return cells and all(isinstance(x, (Direct, Projection)) for x in subnet.inputs)

    def forward(self, batch: Batch, state: State) -> tuple[Tensor, State]:
        layers, total = self.subnet.layers, None
        for each in self.inputs:
            a = each.forward(batch.inputs)
            total = a if total is None else times(a, to=total)
        assert total is not None
        a, self.steps = total, list[GateValues]()
        for k, (cell, dropout) in enumerate(zip(layers.cells, layers.dropouts, strict=True)):
            assert isinstance(cell, GRU)
            assert isinstance(dropout, Dropout)
            if k > 0:
                a = product(self.steps[-1].output, layers.inputs[k - 1])
            self.steps.append(_forward(cell, a, state[k], mask(dropout, state[k])))
        return self.steps[-1].output, tuple(each.output for each in self.steps)

    def backward(self, gradient: Tensor, found: Gradients) -> None:
        layers = self.subnet.layers
        for k in reversed(range(len(self.steps))):
            cell, step = layers.cells[k], self.steps[k]
            assert isinstance(cell, GRU)
            of_a = _backward(cell, step, gradient, found)
            if k > 0:
                weight, below = layers.inputs[k - 1], self.steps[k - 1].output
                found.whole(weight, product(below.t(), of_a))
                gradient = product(of_a, weight, turned=True)
        for each in self.inputs:
            each.backward(of_a, found)
        self.steps = []


def _forward(cell: GRU, a: Tensor, h: Tensor, drop: Tensor | None) -> GateValues:
    """A step of a cell from its gate inputs a [B, 3H]."""
    if not cell.reset_after:
        return before_forward(a, cell.recurrent, cell.bias, h, drop)
    return gates_forward(a, product(h, cell.recurrent), cell.bias, cell.input_bias, h, drop)


def _backward(cell: GRU, step: GateValues, gradient: Tensor, found: Gradients) -> Tensor:
    """Add the gradients of a cell's parameters, given that of h' [B, H]; return that of a."""
    if not cell.reset_after:
        of_a, of_u, of_c = before_backward(step, cell.recurrent, gradient)
        found.whole(cell.recurrent, of_u)
    else:
        of_a, of_u, of_d, of_c = gates_backward(step, gradient)
        h = step.tensors[4]
        assert h is not None
        found.whole(cell.recurrent, product(h.t(), of_u))
        found.whole(cell.input_bias, of_d)
    found.whole(cell.bias, of_c)
    return of_a


def runner_of(subnet: Subnet) -> SubnetRunner:
    """The fastest runner of a subnet for session-parallel mini-batches."""
    return GRURunner(subnet) if GRURunner.serves(subnet) else AutogradRunner(subnet)
