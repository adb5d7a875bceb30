"""Every setting by its dotted key, and the range that is declared beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from p_rnn.settings.errors import UserError
from p_rnn.settings.registry import suggest


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted key, value, dataclass field) of every setting below `node`."""
    for f in fields(node):
        value = getattr(node, f.name)
        if is_dataclass(value):
            yield from leaves(value, f"{prefix}{f.name}.")
        elif isinstance(value, dict) and all(map(is_dataclass, value.values())):
            for name, entry in value.items():
                yield from leaves(entry, f"{prefix}{f.name}.{name}.")
        else:
            yield f"{prefix}{f.name}", value, f


def check_ranges(config: Any) -> None:
    """Refuse values outside the bounds and words declared beside each setting.

    Raises:
        UserError: the first offending key, with what it takes.
    """
    for key, value, f in leaves(config):
        if value is None:
            continue
        meta = f.metadata
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{key}={value} must be a finite number")
        if "options" in meta and value not in meta["options"]:
            raise UserError(f"{key}='{value}' is not a choice{suggest(value, meta['options'])}")
        bounds = {
            f"at least {meta.get('low')}": meta.get("low") is None or value >= meta["low"],
            f"at most {meta.get('high')}": meta.get("high") is None or value <= meta["high"],
            f"above {meta.get('above')}": meta.get("above") is None or value > meta["above"],
            f"below {meta.get('below')}": meta.get("below") is None or value < meta["below"],
        }
        for bound, holds in bounds.items():
            if not holds:
                raise UserError(f"{key}={value} must be {bound}")
