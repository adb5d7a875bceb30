"""The best items for a session."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from p_rnn.data.catalogue import Catalogue


@dataclass(frozen=True)
class Top:
    """The best items for a session, best first.

    Attributes:
        ids: their raw ids.
        scores: their scores; only their order has a meaning, and only within one session.
        skipped: ids of the session that the model could not read, in their order.
    """

    ids: list[Any]
    scores: list[float]
    skipped: list[Any]
    items: list[int] = field(repr=False, compare=False)
    catalogue: Catalogue = field(repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.ids)

    def to_frame(self) -> pd.DataFrame:
        """One row per item: item, score, and the properties of its item table."""
        own = {"item": self.ids, "score": self.scores}
        return pd.DataFrame({**own, **self.catalogue.labels(self.items), **own})
