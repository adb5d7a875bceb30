"""Live sessions, in memory: they expire, and their number is limited."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from p_rnn.recommend import LiveSession
from serving.settings import Settings


@dataclass
class Visit:
    touched: float  # the time of its last request
    clicks: int = 0  # accepted, of which some may still wait
    live: LiveSession | None = None  # the thread of the model makes and uses it


class Sessions:
    """In memory, in the order in which they were last used."""

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self._visits: OrderedDict[str, Visit] = OrderedDict()
        self._settings, self._clock = settings, clock
        self.expired = self.dropped = 0

    def get(self, name: str) -> Visit | None:
        self.expire()
        visit = self._visits.get(name)
        if visit is not None:
            visit.touched = self._clock()
            self._visits.move_to_end(name)
        return visit

    def open(self, name: str) -> Visit:
        visit = self.get(name)
        if visit is None:
            visit = self._visits[name] = Visit(self._clock())
            if len(self._visits) > self._settings.max_sessions:
                self._visits.popitem(last=False)
                self.dropped += 1
        return visit

    def close(self, name: str) -> bool:
        self.expire()
        return self._visits.pop(name, None) is not None

    def expire(self) -> None:
        latest = self._clock() - self._settings.ttl
        while self._visits and next(iter(self._visits.values())).touched < latest:
            self._visits.popitem(last=False)
            self.expired += 1

    def __len__(self) -> int:
        return len(self._visits)
