"""Optimizers that move dense parameters whole and tables row by row.

An optimizer is a rule `apply(weight, gradient, slots)` on rows of any number: the same rule serves
a dense parameter and the rows of a table that a step touched. Rows that were not touched
keep their weights and their slots.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from p_rnn import native
from p_rnn.config import OptimizerConfig
from p_rnn.models.network import PRNN
from p_rnn.models.plans import RowPlan
from p_rnn.models.table import RowGradient
from p_rnn.native import EPS
from p_rnn.registry import lookup, settings_for

Slots = dict[str, Tensor]


class Optimizer(ABC):
    """Steps every parameter of a network that has a gradient."""

    slot_names: tuple[str, ...]
    counting = False  # whether the rule depends on the number of updates

    def __init__(self, network: PRNN, learning_rate: float) -> None:
        self.learning_rate = learning_rate
        self.tables = network.tables()
        self.dense: dict[str, nn.Parameter] = {
            name: p for name, p in network.named_parameters() if p.requires_grad
        }
        self.slots: dict[str, Slots] = {
            name: {slot: torch.zeros_like(weight) for slot in self.slot_names}
            for name, weight in self._weights()
        }
        # Updates of each parameter: one that does not learn in an update rests, its count included.
        # One tensor, because a compiled step would take numbers, and tensors of one, for constants.
        device = next(iter(self._weights()))[1].device
        size = max(len(self.slots), 2)
        self.counts = torch.zeros(size, dtype=torch.float64, device=device)
        self.places = {name: place for place, name in enumerate(self.slots)}

    def _weights(self) -> Iterator[tuple[str, Tensor]]:
        """What is moved; of a table the storage, scratch row included."""
        for name, parameter in self.dense.items():
            yield name, parameter.detach()
        yield from ((name, table.storage) for name, table in self.tables.items())

    @abstractmethod
    def apply(self, weight: Tensor, gradient: Tensor, slots: Slots, count: Tensor) -> None:
        """Move `weight` and `slots` in place, for the count-th time; may overwrite `gradient`."""

    @torch.no_grad()
    def step(
        self, measure: bool = False, plans: Mapping[str, RowPlan] | None = None
    ) -> Tensor | None:
        """Apply and clear all gradients; with `measure`, their joint L2 norm (0-d tensor).

        Args:
            plans: by the name of the table, of the reads of this step, where made ahead.
        """
        squares: list[Tensor] = []
        for name, parameter in self.dense.items():
            if parameter.grad is not None:
                gradient, parameter.grad = parameter.grad, None
                if measure:
                    squares.append(gradient.square().sum())
                self._apply(name, parameter.detach(), gradient)
        for name, table in self.tables.items():
            taken = table.take_gradient(plans.get(name) if plans else None)
            if taken is None:
                continue
            if measure:
                squares.append(taken.values.square().sum())
            if taken.plan is None:
                self._apply(name, table.storage[:-1], taken.source)
            else:
                self._apply_rows(name, table.storage, taken)
        return torch.stack(squares).sum().sqrt() if measure else None

    def _apply(self, name: str, weight: Tensor, gradient: Tensor) -> None:
        slots = {slot: x[: len(weight)] for slot, x in self.slots[name].items()}
        self.apply(weight, gradient, slots, self._count(name))

    def _count(self, name: str) -> Tensor:
        count = self.counts[self.places[name]]
        return count.add_(1) if self.counting else count

    def _apply_rows(self, name: str, storage: Tensor, taken: RowGradient) -> None:
        """The same for some rows; the scratch row may come often, with a gradient of zero."""
        rows = taken.rows
        assert rows is not None
        weight = storage.index_select(0, rows)
        slots = {slot: x.index_select(0, rows) for slot, x in self.slots[name].items()}
        self.apply(weight, taken.values, slots, self._count(name))
        storage.index_copy_(0, rows, weight)
        for slot, x in self.slots[name].items():
            x.index_copy_(0, rows, slots[slot])

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain Python only."""
        counts = {name: int(self.counts[place]) for name, place in self.places.items()}
        slots = {
            name: {slot: self._stored(name, x) for slot, x in slots.items()}
            for name, slots in self.slots.items()
        }
        return {"counts": counts, "slots": slots}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, count in state["counts"].items():
            self.counts[self.places[name]] = count
        for name, slots in self.slots.items():
            for slot, x in slots.items():
                self._stored(name, x).copy_(state["slots"][name][slot])

    def _stored(self, name: str, slot: Tensor) -> Tensor:
        """Without the scratch row."""
        return slot if name in self.dense else slot[:-1]


class Adagrad(Optimizer):
    """acc += g^2;  v = momentum * v - lr * g / sqrt(acc + 1e-6);  w += v, on touched rows (P).

    Rows read twice in a step have their gradients summed before they are squared.
    """

    slot_names: tuple[str, ...] = ("acc", "velocity")

    def __init__(self, network: PRNN, learning_rate: float, *, momentum: float) -> None:
        self.momentum = momentum
        if momentum == 0:
            self.slot_names = ("acc",)
        super().__init__(network, learning_rate)

    def apply(self, weight: Tensor, gradient: Tensor, slots: Slots, count: Tensor) -> None:
        acc = slots["acc"].addcmul_(gradient, gradient)
        gradient.mul_((acc + EPS).rsqrt_())
        if self.momentum:
            velocity = slots["velocity"].mul_(self.momentum)
            weight.add_(velocity.sub_(gradient, alpha=self.learning_rate))
        else:
            weight.sub_(gradient, alpha=self.learning_rate)

    def _apply_rows(self, name: str, storage: Tensor, taken: RowGradient) -> None:
        plan = taken.plan
        if plan is None or not native.serves(storage):
            super()._apply_rows(name, storage, taken)
            return
        acc, velocity = self.slots[name]["acc"], self.slots[name].get("velocity")
        sources = [x.contiguous() for x in taken.sources]
        torch.ops.p_rnn.adagrad_rows(
            storage, acc, velocity, sources, plan.rows, plan.starts, plan.order, plan.weights,
            self.learning_rate, self.momentum,
        )  # fmt: skip


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015) with bias correction; on tables for the touched rows."""

    slot_names = ("mean", "square")
    counting = True

    def __init__(
        self, network: PRNN, learning_rate: float, *, beta1: float, beta2: float, eps: float
    ) -> None:
        self.betas = (beta1, beta2)
        self.eps = eps
        super().__init__(network, learning_rate)

    def apply(self, weight: Tensor, gradient: Tensor, slots: Slots, count: Tensor) -> None:
        beta1, beta2 = self.betas
        mean = slots["mean"].lerp_(gradient, 1 - beta1)
        square = slots["square"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        scale = (self.learning_rate / (1 - beta1**count)).to(weight.dtype)
        root = (square / (1 - beta2**count).to(weight.dtype)).sqrt_().add_(self.eps)
        weight.sub_(mean * scale / root)


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"adagrad": Adagrad, "adam": Adam}


def build_optimizer(config: OptimizerConfig, network: PRNN, learning_rate: float) -> Optimizer:
    """The optimizer of a resolved config for all parameters of a network."""
    cls = lookup("optimizer", OPTIMIZERS, config.name)
    return cls(network, learning_rate, **settings_for("optimizer", cls, config))
