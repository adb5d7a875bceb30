"""Schedules: the factor of the learning rate over the course of a run.

A schedule maps progress, from 0 at the beginning to 1 at the end, to a factor. With
strategy=residual each stage is a run of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from p_rnn.settings.components import bind
from p_rnn.settings.sections import ScheduleConfig

# Of (progress, *, parameters).
Schedule = Callable[..., float]


def constant(progress: float) -> float:
    """The learning rate as it was given."""
    return 1.0


def linear(progress: float) -> float:
    """Down to zero in a straight line."""
    return 1.0 - progress


def cosine(progress: float) -> float:
    """Down to zero in half a cosine wave (Loshchilov & Hutter 2017)."""
    return 0.5 * (1.0 + math.cos(math.pi * progress))


SCHEDULES: dict[str, Schedule] = {"constant": constant, "linear": linear, "cosine": cosine}


def build_schedule(chosen: ScheduleConfig) -> Callable[[float, float], float]:
    """The factor after `epoch` of `num_epochs` epochs: the warm-up, then the schedule."""
    schedule, parameters = bind("schedule", chosen)
    warm = chosen.warmup_epochs

    def factor(epoch: float, num_epochs: float) -> float:
        if epoch < warm:
            return epoch / warm
        progress = min(1.0, (epoch - warm) / max(num_epochs - warm, 1e-9))
        return float(schedule(progress, **parameters))

    return factor


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Where it is a tensor, as in a captured step, the tensor gets the value."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(value)
        else:
            group["lr"] = value
