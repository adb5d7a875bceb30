"""How the jobs of a sweep are called: by what it varies."""

from __future__ import annotations

import hashlib
import os
import re
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from p_rnn.settings.roles import about_key

SWEPT = "P_RNN_SWEPT_KEYS"  # environment variable
BETWEEN = re.compile(r",(?=\+*[\w@/.]+=)")  # values can hold commas, so a key must follow
IN_THE_PATH = ("model", "strategy")  # of a single run
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
    pairs = [pair.partition("=") for pair in BETWEEN.split(overrides)]
    pairs = [p for p in pairs if p[0].lstrip("+") in varied or _makes_the_run(p[0])]
    return _folder_name([p for p in pairs if p[0].lstrip("+") in varied] or pairs) or "defaults"


def run_words(overrides: str) -> str:
    """What the folder name of a single run says after its time: what is not the default in it.

    Args:
        overrides: as of `job_name`. Those that say where the data are and where the run takes place
            are left out, and those that the folders above name.
    """
    pairs = [pair.partition("=") for pair in BETWEEN.split(overrides)]
    kept = [p for p in pairs if p[0] not in IN_THE_PATH and _makes_the_run(p[0], data=False)]
    # Nothing that would have to be quoted in checkpoint=<this folder>/checkpoints/best.pt.
    name = re.sub(r"[\[\]]", "", _folder_name(kept)).replace("=", "-").replace(",", "_")
    return f"_{name}" if name else ""


def _makes_the_run(key: str, data: bool = True) -> bool:
    """Whether a setting is part of what a run computes, and not of where and how it ran."""
    role = about_key(key.lstrip("+"))["role"]
    return role not in ("machine", "output") and (data or role != "data")


def _folder_name(pairs: list[tuple[str, str, str]]) -> str:
    """Settings as a name that every file system allows; empty where there are none."""
    text = ",".join(f"{_short(key)}={value}" for key, _, value in pairs)
    allowed = re.sub(r"[^\w=,.\-\[\]]+", "_", text)
    name = allowed.strip("=")
    if allowed != text or len(name) > LONGEST:
        # Jobs may differ in nothing but what was replaced or cut off.
        digest = hashlib.sha256((name if allowed == text else text).encode()).hexdigest()[:8]
        name = f"{name[:LONGEST]}-{digest}"
    return name
