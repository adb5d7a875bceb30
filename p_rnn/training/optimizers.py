"""Optimizers that update dense parameters whole, and of tables only the rows with a gradient.

Each is a `torch.optim.Optimizer` with one rule, applied to a dense parameter or to the touched rows
of a table. Rows without a gradient keep their weights and their slots (the optimizer state), and
have no weight decay. The learning rate may be a number or a 0-d tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from p_rnn.settings.components import bind
from p_rnn.settings.declare import about
from p_rnn.settings.sections import Component
from p_rnn.training.gradients import summed_rows

Momentum = Annotated[float, about("momentum, of the touched rows only", low=0, below=1)]
Decay = Annotated[float, about("weight decay, of the touched rows only", low=0)]
Beta = Annotated[float, about("decay of a running mean", low=0, below=1)]
Eps = Annotated[float, about("added to the root", above=0)]
EPS = 1e-6  # in Adagrad's root (P)
ParameterGroup = dict[str, Any]


class RowOptimizer(torch.optim.Optimizer):
    """Applies a rule to every parameter that has a gradient.

    Attributes:
        slots: names of the state tensors, each of the shape of its parameter.
        counting: whether the rule depends on the number of updates.
    """

    slots: tuple[str, ...] = ()
    counting = False

    def __init__(self, params: Iterable[nn.Parameter], lr: float, **settings: float) -> None:
        super().__init__(params, {"lr": lr, **settings})

    def rule(
        self,
        weight: Tensor,
        gradient: Tensor,
        slots: Sequence[Tensor],
        group: ParameterGroup,
        count: Any,
    ) -> None:
        """Update `weight` and `slots` in place; `count`: updates so far, 0-d, if `counting`."""
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        assert closure is None, "a mini-batch is read once"
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._move(p, group)

    def slots_of(self, p: nn.Parameter) -> list[Tensor]:
        """The slots of a parameter, zeros initially."""
        state = self.state[p]
        for name in self.slots:
            if name not in state:
                state[name] = torch.zeros_like(p)
        return [state[name] for name in self.slots]

    def _move(self, p: nn.Parameter, group: ParameterGroup) -> None:
        slots = self.slots_of(p)
        count = self.count(p) if self.counting else None
        assert p.grad is not None
        if not p.grad.is_sparse:
            self._apply(p, p.grad, slots, group, count)
            return
        rows, gradient = summed_rows(p.grad)
        moved = [x.index_select(0, rows) for x in (p, *slots)]
        self._apply(moved[0], gradient, moved[1:], group, count)
        for x, new in zip((p, *slots), moved, strict=True):
            x.index_copy_(0, rows, new)  # duplicate rows hold equal values

    def _apply(
        self,
        weight: Tensor,
        gradient: Tensor,
        slots: Sequence[Tensor],
        group: ParameterGroup,
        count: Any,
    ) -> None:
        if group["weight_decay"] != 0:
            gradient = self.decay(weight, gradient, group)
        self.rule(weight, gradient, slots, group, count)

    def decay(self, weight: Tensor, gradient: Tensor, group: ParameterGroup) -> Tensor:
        """Add the gradient of an L2 penalty, as PyTorch's optimizers do."""
        return gradient.add(weight, alpha=group["weight_decay"])

    def count(self, p: nn.Parameter) -> Tensor:
        """Count an update of a parameter, float64 0-d; updates while it is frozen do not count."""
        state = self.state[p]
        count = state.get("step")
        if count is None:
            count = torch.zeros((), dtype=torch.float64, device=p.device)
        state["step"] = count.to(p.device)  # loaded from a checkpoint it is on the CPU
        return state["step"].add_(1)  # type: ignore[no-any-return]


class Adagrad(RowOptimizer):
    """acc += g^2;  v = momentum * v - lr * g / sqrt(acc + 1e-6);  w += v, on touched rows (P).

    The gradients of a row that was read twice in a step are summed before squaring.
    """

    slots: tuple[str, ...] = ("acc", "velocity")

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        *,
        momentum: Momentum = 0.0,
        weight_decay: Decay = 0.0,
    ) -> None:
        if momentum == 0:
            self.slots = ("acc",)
        super().__init__(params, lr, momentum=momentum, weight_decay=weight_decay)

    def rule(
        self,
        weight: Tensor,
        gradient: Tensor,
        slots: Sequence[Tensor],
        group: ParameterGroup,
        count: Any,
    ) -> None:
        acc, *velocity = slots
        root = acc.addcmul_(gradient, gradient).add(EPS).sqrt_()
        if velocity:
            weight.add_(descend_(velocity[0].mul_(group["momentum"]), gradient, root, group["lr"]))
        else:
            descend_(weight, gradient, root, group["lr"])


def descend_(x: Tensor, gradient: Tensor, root: Tensor, lr: float | Tensor) -> Tensor:
    """x -= lr * gradient / root."""
    if isinstance(lr, Tensor):
        return x.sub_(gradient / root * lr)
    return x.addcdiv_(gradient, root, value=-lr)


class SGD(RowOptimizer):
    """v = momentum * v + g;  w -= lr * v, on touched rows."""

    slots: tuple[str, ...] = ("velocity",)

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        *,
        momentum: Momentum = 0.0,
        weight_decay: Decay = 0.0,
    ) -> None:
        if momentum == 0:
            self.slots = ()
        super().__init__(params, lr, momentum=momentum, weight_decay=weight_decay)

    def rule(
        self,
        weight: Tensor,
        gradient: Tensor,
        slots: Sequence[Tensor],
        group: ParameterGroup,
        count: Any,
    ) -> None:
        if slots:
            gradient = slots[0].mul_(group["momentum"]).add_(gradient)
        weight.sub_(gradient * group["lr"])


class Adam(RowOptimizer):
    """Adam (Kingma & Ba 2015) with bias correction; of tables only the touched rows."""

    slots = ("mean", "square")
    counting = True

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        *,
        beta1: Beta = 0.9,
        beta2: Beta = 0.999,
        eps: Eps = 1e-8,
        weight_decay: Decay = 0.0,
    ) -> None:
        super().__init__(params, lr, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay)

    def rule(
        self,
        weight: Tensor,
        gradient: Tensor,
        slots: Sequence[Tensor],
        group: ParameterGroup,
        count: Any,
    ) -> None:
        mean, square = slots
        beta1, beta2 = group["beta1"], group["beta2"]
        mean.lerp_(gradient, 1 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        scale = (group["lr"] / (1 - beta1**count)).to(weight.dtype)
        root = (square / (1 - beta2**count).to(weight.dtype)).sqrt_().add_(group["eps"])
        weight.sub_(mean * scale / root)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019): w -= lr * decay * w first."""

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        *,
        beta1: Beta = 0.9,
        beta2: Beta = 0.999,
        eps: Eps = 1e-8,
        weight_decay: Decay = 0.01,
    ) -> None:
        super().__init__(params, lr, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay)

    def decay(self, weight: Tensor, gradient: Tensor, group: ParameterGroup) -> Tensor:
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        return gradient


# Called as optimizer(parameters, learning_rate, *, settings).
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adagrad": Adagrad,
    "adam": Adam,
    "adamw": AdamW,
    "sgd": SGD,
}


def build_optimizer(
    chosen: Component, parameters: Iterable[nn.Parameter], learning_rate: float
) -> torch.optim.Optimizer:
    """Build the optimizer of that name."""
    cls, settings = bind("optimizer", chosen)
    made: torch.optim.Optimizer = cls(parameters, learning_rate, **settings)
    return made
