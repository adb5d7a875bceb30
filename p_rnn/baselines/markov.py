"""First-order Markov chain: what followed the last item in training."""

from __future__ import annotations

from typing import Annotated

from p_rnn.baselines.ranker import LastItem, TrainingData
from p_rnn.baselines.sparse import transitions
from p_rnn.settings.declare import about


class Markov(LastItem):
    """score_j = sum of 1 / d over training pairs (i, j) at a distance of d <= `steps` events.

    i is the last item. steps=1 is the plain Markov chain, larger values are the sequential rules of
    Ludewig & Jannach (UMUAI 2018).
    """

    def __init__(
        self,
        training: TrainingData,
        *,
        steps: Annotated[int, about("largest distance of a pair, in events", low=1)] = 1,
    ) -> None:
        super().__init__(training)
        self.after = transitions(training.sessions, self.num_items, steps)
