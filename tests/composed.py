"""Settings as `load_config` gives them, at less cost: Hydra takes a fifth of a second each time."""

from __future__ import annotations

import copy
import re
from dataclasses import fields, replace
from functools import cache

from p_rnn.settings.config import Config
from p_rnn.settings.hydra_glue import load_config

SECTIONS = {f.name for f in fields(Config)}


def composed(*overrides: str) -> Config:
    """`load_config(*overrides)`, each section composed alone, and once a process.

    No section of the settings depends on another one before they are resolved
    (test_composed.py). What reaches into several, as an experiment does, is composed whole.
    """
    words: dict[str, list[str]] = {}
    for override in overrides:
        words.setdefault(re.split("[.=]", override, maxsplit=1)[0], []).append(override)
    if not words.keys() <= SECTIONS:
        return load_config(*overrides)
    sections = {name: getattr(_once(*given), name) for name, given in words.items()}
    return copy.deepcopy(replace(_once(), **sections))


@cache
def _once(*overrides: str) -> Config:
    return load_config(*overrides)
