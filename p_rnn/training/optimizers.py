"""Optimizers that move dense parameters whole and tables row by row.

An optimizer is a rule `apply(weight, gradient, slots)` on rows of any number: the same rule serves
a dense parameter and the rows of a table that a step touched. Rows that were not touched
keep their weights and their slots.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from p_rnn.config import OptimizerConfig
from p_rnn.models.network import PRNN
from p_rnn.registry import lookup, settings_for

Slots = dict[str, Tensor]


class Optimizer(ABC):
    """Steps every parameter of a network that has a gradient."""

    slot_names: tuple[str, ...]

    def __init__(self, network: PRNN, learning_rate: float) -> None:
        self.learning_rate = learning_rate
        self.tables = network.tables()
        self.dense: dict[str, nn.Parameter] = {
            name: p for name, p in network.named_parameters() if p.requires_grad
        }
        self.slots: dict[str, Slots] = {
            name: {slot: torch.zeros_like(weight.data) for slot in self.slot_names}
            for name, weight in self._weights()
        }
        # Per parameter, because one that does not learn in an update rests, its count included.
        self.counts = dict.fromkeys(self.slots, 0)

    def _weights(self) -> Iterator[tuple[str, Tensor]]:
        yield from self.dense.items()
        yield from ((name, table.weight) for name, table in self.tables.items())

    @abstractmethod
    def apply(self, weight: Tensor, gradient: Tensor, slots: Slots, count: int) -> None:
        """Move `weight` and `slots` in place, for the count-th time; may overwrite `gradient`."""

    @torch.no_grad()
    def step(self, measure: bool = False) -> Tensor | None:
        """Apply and clear all gradients; with `measure`, their joint L2 norm (0-d tensor)."""
        gradients: list[Tensor] = []
        for name, parameter in self.dense.items():
            if parameter.grad is not None:
                gradient, parameter.grad = parameter.grad, None
                if measure:
                    gradients.append(gradient.clone())
                self.counts[name] += 1
                self.apply(parameter, gradient, self.slots[name], self.counts[name])
        for name, table in self.tables.items():
            taken = table.take_gradient()
            if taken is None:
                continue
            rows, gradient = taken.rows, taken.values
            self.counts[name] += 1
            if measure:
                gradients.append(gradient.clone())
                if taken.repeated is not None:
                    gradients[-1][taken.repeated] = 0
            if rows is None:
                self.apply(table.weight, gradient, self.slots[name], self.counts[name])
                continue
            weight = table.weight.index_select(0, rows)
            slots = {slot: x.index_select(0, rows) for slot, x in self.slots[name].items()}
            self.apply(weight, gradient, slots, self.counts[name])
            table.weight.index_copy_(0, rows, weight)
            for slot, x in self.slots[name].items():
                x.index_copy_(0, rows, slots[slot])
        if not measure:
            return None
        return torch.stack([g.square().sum() for g in gradients]).sum().sqrt()

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain Python only."""
        return {"counts": self.counts, "slots": self.slots}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.counts = dict(state["counts"])
        for name, slots in self.slots.items():
            for slot, x in slots.items():
                x.copy_(state["slots"][name][slot])


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

    def apply(self, weight: Tensor, gradient: Tensor, slots: Slots, count: int) -> None:
        acc = slots["acc"].addcmul_(gradient, gradient)
        gradient.mul_((acc + 1e-6).rsqrt_())
        if self.momentum:
            velocity = slots["velocity"].mul_(self.momentum)
            weight.add_(velocity.sub_(gradient, alpha=self.learning_rate))
        else:
            weight.sub_(gradient, alpha=self.learning_rate)


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015) with bias correction; on tables for the touched rows."""

    slot_names = ("mean", "square")

    def __init__(
        self, network: PRNN, learning_rate: float, *, beta1: float, beta2: float, eps: float
    ) -> None:
        self.betas = (beta1, beta2)
        self.eps = eps
        super().__init__(network, learning_rate)

    def apply(self, weight: Tensor, gradient: Tensor, slots: Slots, count: int) -> None:
        beta1, beta2 = self.betas
        mean = slots["mean"].lerp_(gradient, 1 - beta1)
        square = slots["square"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        scale = self.learning_rate / (1 - beta1**count)
        root = (square / (1 - beta2**count)).sqrt_().add_(self.eps)
        weight.addcdiv_(mean, root, value=-scale)


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"adagrad": Adagrad, "adam": Adam}


def build_optimizer(config: OptimizerConfig, network: PRNN, learning_rate: float) -> Optimizer:
    """The optimizer of a resolved config for all parameters of a network."""
    cls = lookup("optimizer", OPTIMIZERS, config.name)
    return cls(network, learning_rate, **settings_for("optimizer", cls, config))
