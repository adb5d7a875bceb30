"""A session that goes on: its state is kept, so that a click costs one step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from p_rnn.evaluation.ranking import State
from p_rnn.recommend.top import Top

if TYPE_CHECKING:
    from p_rnn.recommend.recommender import Recommender


class LiveSession:
    """One session of a recommender; made by `Recommender.start`.

    It is not for several threads at the same time.

    Attributes:
        history: the raw ids that the model has read, in their order.
        skipped: the ids that it could not read.
        items: the item indices of all known ids among both.
        state: of the ranker, for one session.
    """

    def __init__(self, recommender: Recommender, state: State) -> None:
        self._recommender = recommender
        self.state = state
        self.history: list[Any] = []
        self.skipped: list[Any] = []
        self.items: list[int] = []

    def click(self, item_id: Any) -> bool:
        """The session goes on with this item; returns whether the model could read it."""
        return self._recommender.step_many([self], [item_id])[0]

    def top(self, k: int = 20, exclude_seen: bool = False, candidates: Any = None) -> Top:
        """The best items after the clicks so far; see `Recommender.recommend`."""
        return self._recommender.top_many([self], k, exclude_seen, candidates)[0]

    def __repr__(self) -> str:
        return f"LiveSession: {len(self.history)} read, {len(self.skipped)} skipped"
