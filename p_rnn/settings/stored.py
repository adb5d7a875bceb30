"""Settings that a run has stored, and whether they are those of another run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from omegaconf.errors import OmegaConfBaseException

from p_rnn.settings.config import Settings
from p_rnn.settings.declare import About
from p_rnn.settings.errors import UserError
from p_rnn.settings.tree import leaves, read
from p_rnn.settings.upgrade import upgraded_config


def from_dict(plain: dict[str, Any], what: str) -> Settings:
    """The settings stored in a checkpoint or in metrics.json.

    Args:
        what: the file, for messages.

    Raises:
        UserError: a key that this version does not have, or a wrong type.
    """
    if (text := _interpolation(plain)) is not None:
        raise UserError(f"{what} has the setting {text}, which would read this machine; refused")
    try:
        config = read(upgraded_config(plain), Settings)
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{what} has settings of another version ({reason}); train again"
        ) from error
    assert isinstance(config, Settings)
    return config


def _interpolation(node: Any) -> str | None:
    """A text that OmegaConf would replace by something else; stored settings are plain."""
    if isinstance(node, str):
        return node if "${" in node else None
    below: Iterable[Any] = ()
    if isinstance(node, dict):
        below = [*node, *node.values()]
    elif isinstance(node, list | tuple):
        below = node
    return next((found for each in below if (found := _interpolation(each)) is not None), None)


def refuse_difference(what: str, stored: Settings, now: Settings, resuming: bool = False) -> None:
    """Make sure that a stored run had the settings of this one.

    Args:
        resuming: settings that may change when a run is resumed may differ.

    Raises:
        UserError: the first setting that differs.
    """
    differs = differences_of(
        stored,
        now,
        lambda known: (
            known["role"] not in ("machine", "output") and not (resuming and known.get("grows"))
        ),
    )
    for key, a, b in differs:
        raise UserError(
            f"{what} was trained with {key}={a}, not {b}: give the same, or another name"
        )


def differences_of(
    stored: Settings, now: Settings, counts: Callable[[About], bool]
) -> Iterator[tuple[str, Any, Any]]:
    """(key, then, now) of the settings that differ, among those of which `counts` holds."""
    then, current = (
        {key: (value, known) for key, value, known in leaves(node)} for node in (stored, now)
    )
    for key in {**then, **current}:
        if not counts((current.get(key) or then[key])[1]):
            continue
        # A subnet or feature that only one of them names has the default settings in the other.
        absent = 1.0 if key.startswith("subnets.") and key.endswith(".weight") else None
        a, b = ((node[key][0] if key in node else absent) for node in (then, current))
        # A run stores the features that null stood for.
        if a == b or (key == "selected_features" and b is None):
            continue
        a, b = ("null" if value is None else value for value in (a, b))
        yield key, a, b
