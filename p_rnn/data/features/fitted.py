"""What a kind has learned from the training items, so that items that come later can be added."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from p_rnn.data.checksums import undamaged
from p_rnn.data.features.values import Column, Rows
from p_rnn.settings.errors import UserError

FITTED = "fitted.json"
VOCABULARY = "vocabulary.json"  # the tokens in order of their numbers


@dataclass(frozen=True)
class Fitted:
    """The fitted state of a feature.

    Attributes:
        kind: its name in `KINDS`.
        settings: all parameters with which the kind ran.
        columns: names of the columns from which the values came.
        state: plain values: what the kind put into its argument `fitted`, with "vocabulary"
            (tokens in order of their numbers) if it has one, and "types", one per column:
            "text", "lists" or the NumPy type of its numbers. That of a prepared folder is read
            when it is first looked at.
    """

    kind: str
    settings: dict[str, Any]
    columns: list[str]
    state: Mapping[str, Any]

    def plain(self) -> dict[str, Any]:
        """Only dicts, lists, text and numbers: `Fitted(**plain)` is the same again.

        Raises:
            UserError: the prepared folder of the feature is damaged, or has gone.
        """
        return {
            "kind": self.kind,
            "settings": dict(self.settings),
            "columns": list(self.columns),
            "state": dict(self.state),
        }


class StoredState(Mapping[str, Any]):
    """The state in the folder of a feature; read when it is first looked at."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __getitem__(self, key: str) -> Any:
        return self._content[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    @cached_property
    def _content(self) -> dict[str, Any]:
        words = self._folder / VOCABULARY
        with undamaged(self._folder, f"delete {self._folder} to have it fitted again"):
            state: dict[str, Any] = json.loads((self._folder / FITTED).read_text("utf-8"))
            if len(state["types"]) and words.exists():
                state["vocabulary"] = json.loads(words.read_text("utf-8"))
        return state


def save_state(folder: Path, kind: str, fitted: dict[str, Any], columns: list[Column]) -> None:
    """Write what a kind has put into `fitted`, the vocabulary in a file of its own.

    Raises:
        UserError: something else than plain values in it.
    """
    state = {"types": [type_of(column) for column in columns], **fitted}
    words = state.pop("vocabulary", None)
    try:
        if words is not None:
            (folder / VOCABULARY).write_text(json.dumps(words), "utf-8")
        (folder / FITTED).write_text(json.dumps(state) + "\n", "utf-8")
    except TypeError as error:
        raise UserError(
            f"kind={kind} must fill `fitted` with plain numbers, text, lists and dicts ({error})"
        ) from error


def type_of(column: Column) -> str:
    """What the values of a column are: "text", "lists", or the NumPy type of numbers."""
    if isinstance(column, Rows):
        return str(column.values.dtype)
    present = [value for value in column.values if value is not None]
    lists = bool(present) and all(isinstance(value, list) for value in present)
    return "lists" if lists else "text"
