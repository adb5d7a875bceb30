"""Schedules: the factor of the learning rate over the course of a run.

A schedule maps progress, from 0 at the beginning to 1 at the end, to a factor. With
strategy=residual each stage is a run of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from p_rnn.settings.config import ScheduleConfig
from p_rnn.settings.registry import lookup

Schedule = Callable[[float], float]


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


def factor_at(config: ScheduleConfig, epoch: float, num_epochs: float) -> float:
    """The factor after `epoch` of `num_epochs` epochs: the warm-up, then the schedule."""
    schedule = lookup("schedule", SCHEDULES, config.name)
    warm = config.warmup_epochs
    if epoch < warm:
        return epoch / warm
    return schedule(min(1.0, (epoch - warm) / max(num_epochs - warm, 1e-9)))


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Where it is a tensor, as in a captured step, the tensor gets the value."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(value)
        else:
            group["lr"] = value
