"""What --help and `--cfg job` print: the settings that would run, with a short description."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue

from p_rnn.settings.config import Config
from p_rnn.settings.folders import conf_choices, conf_groups
from p_rnn.settings.hydra_glue import composed, typed
from p_rnn.settings.resolve import resolve
from p_rnn.settings.show import as_yaml, listing


def in_order(words: Sequence[str]) -> list[str]:
    """Move Hydra's flags ahead of the overrides: it rejects overrides on both sides of a flag."""
    flags = [word for word in words if word in ("-m", "--multirun")]
    return [*flags, *(word for word in words if word not in flags)]


def answer(words: Sequence[str], name: str, schema: type[Any], runs: bool = True) -> str | None:
    """The text that --help or `--cfg job` prints; None if neither is among `words`.

    Args:
        runs: the command is a run of Hydra's, with sweeps and its flags.

    Raises:
        UserError: settings that cannot run.
    """
    joined = " ".join(words)
    helps = {"-h", "--help"} & set(words)
    if not helps and not re.search(r"(--cfg|-c)[ =]job", joined):
        return None
    overrides = [word for word in words if "=" in word and not word.startswith("-")]
    tree = composed(name, schema, overrides)
    try:
        config: Any = typed(tree, schema)
        lines = listing(resolve(config) if schema is Config else config)
    except MissingMandatoryValue:
        if not helps:
            raise
        content = OmegaConf.to_container(tree, resolve=True)
        assert isinstance(content, dict)
        lines = as_yaml(content, schema)  # type: ignore[arg-type]
    if not helps:
        return "\n".join(lines)
    if not runs:
        usage = f"usage: {sys.argv[0]} [key=value ...]"
        return "\n".join([usage, "", "The settings that would run with this command:", "", *lines])
    groups = [
        f"  {group}: {', '.join(conf_choices(group))}"
        for group in conf_groups()
        if group not in ("hydra", "space", "study")
    ]
    shown = [line for text in groups for line in textwrap.wrap(text, 80, subsequent_indent="    ")]
    return "\n".join(
        [
            f"usage: {sys.argv[0]} [group=choice ...] [key=value ...] [-m key=a,b ...]",
            "",
            *(["groups:", *shown, ""] if schema is Config else []),
            "The settings that would run with this command, which `--cfg job` prints alone. Those",
            "without effect in this combination are left out; docs/settings.md has all.",
            "",
            *lines,
            "",
            "--hydra-help describes Hydra's own flags.",
        ]
    )
