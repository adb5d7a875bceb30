"""First-order Markov chain: what has followed the last item."""

from __future__ import annotations

from typing import Annotated

from p_rnn.baselines.ranker import LastItem, Training
from p_rnn.baselines.sparse import transitions
from p_rnn.settings.declare import about


class Markov(LastItem):
    """score_j = sum over i ... j in training, d <= `steps` events apart, of 1 / d; i the last item.

    With steps=1 the plain chain of successors; with more, the sequential rules of Ludewig & Jannach
    (UMUAI 2018).
    """

    def __init__(
        self,
        training: Training,
        *,
        steps: Annotated[int, about("events after an item that count as its followers", low=1)] = 1,
    ) -> None:
        super().__init__(training)
        self.after = transitions(training.sessions, self.num_items, steps)
