"""Learning rate schedules.

A schedule maps progress, from 0 at the start to 1 at the end of training, to a factor of the
learning rate. With strategy=residual every stage has its own progress from 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from p_rnn.settings.components import bind
from p_rnn.settings.sections import ScheduleConfig

# Called as schedule(progress, *, parameters).
Schedule = Callable[..., float]


def constant(progress: float) -> float:
    """The configured learning rate throughout."""
    return 1.0


def linear(progress: float) -> float:
    """Linear decay to zero."""
    return 1.0 - progress


def cosine(progress: float) -> float:
    """Cosine decay to zero (Loshchilov & Hutter 2017)."""
    return 0.5 * (1.0 + math.cos(math.pi * progress))


SCHEDULES: dict[str, Schedule] = {"constant": constant, "linear": linear, "cosine": cosine}


def build_schedule(chosen: ScheduleConfig) -> Callable[[float, float], float]:
    """A function of (epoch, num_epochs): linear warm-up, then the schedule over the rest."""
    schedule, parameters = bind("schedule", chosen)
    warm = chosen.warmup_epochs

    def factor(epoch: float, num_epochs: float) -> float:
        if epoch < warm:
            return epoch / warm
        progress = min(1.0, (epoch - warm) / max(num_epochs - warm, 1e-9))
        return float(schedule(progress, **parameters))

    return factor


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Set the learning rate; in place if it is a tensor, as in a captured CUDA graph."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(value)
        else:
            group["lr"] = value
