"""Strategies: which subnets are in the score, and which learn, in each update.

A strategy maps the number of passes in which each subnet learns to the list of passes of the run;
no other code depends on the strategy. Residual, alternating and interleaving compute the loss on
the score of the ensemble: the residual of a ranking loss is its gradient at that score, as in
boosting (R: the paper speaks of the residual error of the subnets trained before).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from p_rnn.settings.components import bind
from p_rnn.settings.sections import Component


@dataclass(frozen=True)
class PassPlan:
    """What one pass over the data does.

    Attributes:
        in_score: the score is that of the first `in_score` subnets.
        updates: for each update of a mini-batch, the indices of the subnets that learn in it.
        stage: each stage starts from the best validation state of the one before.
        ends_cycle: whether all subnets of the stage have now had their turn, so that the pass is
            followed by validation.
    """

    in_score: int
    updates: tuple[tuple[int, ...], ...]
    stage: int = 0
    ends_cycle: bool = True


Strategy = Callable[[Sequence[int]], list[PassPlan]]  # given the passes in which each subnet learns


def _learning(epochs: Sequence[int], index: int) -> tuple[int, ...]:
    """The subnets that have not finished their epochs before pass (or cycle) `index`."""
    return tuple(k for k, count in enumerate(epochs) if index < count)


def simultaneous(epochs: Sequence[int]) -> list[PassPlan]:
    """One update per mini-batch, in which all subnets learn (P)."""
    return [PassPlan(len(epochs), (_learning(epochs, e),)) for e in range(max(epochs))]


def alternating(epochs: Sequence[int]) -> list[PassPlan]:
    """One update per mini-batch; the subnets take turns, one per pass (P: per epoch)."""
    passes = []
    for cycle in range(max(epochs)):
        turns = _learning(epochs, cycle)
        passes += [
            PassPlan(len(epochs), ((k,),), ends_cycle=position == len(turns) - 1)
            for position, k in enumerate(turns)
        ]
    return passes


def residual(epochs: Sequence[int]) -> list[PassPlan]:
    """One subnet after another, on the score of itself and those before, which are frozen (P)."""
    return [
        PassPlan(k + 1, ((k,),), stage=k) for k, count in enumerate(epochs) for _ in range(count)
    ]


def interleaving(epochs: Sequence[int]) -> list[PassPlan]:
    """One update per subnet on every mini-batch; each sees its predecessors already updated (P)."""
    return [
        PassPlan(len(epochs), tuple((k,) for k in _learning(epochs, e))) for e in range(max(epochs))
    ]


STRATEGIES: dict[str, Strategy] = {
    "simultaneous": simultaneous,
    "alternating": alternating,
    "residual": residual,
    "interleaving": interleaving,
}


def build_strategy(chosen: Component) -> Strategy:
    """The strategy of that name, with its parameters bound."""
    function, parameters = bind("strategy", chosen)
    return partial(function, **parameters)
