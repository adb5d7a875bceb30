"""How the jobs of a sweep are called: by what it varies."""

from __future__ import annotations

import hashlib
import os
import re
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

SWEPT = "P_RNN_SWEPT_KEYS"  # environment variable
LONGEST = 120  # of a job's folder, well below the 255 bytes that file systems allow


def _short(key: str) -> str:
    """The last word of a key; of a subnet's or a feature's setting its name as well."""
    words = key.lstrip("+").split(".")
    named = words[0] == "subnets" or "features" in words
    return ".".join(words[-2:] if named else words[-1:])


def swept_keys(arguments: list[str]) -> list[str]:
    """The keys of a command line that a sweep varies: those with several values."""
    words = [word for word in arguments if "=" in word and not word.startswith("-")]
    try:
        parsed = OverridesParser.create().parse_overrides(words)
    except HydraException:
        return []  # Hydra says it better
    return [o.get_key_element().lstrip("+") for o in parsed if o.is_sweep_override()]


def job_name(overrides: str, params: Any = None) -> str:
    """The folder name of a job of a sweep: what the sweep varies, as lr=0.1,num_layers=2.

    Args:
        overrides: the job's own, as "key=value,key=value".
        params: {key: values} of a sweep that the config defines.
    """
    varied = {*os.environ.get(SWEPT, "").split(","), *(params or {})}
    # Values can hold commas, so cut only where a key follows.
    pairs = [pair.partition("=") for pair in re.split(r",(?=\+*[\w@/.]+=)", overrides)]
    chosen = [p for p in pairs if p[0].lstrip("+") in varied] or pairs
    text = ",".join(f"{_short(key)}={value}" for key, _, value in chosen)
    allowed = re.sub(r"[^\w=,.\-\[\]]+", "_", text)
    name = allowed.strip("=") or "defaults"
    if allowed != text or len(name) > LONGEST:
        # Jobs may differ in nothing but what was replaced or cut off.
        digest = hashlib.sha256((name if allowed == text else text).encode()).hexdigest()[:8]
        name = f"{name[:LONGEST]}-{digest}"
    return name
