"""What is chosen by name: losses, cells, optimizers, readers, ... and the parameters of each.

A component is a function or class in a registry, a plain dict. Its keyword-only parameters are its
settings: names, types and defaults are those of the signature, and a range and a word of help are
an annotation, `Annotated[float, about("...", low=0)]`. Nothing else lists them, so a component of a
plugin has its settings on the command line, in --help and in reports like those of the package.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from p_rnn.settings.errors import UserError
from p_rnn.settings.registry import lookup
from p_rnn.settings.sections import Component
from p_rnn.settings.tree import check_ranges, plain

# Where the registries lie. They are above this room, so they are imported when first asked for.
HOMES = {
    "model": "p_rnn.models.architectures:MODELS",
    "baseline": "p_rnn.baselines:BASELINES",
    "cell": "p_rnn.models.cells:CELLS",
    "strategy": "p_rnn.training.strategies:STRATEGIES",
    "loss": "p_rnn.training.losses:LOSSES",
    "optimizer": "p_rnn.training.optimizers:OPTIMIZERS",
    "schedule": "p_rnn.training.schedules:SCHEDULES",
    "dataset.reader": "p_rnn.data.readers:READERS",
    "dataset.features.*.kind": "p_rnn.data.features.kinds:KINDS",
}


def registry(kind: str) -> dict[str, Any]:
    """The things of a kind by name."""
    module, _, name = HOMES[kind].partition(":")
    found: dict[str, Any] = getattr(importlib.import_module(module), name)
    return found


@cache
def parameters_of(function: Callable[..., Any]) -> type[Any]:
    """The settings of a component: a dataclass of its keyword-only parameters."""
    target = function.__init__ if inspect.isclass(function) else function
    try:
        hints = typing.get_type_hints(target, include_extras=True)
    except NameError:  # of a plugin that imports its types for checkers only
        hints = {}
    made = []
    for p in inspect.signature(function).parameters.values():
        if p.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        hint, known = hints.get(p.name, Any), {}
        if typing.get_origin(hint) is typing.Annotated:
            hint, known = typing.get_args(hint)
        default = dataclasses.MISSING if p.default is inspect.Parameter.empty else p.default
        made.append((p.name, hint, dataclasses.field(default=default, metadata=known)))
    return dataclasses.make_dataclass(f"{function.__name__}_parameters", made, kw_only=True)


def check_parameters(
    section: str,
    name: str,
    function: Callable[..., Any],
    given: Mapping[str, Any],
    beside: Iterable[str] = (),
) -> dict[str, Any]:
    """The parameters with which a component runs: what is given (not null), and its defaults.

    Args:
        section: of the settings, for messages ("loss").
        name: what the component is called in messages ("bpr_max").
        beside: the settings of the section that are no parameters, one of which may be meant.

    Raises:
        UserError: a parameter that it does not take, has another type or range, or that it needs.
    """
    schema = parameters_of(function)
    known = {f.name: f for f in dataclasses.fields(schema)}
    given = {key: value for key, value in given.items() if value is not None}
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(key, [*known, *beside], n=1, cutoff=0.7)
            what = f"takes {', '.join(sorted(known))}" if known else "takes no parameters"
            mend = "leave it out or set it to null"
            if close:
                mend = f"did you mean {section}.{close[0]}?"
            raise UserError(f"{section}.{key} has no effect: {name} {what}; {mend}")
    for key, f in known.items():
        if key not in given and f.default is dataclasses.MISSING:
            raise UserError(f"{section}.{key} is null, but {name} needs it")
    values = {key: given.get(key, f.default) for key, f in known.items()}
    if all(fits(value, known[key].type) for key, value in values.items()):
        check_ranges(schema(**values), f"{section}.")
        return values
    try:  # most of the time of building a small network
        made = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), plain(given)))
    except OmegaConfBaseException as error:
        key, reason = str(error.full_key or ""), str(error).splitlines()[0]
        if reason.startswith("Key '"):
            raise UserError(
                f"unknown setting '{section}.{key}'; {name} does not have it"
            ) from error
        raise UserError(f"{section}.{key}: {in_words(reason)}") from error
    check_ranges(made, f"{section}.")
    return {key: getattr(made, key) for key in known}


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is already what OmegaConf would make of it, as nearly all are."""
    alone = typing.get_origin(hint) not in (typing.Union, UnionType)
    if type(value) not in ((hint,) if alone else typing.get_args(hint)):
        return False
    literal = isinstance(value, str) and "${" not in value and value != "???"
    return literal or isinstance(value, (bool, int, float, NoneType))


def in_words(reason: str) -> str:
    """OmegaConf's words for a wrong type in those of a person."""
    for theirs, ours in (
        ("Float", "a number"),
        ("Integer", "a whole number"),
        ("Boolean", "true or false"),
    ):
        reason = reason.replace(f"could not be converted to {theirs}", f"is not {ours}")
    return reason


def bind(kind: str, chosen: Component) -> tuple[Any, dict[str, Any]]:
    """What is chosen by name, and the parameters with which it runs.

    Raises:
        UserError: an unknown name, or wrong parameters.
    """
    function = lookup(kind, registry(kind), chosen.name)
    return function, check_parameters(kind, str(chosen.name), function, chosen.parameters)


def filled(kind: str, chosen: Component) -> Component:
    """The same component with every parameter."""
    _, parameters = bind(kind, chosen)
    return dataclasses.replace(chosen, parameters=parameters)
