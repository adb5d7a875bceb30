"""How a setting is declared: its default, its range, its role and a word about it, in one place.

A setting of a section is a dataclass field made by `setting`; a parameter of a loss, cell, reader
and so on is a keyword-only parameter, annotated as `Annotated[float, about("...", low=0)]`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

# What a setting is of. Fingerprints, resume checks, rows of a report, names of jobs and HParams ask
# for the role of a setting; none of them keeps a list of its own.
ROLES = ("data", "model", "training", "evaluation", "machine", "output")


class About(dict[str, Any]):
    """What is known of a setting: help, low, high, above, below, options, role and marks."""

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)


def about(help: str = "", **known: Any) -> About:
    """What is known of a setting.

    Args:
        help: a word on it, shown by --help and in docs/settings.md.
        known: `low` and `high` (closed bounds), `above` and `below` (open bounds), `options` (the
            words that it takes), `role` (one of ROLES; default: that of the section), and marks:
            `items` (of items, not of events), `later` (older versions did not have it, so where it
            has its default, what they prepared or measured stays valid), `networks` (without
            effect where nothing is trained), `learning` (of the model, but only while it learns),
            `grows` (may change when a run is resumed), `column` (a report has a column for it),
            `figures` (changes which figures are printed, not what is measured).
    """
    return About(help=help, **known)


def setting(default: Any, help: str = "", **known: Any) -> Any:
    """A field of a section of settings; a mutable default is given as a function."""
    made = {"default_factory": default} if callable(default) else {"default": default}
    return dataclasses.field(**made, metadata=about(help, **known))


def number(default: Any, help: str = "", low: float | None = None, **known: Any) -> Any:
    """A numeric setting of at least `low`."""
    return setting(default, help, low=low, **known)


def choice(default: str | None, *options: str, help: str = "", **known: Any) -> Any:
    """A setting that takes one of a few words."""
    return setting(default, help, options=options, **known)
