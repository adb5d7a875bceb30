"""Glue between Hydra and the typed settings; one clear line for every mistake of a user."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from p_rnn.config import Config, FeatureConfig, SubnetConfig
from p_rnn.errors import UserError
from p_rnn.registry import suggest
from p_rnn.resolve import leaves
from p_rnn.sweeps import RememberSweep, finish, note_failure

C = TypeVar("C")
CONF = Path(__file__).resolve().parent.parent / "conf"
SWEPT = "P_RNN_SWEPT_KEYS"  # environment variable
INTERRUPTED = (
    "interrupted; the same command with resume=<run folder>/checkpoints/last.pt goes on, "
    "and the same sweep with its sweep_name"
)
# What a person can mend: one line; anything else is a bug of ours and keeps its traceback.
MENDABLE = (UserError, OmegaConfBaseException, OSError, FloatingPointError)
TYPES = {"Float": "a number", "Integer": "a whole number", "Boolean": "true or false"}
SECTIONS = {"Subnet": "weight=2", "Feature": "kind=text"}  # examples
LONGEST_NAME = 120  # of a job's folder, well below the 255 bytes that file systems allow
log = logging.getLogger("p_rnn")


def hydra_script(name: str, schema: type[C]) -> Callable[[Callable[[C], Any]], Callable[[], None]]:
    """Turn `main(config)` into a script composed from conf/<name>.yaml and typed by `schema`.

    User errors are printed as one line and exit with status 2; everything else keeps its
    traceback. In a multirun one failed job does not stop the others.
    """

    def decorate(function: Callable[[C], Any]) -> Callable[[], None]:
        _register(schema)

        failed: list[str] = []

        def job(tree: DictConfig) -> Any:
            settings = HydraConfig.get()
            folder, sweep = Path(settings.runtime.output_dir), settings.mode == RunMode.MULTIRUN
            try:
                done = function(typed(tree, schema))
            except MENDABLE as error:
                line = one_line(error, schema)
                log.error("error: %s", line)
                failed.append(line)
                if sweep:
                    note_failure(folder, line)
                    raise  # the sweeper must know; it goes on with the other jobs
                remove_if_empty(folder, name)
                return None
            except Exception as error:
                if sweep:
                    note_failure(folder, f"{type(error).__name__}: {error}")
                raise
            if sweep:
                note_failure(folder, None)
            return done

        main = hydra.main(config_path=str(CONF), config_name=name, version_base="1.3")(job)

        def script() -> None:
            os.environ["HYDRA_FULL_ERROR"] = "1"  # hand us the exception instead of printing it
            # By the environment, because launchers start processes of their own.
            os.environ[SWEPT] = ",".join(swept_keys(sys.argv[1:]))
            try:
                check_groups(sys.argv[1:])
                main()
            except KeyboardInterrupt:
                print(INTERRUPTED, file=sys.stderr)
                sys.exit(130)
            except AssertionError as error:
                if "Unexpected type for root" not in str(error):
                    raise
                print(f"error: {_absent_section(sys.argv[1:])}", file=sys.stderr)
                sys.exit(2)
            except (*MENDABLE, HydraException) as error:
                if not _finish_sweep() and not failed:
                    print(f"error: {one_line(error, schema)}", file=sys.stderr)
                sys.exit(2)
            if _finish_sweep() or failed:
                sys.exit(2)

        return script

    return decorate


def run_to_exit(job: Callable[[], bool], schema: type[Any]) -> None:
    """End the process with the status of a job that says whether something of it has failed.

    User errors are one line, and an interrupted job goes on when it is started again.
    """
    try:
        failed = job()
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        sys.exit(130)
    except (*MENDABLE, HydraException) as error:
        print(f"error: {one_line(error, schema)}", file=sys.stderr)
        failed = True
    sys.exit(2 if failed else 0)


def _finish_sweep() -> bool:
    """Report on the sweep that ran, if one did; whether jobs of it have failed."""
    folder = RememberSweep.folder
    if folder is None or not folder.is_dir():
        return False
    return finish(folder)


def load_config(*overrides: str) -> Config:
    """The settings that `python scripts/train.py OVERRIDES` would run with, for use from Python."""
    check_groups(overrides)
    _register(Config)
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            return typed(hydra.compose("train", overrides=list(overrides)), Config)
        except AssertionError as error:
            if "Unexpected type for root" not in str(error):
                raise
            raise UserError(_absent_section(overrides)) from error


def check_groups(overrides: Sequence[str]) -> None:
    """Refuse what Hydra would answer with a traceback in the place of a file of a group.

    Raises:
        UserError: null, a number, or true or false.
    """
    for word in overrides:
        group, _, value = word.partition("=")
        group = group.lstrip("+")
        folder = CONF / group
        if not group or not folder.is_dir():
            continue
        if value == "null":
            raise UserError(f"{word}: a group cannot be null; ~{group} leaves it out")
        if re.fullmatch(r"[-+]?[\d.]+|true|false", value, re.IGNORECASE):
            known = [path.stem for path in folder.glob("*.yaml")]
            raise UserError(f"unknown {group} '{value}'{suggest(value, known)}")


def _register(schema: type[Any]) -> None:
    ConfigStore.instance().store(name="schema", node=_open_schema(schema))
    for resolver, function in (("first", first), ("job_name", job_name)):
        OmegaConf.register_new_resolver(resolver, function, replace=True)


def _open_schema(schema: type[Any]) -> DictConfig:
    """The schema for Hydra: its sections by name of a feature or subnet take any key.

    Hydra could not set `subnets.image.hidden_size` where no subnet `image` stands yet; `typed`
    holds the result against the whole schema.
    """
    tree = OmegaConf.structured(schema)
    for node, key in ((tree, "subnets"), (tree.get("dataset"), "features")):
        if node is not None and key in node:
            node._content[key] = DictConfig(
                {}, key_type=str, element_type=Any, parent=node, key=key, flags={"struct": False}
            )
    assert isinstance(tree, DictConfig)
    return tree


def typed(tree: DictConfig, schema: type[C]) -> C:
    """The composed settings as dataclasses.

    Raises:
        OmegaConfBaseException: a key that the schema does not have (Hydra lets "+key" through).
    """
    plain = OmegaConf.to_container(tree, resolve=True, throw_on_missing=True)
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), plain))
    assert isinstance(config, schema)
    return config


def one_line(error: BaseException, schema: type[Any]) -> str:
    """What is wrong and what to do, without Hydra's paragraphs."""
    ours = isinstance(error, (UserError, OSError, FloatingPointError))
    if ours and not isinstance(error, HydraException):
        return str(error)
    if isinstance(error, MissingMandatoryValue):
        key = str(getattr(error, "full_key", "") or str(error).split(":")[-1]).strip()
        return f"{key} must be given ({key}=...)"
    if isinstance(error, MissingConfigException) and error.options:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        return f"unknown {group} '{choice}'{suggest(choice, error.options)}"
    if isinstance(error, OverrideParseException):
        first_line = str(error).splitlines()[0]
        key, _, value = str(error.override).partition("=")
        quoted = f"; values with = or blanks need quotes: \"{key}='{value}'\"" if value else ""
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
        return f"unknown setting '{key}'{_nearest(key, schema)}"
    key = key or str(getattr(error, "full_key", None) or "")
    reason = str(cause).splitlines()[0] if cause is not None else text.splitlines()[0]
    if "ListConfig" in reason:
        return f"{key} takes a list: {key}=[{override[2] if override else '...'}]"
    section = re.search(r"is not a subclass of (Subnet|Feature)Config", reason)
    if section:
        return f"{key} is a section of settings, such as {key}.{SECTIONS[section[1]]}"
    for omegaconf_type, words in TYPES.items():
        reason = reason.replace(f"could not be converted to {omegaconf_type}", f"is not {words}")
    return f"{key}: {reason}" if key else reason


def _nearest(key: str, schema: type[Any]) -> str:
    """Settings and groups whose name is close, compared whole and by the last part."""
    section = FeatureConfig if ".features." in key else SubnetConfig
    if key.startswith(("subnets.", "dataset.features.")):
        names = [f.name for f in fields(section)]
        return suggest(key.split(".")[-1], names)
    known = [k for k, _, _ in leaves(schema())]
    groups = [path.name for path in CONF.iterdir() if path.is_dir()]
    close = difflib.get_close_matches(key, known + groups, n=2, cutoff=0.7)
    last = difflib.get_close_matches(key.split(".")[-1], [k.split(".")[-1] for k in known], n=1)
    close += [k for k in known if k.split(".")[-1] in last and k not in close]
    hint = f"; did you mean {' or '.join(close[:3])}?" if close else ";"
    return f"{hint} --cfg job prints all settings"


def _absent_section(arguments: Sequence[str]) -> str:
    """For a setting inside a section that is null (OmegaConf only asserts)."""
    keys = [word.partition("=")[0].lstrip("+") for word in arguments if "=" in word]
    nested = [key for key in keys if key.count(".") >= 2 and ".features." not in key]
    section = " or ".join(key.rpartition(".")[0] for key in nested)
    return f"{' or '.join(nested)} has no effect: this data set has no {section}; leave it out"


def remove_if_empty(folder: Path, job: str) -> None:
    """Remove the folder of a refused run: Hydra's copy of the settings, a log, and nothing else."""
    ours = {folder / f"{job}.log"}
    ours |= {folder / ".hydra" / f"{name}.yaml" for name in ("config", "hydra", "overrides")}
    if all(path in ours for path in folder.rglob("*") if not path.is_dir()):
        for path in ours:
            path.unlink(missing_ok=True)
        for place in (folder / ".hydra", folder):
            with contextlib.suppress(OSError):  # in use, or not empty after all
                place.rmdir()


def first(*values: Any) -> Any:
    """The first value that is given: ${first:${a},${b}}."""
    return next((value for value in values if value is not None), None)


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
    text = re.sub(r"[^\w=,.\-\[\]]+", "_", text).strip("=") or "defaults"
    if len(text) > LONGEST_NAME:
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        text = f"{text[:LONGEST_NAME]}-{digest}"
    return text
