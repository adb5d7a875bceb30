"""Names to things: look a name up, or say which one was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from p_rnn.settings.errors import UserError
from p_rnn.settings.folders import conf_file
from p_rnn.settings.hints import ours

T = TypeVar("T")


def suggest(name: str, known: Iterable[str]) -> str:
    """`"; did you mean X? Known: A, B, X"`, the tail of a message about an unknown name."""
    options = sorted(known)
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    hint = f"; did you mean '{close[0]}'?" if close else "."
    return f"{hint} Known: {', '.join(options)}"


def lookup(kind: str, registry: Mapping[str, T], name: str | None) -> T:
    """The entry `name` of a registry.

    Raises:
        UserError: unknown name; the message suggests the nearest one and lists all.
    """
    if name is not None and name in registry:
        return registry[name]
    other = ours(kind, str(name)) or next((k for k in registry if k == str(name).lower()), None)
    if other:
        raise UserError(f"unknown {kind} '{name}'; here it is {kind}={other}")
    if name is not None and conf_file(kind, name) is not None:
        raise UserError(
            f"unknown {kind} '{name}': conf/{kind}/{name}.yaml is there, but nothing registers it; "
            "name its module in plugins=[...]"
        )
    raise UserError(f"unknown {kind} '{name}'{suggest(str(name), registry)}")
