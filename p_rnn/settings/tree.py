"""Walking the tree of settings: each setting by its dotted key, ranges, plain dicts and back."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from omegaconf import OmegaConf

from p_rnn.settings.declare import About
from p_rnn.settings.errors import UserError
from p_rnn.settings.registry import suggest
from p_rnn.settings.sections import Component, Open

Leaf = tuple[str, Any, About]
# Larger ones are infinite in 32 bits, in which networks compute, or do not fit into an index.
LARGEST_FLOAT, LARGEST_INT = 3.4e38, 2**62


def leaves(node: Any, prefix: str = "", role: str | None = None) -> Iterator[Leaf]:
    """(dotted key, value, what is known of it) of every setting; roles are inherited."""
    for f in dataclasses.fields(node):
        value, known = getattr(node, f.name), About(f.metadata)
        own = known["role"] = known.get("role", role)
        # Parameters of what is chosen by name stand beside the settings of their section.
        key = prefix.rstrip(".") if f.name == "parameters" else f"{prefix}{f.name}"
        if dataclasses.is_dataclass(value) or isinstance(value, dict):
            yield from _inside(value, key, About({**_marks(known), "role": own}))
        else:
            yield key, value, known


def _marks(known: Mapping[str, Any]) -> dict[str, Any]:
    """What holds for all below a section."""
    return {mark: known[mark] for mark in ("items", "networks", "column") if mark in known}


def _inside(node: Any, key: str, known: About) -> Iterator[Leaf]:
    if dataclasses.is_dataclass(node):
        for name, below, more in leaves(node, f"{key}.", known.get("role")):
            yield name, below, About({**_marks(known), **more})
    elif isinstance(node, dict):
        for name, value in node.items():
            yield from _inside(value, f"{key}.{name}", known)
    else:
        yield key, node, known


def check_ranges(config: Any, prefix: str = "") -> None:
    """Refuse values outside the bounds and words declared beside each setting.

    Raises:
        UserError: the first offending key, with what it takes.
    """
    for key, value, known in leaves(config, prefix):
        if value is not None:
            check_range(key, value, known)


def check_range(key: str, value: Any, known: Mapping[str, Any]) -> None:
    """The same of one setting."""
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{key}={value} must be a finite number")
    if isinstance(value, float | int):
        most = LARGEST_FLOAT if isinstance(value, float) else LARGEST_INT
        if abs(value) > most:
            raise UserError(f"{key}={value} must be at most {most:.15g}")
    options = known.get("options")
    if options and value not in options:
        raise UserError(f"{key}='{value}' is not a choice{suggest(str(value), options)}")
    low, high, above, below = (known.get(bound) for bound in ("low", "high", "above", "below"))
    for bound, holds in (
        (f"at least {low}", low is None or value >= low),
        (f"at most {high}", high is None or value <= high),
        (f"above {above}", above is None or value > above),
        (f"below {below}", below is None or value < below),
    ):
        if not holds:
            raise UserError(f"{key}={value} must be {bound}")


def plain(node: Any) -> Any:
    """Nested dicts as YAML has them; the inverse of `read`."""
    if dataclasses.is_dataclass(node):
        found: dict[str, Any] = {}
        for f in dataclasses.fields(node):
            value = plain(getattr(node, f.name))
            found |= value if f.name == "parameters" else {f.name: value}
        return found
    if isinstance(node, dict):
        return {key: plain(value) for key, value in node.items()}
    return [plain(value) for value in node] if isinstance(node, list | tuple) else node


def simple(node: Any) -> Any:
    """`plain`, and what Python has beside the values of YAML as those: NumPy's numbers, paths."""
    node = plain(node)
    if isinstance(node, dict):
        return {str(key): simple(value) for key, value in node.items()}
    if isinstance(node, list):
        return [simple(value) for value in node]
    if isinstance(node, PurePath):
        return str(node)
    return node.item() if hasattr(node, "item") and not hasattr(node, "items") else node


def as_word(value: Any) -> str:
    """A value in the syntax of overrides."""
    if isinstance(value, list):
        return f"[{','.join(map(as_word, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def as_overrides(settings: Mapping[str, Any]) -> list[str]:
    """key=value of each."""
    return [f"{key}={as_word(value)}" for key, value in settings.items()]


def read(content: Mapping[str, Any], schema: type[Any]) -> Any:
    """Nested dicts as an object of the schema, every type checked.

    Raises:
        OmegaConfBaseException: an unknown key, or a value of another type.
    """
    tree = OmegaConf.structured(schema)
    for f in dataclasses.fields(schema):
        default = None if f.default_factory is dataclasses.MISSING else f.default_factory()
        if isinstance(default, Open) and f.name in content:
            tree[f.name] = type(default)()  # parameters of the default do not stay
    return OmegaConf.to_object(OmegaConf.merge(tree, _nested(content, schema)))


def _nested(content: Any, schema: Any) -> Any:
    """With the parameters of each open section below `parameters`."""
    if not isinstance(content, dict):
        return content
    if typing.get_origin(schema) is dict:
        below = typing.get_args(schema)[1]
        return {key: _nested(value, below) for key, value in content.items()}
    if not dataclasses.is_dataclass(schema):
        return content
    hints = typing.get_type_hints(schema)
    known = {key: _nested(v, hints[key]) for key, v in content.items() if key in hints}
    rest = {key: value for key, value in content.items() if key not in hints}
    if issubclass(schema, Open):  # type: ignore[arg-type]
        return {**known, "parameters": rest}
    return {**known, **rest}


def known_of(schema: type[Any], prefix: str = "", role: str | None = None) -> Iterator[Leaf]:
    """(key, default, what is known) of every declared setting; `*` for the names of sections."""
    hints = typing.get_type_hints(schema)
    for f in dataclasses.fields(schema):
        hint, known = hints[f.name], About(f.metadata)
        own = known["role"] = known.get("role", role)
        if f.name == "parameters":
            continue
        default = None if f.default_factory is dataclasses.MISSING else f.default_factory()
        below = typing.get_args(hint)[1] if typing.get_origin(hint) is dict else None
        if dataclasses.is_dataclass(default):
            for key, value, more in known_of(type(default), f"{prefix}{f.name}.", own):
                if isinstance(default, Component) and key.endswith(".name"):
                    value = default.name or known.get("otherwise")
                    more = About({**more, "help": known["help"]})
                yield key, value, About({**_marks(known), **more})
        elif dataclasses.is_dataclass(below):
            for leaf, value, more in known_of(below, f"{prefix}{f.name}.*.", own):  # type: ignore[arg-type]
                yield leaf, value, About({**_marks(known), **more})
        elif below is not Any:
            yield prefix + f.name, f.default if default is None else default, known
