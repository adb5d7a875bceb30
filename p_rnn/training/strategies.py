"""Strategies: which subnets are in the score, and which learn, in each update.

A strategy turns the passes that each subnet has to learn in into the passes of the run, one after
the other. Nothing else knows which strategy runs. Residual, alternating and interleaving take the
loss on the score of the ensemble: the residual of a ranking loss is its gradient there, as in
boosting (R: the paper speaks of the residual error of those trained before).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from p_rnn.settings.components import bind
from p_rnn.settings.sections import Component


@dataclass(frozen=True)
class PassPlan:
    """One pass over the data.

    Attributes:
        in_score: the leading subnets that run and count.
        updates: of each mini-batch: the numbers of the subnets that learn, update after update.
        stage: validation chooses the best state of each stage, and the next one starts from it.
        ends_cycle: whether all subnets of the stage have had their turn: time to validate.
    """

    in_score: int
    updates: tuple[tuple[int, ...], ...]
    stage: int = 0
    ends_cycle: bool = True


Strategy = Callable[[Sequence[int]], list[PassPlan]]  # of the passes in which each subnet learns


def _learning(epochs: Sequence[int], index: int) -> tuple[int, ...]:
    """The subnets that have not finished their epochs before pass (or cycle) `index`."""
    return tuple(k for k, count in enumerate(epochs) if index < count)


def simultaneous(epochs: Sequence[int]) -> list[PassPlan]:
    """One update of a mini-batch, and all learn in it (P)."""
    return [PassPlan(len(epochs), (_learning(epochs, e),)) for e in range(max(epochs))]


def alternating(epochs: Sequence[int]) -> list[PassPlan]:
    """One update, and the subnets take turns by pass (P: per epoch)."""
    passes = []
    for cycle in range(max(epochs)):
        turns = _learning(epochs, cycle)
        passes += [
            PassPlan(len(epochs), ((k,),), ends_cycle=position == len(turns) - 1)
            for position, k in enumerate(turns)
        ]
    return passes


def residual(epochs: Sequence[int]) -> list[PassPlan]:
    """One subnet after the other, on the score of those before and itself; then it rests (P)."""
    return [
        PassPlan(k + 1, ((k,),), stage=k) for k, count in enumerate(epochs) for _ in range(count)
    ]


def interleaving(epochs: Sequence[int]) -> list[PassPlan]:
    """An update for each subnet on every mini-batch; each sees its predecessors updated (P)."""
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
    """The strategy of that name, its parameters bound."""
    function, parameters = bind("strategy", chosen)
    return partial(function, **parameters)
