"""Names to things: look a name up, and hand a function exactly the settings that it takes."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from p_rnn.settings.errors import UserError

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
    raise UserError(f"unknown {kind} '{name}'{suggest(str(name), registry)}")


def settings_for(
    kind: str,
    function: Callable[..., Any],
    settings: Any,
    of: type | None = None,
    name: str | None = None,
) -> dict[str, Any]:
    """The settings that `function` takes, out of a dataclass in which null means "not given".

    The keyword-only parameters of `function` are its settings: those with a default may stay
    null. A setting that is given but that the function does not take would be inert.

    Args:
        kind: the node of the settings, for messages ("loss").
        settings: the dataclass; its field `name`, if any, is not a setting.
        of: the dataclass whose fields count, when `settings` inherits from it.
        name: what `function` is called in messages; default `settings.name`.

    Raises:
        UserError: an inert setting, or a needed one that is null.
    """
    name = name or settings.name
    signature = inspect.signature(function).parameters.values()
    takes = [p for p in signature if p.kind is inspect.Parameter.KEYWORD_ONLY]
    known = {p.name for p in takes}
    given = {f.name: getattr(settings, f.name) for f in fields(of or settings) if f.name != "name"}
    given = {key: value for key, value in given.items() if value is not None}
    for key in given:
        if key not in known:
            what = f"takes {', '.join(sorted(known))}" if known else "takes no parameters"
            raise UserError(
                f"{kind}.{key} has no effect: {name} {what}; leave it out or set it to null"
            )
    for p in takes:
        if p.name not in given and p.default is inspect.Parameter.empty:
            raise UserError(f"{kind}.{p.name} is null, but {name} needs it")
    return given
