"""What a setting is of, asked by its key: the questions of reports, resume checks and sweeps."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from functools import cache
from typing import Any

from p_rnn.settings.components import parameters_of, registry
from p_rnn.settings.config import Settings
from p_rnn.settings.declare import About
from p_rnn.settings.tree import Leaf, known_of

OWN = ""  # the default of a parameter that several components take with different ones
# The registry whose entries take the parameters of a section.
TAKERS = {
    "dataset": "dataset.reader",
    "dataset.features.*": "dataset.features.*.kind",
    "cell": "cell",
    "baseline": "baseline",
    "strategy": "strategy",
    "loss": "loss",
    "optimizer": "optimizer",
    "schedule": "schedule",
}


def every_setting() -> Iterator[Leaf]:
    """(key, default, what is known) of every setting, parameters of registered components too.

    `*` stands for the name of a subnet or a feature. A parameter is known with `takers`, the
    names of the components that take it.
    """
    yield from known_of(Settings)
    for section, kind in TAKERS.items():
        yield from _parameters(section, kind, _role(section))


def _role(key: str) -> str:
    """The role of the section of a key."""
    section = Settings.__dataclass_fields__[key.partition(".")[0]]
    return str(section.metadata["role"])


def _parameters(section: str, kind: str, role: str) -> Iterator[Leaf]:
    found: dict[str, tuple[Any, About]] = {}
    for name, component in registry(kind).items():
        for key, default, known in _flat(parameters_of(component), section):
            takers = [*found[key][1]["takers"], name] if key in found else [name]
            if key in found and found[key][0] != default:
                default = OWN
            found[key] = (default, About({"role": role, **known, "takers": takers}))
    for key, (default, known) in found.items():
        yield key, default, known


def _flat(schema: type[Any], prefix: str) -> Iterator[tuple[str, Any, About]]:
    for f in dataclasses.fields(schema):
        section = next((t for t in _types(f.type) if dataclasses.is_dataclass(t)), None)
        if section is None:
            yield f"{prefix}.{f.name}", f.default, About(f.metadata)
            continue
        of_items = {"items": True} if f.metadata.get("items") else {}
        for key, default, known in known_of(typing.cast(type[Any], section), f"{prefix}.{f.name}."):
            yield key, default, About({**known, **of_items, "role": "data"})


def _types(hint: Any) -> tuple[Any, ...]:
    return getattr(hint, "__args__", None) or (hint,)


@cache
def _known() -> dict[str, About]:
    return {key: known for key, _, known in every_setting()}


def about_key(key: str) -> About:
    """What is known of a setting; empty, with the role None, for a key that this version lacks.

    A parameter of a plugin that was not loaded is known by its section.
    """
    words = key.split(".")
    at = 1 if words[0] == "subnets" else 2  # of the name of a subnet or feature
    if (words[0] == "subnets" or words[:2] == ["dataset", "features"]) and len(words) > at:
        words[at] = "*"
    known = _known().get(".".join(words))
    if known is None and words[0] in TAKERS:
        known = About({"role": _role(key)})
    return known or About({"role": None})


def decides_targets(key: str) -> bool:
    """Whether a setting says what the targets are and how they are ranked."""
    known = about_key(key)
    return known["role"] == "evaluation" and not known.get("figures")


def decides_events(key: str) -> bool:
    """Whether a setting decides what the prepared events are."""
    known = about_key(key)
    return known["role"] == "data" and not known.get("items")


def tells_rows_apart(key: str) -> bool:
    """Whether runs that differ by it are rows of their own in a report."""
    known = about_key(key)
    return known["role"] in ("data", "model", "training") and not known.get("column")
