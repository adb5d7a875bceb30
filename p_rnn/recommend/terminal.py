"""A session in the terminal: a person picks items, and sees what is recommended next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from p_rnn.recommend.recommender import Recommender
from p_rnn.recommend.tables import items_table, reason, top_table
from p_rnn.recommend.top import Top

SHOWN = 5  # items of the session that are shown, the last ones
HELP = """\
  3       the third item of the list
  A-7     the item with this id
  =3      the item with the id 3, where ids look like numbers of the list or commands
  back    undo the last click
  new     begin a new session
  ?       this help
  q       quit"""


class Terminal:
    """Reads what a person types, one line at a time."""

    def __init__(
        self, recommender: Recommender, options: dict[str, Any], say: Callable[[str], None] = print
    ) -> None:
        """
        Args:
            options: of `LiveSession.top`: k, exclude_seen, candidates.
            say: shows a text.
        """
        self._recommender, self._options, self._say = recommender, options, say
        self._session = recommender.start()
        self._top: Top = self._session.top(**options)

    def run(self, ask: Callable[[str], str]) -> None:
        """Until the person quits, or `ask`, a function such as `input`, has no more lines."""
        self._say(f"{self._recommender}\n{HELP}")
        self._show()
        while True:
            try:
                line = ask("> ").strip()
            except EOFError:
                self._say("")
                return
            if line == "q":
                return
            if line:
                self._do(line)

    def _do(self, line: str) -> None:
        if line == "?":
            self._say(HELP)
        elif line == "new":
            self._begin([])
        elif line == "back":
            if self._session.history:
                self._begin(self._session.history[:-1])
            else:
                self._say("there is no click to undo")
        elif line.startswith("=") and line[1:].strip():
            self._click(line[1:].strip())
        elif line.isdecimal() and 1 <= int(line) <= len(self._top):
            self._click(self._top.ids[int(line) - 1])
        else:
            self._click(line)

    def _begin(self, clicks: list[Any]) -> None:
        """A session of these clicks; states cannot be taken back, so they are read again."""
        self._session = self._recommender.start()
        for item in clicks:
            self._session.click(item)
        self._show()

    def _click(self, item: Any) -> None:
        index = int(self._recommender.catalogue.index([item])[0])
        if why := reason(self._recommender, index):
            words = "is unknown" if why == "unknown" else "is known, but the model cannot read it"
            self._say(f"the item '{item}' {words}; a number of the list, an id, or ? for help")
            return
        self._session.click(self._recommender.catalogue.ids_of([index])[0])
        self._show()

    def _show(self) -> None:
        history = self._session.history
        self._top = self._session.top(**self._options)
        if history:
            more = f", the last {SHOWN} of {len(history)}" if len(history) > SHOWN else ""
            self._say(f"\nsession{more}:\n{items_table(self._recommender, history[-SHOWN:])}\n")
        else:
            self._say("\na session that begins:\n")
        self._say(top_table(self._top) if len(self._top) else "no item is left to recommend")
