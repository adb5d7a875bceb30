"""One clear line for every mistake of a user."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import yaml
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from p_rnn.files import FULL
from p_rnn.settings.components import in_words
from p_rnn.settings.config import Config
from p_rnn.settings.errors import UserError, how_to_install
from p_rnn.settings.folders import conf_choices, conf_groups
from p_rnn.settings.hints import COMMANDS, EXTRAS, ours
from p_rnn.settings.registry import suggest
from p_rnn.settings.tree import known_of

# What a person can mend: one line; anything else is a bug of ours and keeps its traceback.
MENDABLE = (
    UserError,
    OmegaConfBaseException,
    HydraException,
    yaml.YAMLError,
    OSError,
    FloatingPointError,
)
# Of Hydra.
FLAGS = (
    "--help",
    "--hydra-help",
    "--version",
    "--cfg",
    "--resolve",
    "--package",
    "--run",
    "--multirun",
    "--shell-completion",
    "--config-path",
    "--config-name",
    "--config-dir",
    "--info",
    "--experimental-rerun",
)
SECTIONS = {"Subnet": "weight=2", "Feature": "kind=text"}  # examples


def one_line(error: BaseException, schema: type[Any]) -> str:
    """What is wrong and what to do, without Hydra's paragraphs."""
    plain = isinstance(error, (UserError, OSError, FloatingPointError))
    if plain and not isinstance(error, HydraException):
        if isinstance(error, OSError) and error.errno in FULL:
            return f"{FULL[error.errno]}: {error.filename or 'the last file'} could not be written"
        return str(error)
    if isinstance(error, yaml.YAMLError):
        mark = getattr(error, "problem_mark", None)
        where = f"{mark.name}, line {mark.line + 1}: " if mark else ""
        return f"{where}{getattr(error, 'problem', None) or error}; it is not YAML"
    if isinstance(error, MissingMandatoryValue):
        key = str(getattr(error, "full_key", "") or str(error).split(":")[-1]).strip()
        return f"{key} must be given ({key}=...)"
    if isinstance(error, MissingConfigException) and error.options:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        other = ours(group, choice) or (choice.lower() if choice.lower() in error.options else None)
        if group == "loss" and choice in ("CE", "BPR"):
            return f"unknown loss '{choice}'; RecBole's, with its negatives, is loss_type={choice}"
        if other:
            return f"unknown {group} '{choice}'; here it is {group}={other}"
        if group == "hydra/launcher" and choice in EXTRAS:
            return _extra(choice)
        return f"unknown {group} '{choice}'{suggest(choice, error.options)}"
    launcher = re.search(r"hydra/launcher/(\w+)", str(error))
    if isinstance(error, MissingConfigException) and launcher and launcher[1] in EXTRAS:
        return _extra(launcher[1])
    if isinstance(error, OverrideParseException):
        if "=" not in str(error.override):
            return _key_and_value(str(error.override))
        first_line = str(error).splitlines()[0]
        key, _, value = str(error.override).partition("=")
        quoted = f"; values with = or blanks need quotes: \"{key}='{value}'\"" if value else ""
        if "Exception" in first_line:  # a class of the parser says nothing to a person
            return f"cannot read '{error.override}'; such a value needs quotes: \"{key}='{value}'\""
        return f"cannot read '{error.override}': {first_line}{quoted}"
    text, cause = str(error), error.__cause__
    override = re.match(
        r"(?:Could not override|Error merging override) '?\+*([^'\n=]+)=?(.*)", text
    )
    key = override[1].strip() if override else ""
    if "Ambiguous value" in text:
        return f"{text.splitlines()[0]}: several values are a sweep, which needs -m"
    unknown = re.search(r"Key '([^']*)' (?:is )?not in", f"{text}\n{cause}")
    if unknown or "No match in the defaults list" in text:
        full = re.search(r"full_key: (\S+)", f"{text}\n{cause}")
        key = key or (full[1] if full else unknown[1] if unknown else "?")
        return f"unknown setting '{key}'{nearest(key, schema)}"
    key = key or str(getattr(error, "full_key", None) or "")
    reason = str(cause).splitlines()[0] if cause is not None else text.splitlines()[0]
    if "ListConfig" in reason:
        return f"{key} takes a list: {key}=[{override[2] if override else '...'}]"
    section = re.search(r"is not a subclass of (Subnet|Feature)Config", reason)
    if section:
        return f"{key} is a section of settings, such as {key}.{SECTIONS[section[1]]}"
    reason = in_words(reason)
    return f"{key}: {reason}" if key else reason


def _key_and_value(word: str) -> str:
    name = word.lstrip("-")
    example = f"{ours('setting', name) or (name if name.isidentifier() else 'num_epochs')}=..."
    if word.endswith(".pt"):
        example = f"checkpoint={word}"
    return f"cannot read '{word}': settings are given as key=value, such as {example}"


def _extra(launcher: str) -> str:
    name = EXTRAS[launcher]
    return f"hydra/launcher={launcher} needs the extra {name}: {how_to_install(name)}"


def nearest(key: str, schema: type[Any]) -> str:
    """The tail of a message about an unknown setting: what it is here, or what is close to it."""
    last = key.split(".")[-1]
    other = ours("setting", last)
    if schema is Config and other and other != key:
        return f"; here it is {other}"
    known = _known(key, schema)
    close = difflib.get_close_matches(key, known, n=2, cutoff=0.7)
    ends = difflib.get_close_matches(last, [k.split(".")[-1] for k in known], n=1)
    close += [k for k in known if k.split(".")[-1] in ends and k not in close]
    hint = f"; did you mean {' or '.join(close[:3])}?" if close else ";"
    return f"{hint} --cfg job prints all settings"


def _known(key: str, schema: type[Any]) -> list[str]:
    """Settings and groups; of subnets and features those under the same name."""
    if schema is not Config:
        return [name for name, _, _ in known_of(schema)]
    from p_rnn.settings.roles import every_setting  # which reads all registries

    words = key.split(".")
    star = {"subnets": 1, "dataset": 2}.get(words[0], 9)
    known = [name for name, _, _ in every_setting()]
    if len(words) > star:
        known = [
            ".".join([*k.split(".")[:star], words[star], *k.split(".")[star + 1 :]])
            if "*" in k
            else k
            for k in known
        ]
    return [*known, *conf_groups()]


@contextlib.contextmanager
def sections_there(overrides: Sequence[str]) -> Iterator[None]:
    """Refuse a setting inside a section that is null, of which OmegaConf only asserts something.

    Raises:
        UserError: such a setting.
    """
    try:
        yield
    except AssertionError as error:
        if "Unexpected type for root" not in str(error):
            raise
        keys = [word.partition("=")[0].lstrip("+") for word in overrides if "=" in word]
        nested = [key for key in keys if key.count(".") >= 2 and ".features." not in key]
        section = " or ".join(key.rpartition(".")[0] for key in nested)
        raise UserError(
            f"{' or '.join(nested)} has no effect: this data set has no {section}; leave it out"
        ) from error


def check_commands(overrides: Sequence[str]) -> None:
    """Refuse what is the matter of another command, on the command line of `train`.

    Raises:
        UserError: with that command.
    """
    for word in overrides:
        key, _, value = word.partition("=")
        if key in COMMANDS and value:
            raise UserError(f"unknown setting '{key}'; {COMMANDS[key].format(value=value)}")


def check_flags(words: Sequence[str]) -> None:
    """Refuse a flag that Hydra does not know, which it would answer with its own usage.

    Raises:
        UserError: with the setting that may be meant.
    """
    for word in words:
        if re.fullmatch(r"--[\w-]+(=.*)?", word) and word.partition("=")[0] not in FLAGS:
            raise UserError(_key_and_value(word.partition("=")[0]))


def check_groups(overrides: Sequence[str]) -> None:
    """Refuse what Hydra would answer with a traceback in the place of a file of a group.

    Raises:
        UserError: null, a number, or true or false.
    """
    for word in overrides:
        group, _, value = word.partition("=")
        group = group.lstrip("+")
        known = conf_choices(group)
        if not group or not known:
            continue
        if value == "null":
            raise UserError(f"{word}: a group cannot be null; ~{group} leaves it out")
        if re.fullmatch(r"[-+]?[\d.]+|true|false", value, re.IGNORECASE):
            raise UserError(f"unknown {group} '{value}'{suggest(value, known)}")
