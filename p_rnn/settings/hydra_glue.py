"""Glue between Hydra and the typed settings: the scripts, and the same from Python."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from p_rnn.runs.sweeps import RememberSweep, finish, note_failure, noted
from p_rnn.settings.config import CONF, Config, DatasetConfig, Open
from p_rnn.settings.errors import UserError
from p_rnn.settings.job_names import SWEPT, job_name, run_words, swept_keys
from p_rnn.settings.messages import MENDABLE, check_groups, one_line, sections_there
from p_rnn.settings.resolve import resolve
from p_rnn.settings.show import as_yaml, listing
from p_rnn.settings.tree import plain, read

C = TypeVar("C")
INTERRUPTED = (
    "interrupted; the same command with resume=<run folder>/checkpoints/last.pt goes on, "
    "and the same sweep with its sweep_name"
)
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
                sys.argv[1:] = in_order(sys.argv[1:])
                check_groups(sys.argv[1:])
                with sections_there(sys.argv[1:]):
                    text = answer(sys.argv[1:], name, schema)
                    if text is None:
                        main()
                    else:
                        print(text)
            except KeyboardInterrupt:
                print(INTERRUPTED, file=sys.stderr)
                sys.exit(130)
            except MENDABLE as error:
                line = one_line(error, schema)
                _finish_sweep()
                # What a job has said stands in its log and in the list of failed jobs.
                if not noted(RememberSweep.folder, line):
                    print(f"error: {line}", file=sys.stderr)
                sys.exit(2)
            if _finish_sweep() or failed:
                sys.exit(2)

        return script

    return decorate


def in_order(words: Sequence[str]) -> list[str]:
    """Hydra's flags ahead of the overrides: it does not read overrides on both sides of a flag."""
    flags = [word for word in words if word in ("-m", "--multirun")]
    return [*flags, *(word for word in words if word not in flags)]


def answer(words: Sequence[str], name: str, schema: type[Any]) -> str | None:
    """What --help and `--cfg job` print, or None where the script is to run.

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
    groups = [
        f"  {group.name}: {', '.join(sorted(path.stem for path in group.glob('*.yaml')))}"
        for group in sorted(CONF.iterdir())
        if group.is_dir() and group.name not in ("hydra", "space", "study")
    ]
    shown = [line for text in groups for line in textwrap.wrap(text, 80, subsequent_indent="    ")]
    return "\n".join(
        [
            f"usage: {name} [group=choice ...] [key=value ...] [-m key=a,b ...]",
            "",
            *(["groups:", *shown, ""] if schema is Config else []),
            "The settings that would run with this command, which `--cfg job` prints alone:",
            "",
            *lines,
            "",
            "--hydra-help tells about Hydra's own flags.",
        ]
    )


def run_to_exit(job: Callable[[], bool], schema: type[Any]) -> None:
    """End the process with the status of a job that says whether something of it has failed.

    User errors are one line, and an interrupted job goes on when it is started again.
    """
    try:
        failed = job()
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        sys.exit(130)
    except MENDABLE as error:
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
    """The settings that `python scripts/train.py OVERRIDES` would run with, for use from Python.

    Raises:
        UserError: an unknown setting, or a value of another type.
    """
    check_groups(overrides)
    try:
        return typed(composed("train", Config, overrides), Config)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(one_line(error, Config)) from error


def composed(name: str, schema: type[Any], overrides: Sequence[str]) -> DictConfig:
    """conf/<name>.yaml with overrides."""
    _register(schema)
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"), sections_there(overrides):
        return hydra.compose(name, overrides=list(overrides))


def _register(schema: type[Any]) -> None:
    ConfigStore.instance().store(name="schema", node=_open_schema(schema))
    for resolver, function in (
        ("first", first),
        ("job_name", job_name),
        ("run_words", run_words),
    ):
        OmegaConf.register_new_resolver(resolver, function, replace=True)


def first(*values: Any) -> Any:
    """The first value that is given: ${first:${a},${b}}."""
    return next((value for value in values if value is not None), None)


def _open_schema(schema: type[Any]) -> DictConfig:
    """The schema for Hydra: its open sections, and those by name, take any key.

    What they take depends on what is chosen by name and on plugins, so `typed` and `resolve` hold
    the result against it.
    """
    tree = OmegaConf.structured(schema)
    assert isinstance(tree, DictConfig)
    for f in fields(schema):
        default = None if f.default_factory is MISSING else f.default_factory()
        if isinstance(default, Open | dict):
            # The file of a data set says all of it; nothing of the embedded one stays.
            content = plain(DatasetConfig() if f.name == "dataset" else default)
            tree._content[f.name] = DictConfig(  # type: ignore[index]
                content, parent=tree, key=f.name, flags={"struct": False}
            )
    return tree


def typed(tree: DictConfig, schema: type[C]) -> C:
    """The composed settings as dataclasses.

    Raises:
        OmegaConfBaseException: a key that the schema does not have (Hydra lets "+key" through).
    """
    content = OmegaConf.to_container(tree, resolve=True, throw_on_missing=True)
    assert isinstance(content, dict)
    config = read(content, schema)  # type: ignore[arg-type]
    assert isinstance(config, schema)
    return config


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
