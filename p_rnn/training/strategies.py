"""Strategies: which subnet learns in which update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from p_rnn.config import StrategyConfig
from p_rnn.registry import lookup, settings_for


class Strategy(Protocol):
    """What the trainer asks; it never asks which strategy it has."""

    def num_passes(self, num_epochs: int) -> int:
        """Passes over the data until every subnet has learned in `num_epochs` of them."""

    def num_updates(self, index: int) -> int:
        """Updates on each mini-batch of pass `index`."""


class Simultaneous:
    """One update per mini-batch, and everything learns in it."""

    def num_passes(self, num_epochs: int) -> int:
        return num_epochs

    def num_updates(self, index: int) -> int:
        return 1


STRATEGIES: dict[str, Callable[..., Strategy]] = {"simultaneous": Simultaneous}


def build_strategy(config: StrategyConfig) -> Strategy:
    """The strategy of a config."""
    cls = lookup("strategy", STRATEGIES, config.name)
    return cls(**settings_for("strategy", cls, config))
