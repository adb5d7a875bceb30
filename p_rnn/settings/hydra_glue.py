"""Settings composed by Hydra from conf/: for the commands, and the same from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, TypeVar

import hydra
import yaml
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from p_rnn.settings.components import registry
from p_rnn.settings.config import CONF, Config
from p_rnn.settings.errors import UserError
from p_rnn.settings.folders import conf_file, conf_groups, look_in_own_conf
from p_rnn.settings.job_names import job_name, run_words
from p_rnn.settings.messages import check_commands, check_groups, one_line, sections_there
from p_rnn.settings.sections import DatasetConfig, Open
from p_rnn.settings.tree import plain, read, simple

C = TypeVar("C")
_CHOSEN = ("model", "cell", "strategy", "loss", "optimizer", "schedule")  # by name


def load_config(*overrides: str, **settings: Any) -> Config:
    """The settings that `p-rnn train OVERRIDES` would run with, for use from Python.

    Args:
        settings: by name, such as hidden_size=50, loss="bpr_max", evaluation={"cutoffs": [20]},
            optimizer=component("adam", beta1=0.8). They win over `overrides`.

    Raises:
        UserError: an unknown setting, or a value of another type.

    >>> from p_rnn import load_config
    >>> config = load_config("model=parallel", "loss.bpreg=0.5", hidden_size=50)
    >>> config.model.name, config.hidden_size
    ('parallel', 50)
    >>> load_config(lr=0.1)
    Traceback (most recent call last):
    p_rnn.settings.errors.UserError: unknown setting 'lr'; here it is learning_rate
    """
    check_groups(overrides)
    check_commands(overrides)
    try:
        words, values = _by_name(settings)
        tree = composed("train", Config, [*overrides, *words])
        content = _laid_over(_content(tree, whole=False), values)
        return typed(OmegaConf.create(content), Config)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise UserError(one_line(error, Config)) from None


def _by_name(settings: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Choices of groups as overrides, and the other settings as nested dicts."""
    words, values = [], dict[str, Any]()
    for key, value in sorted(simple(settings).items(), key=lambda given: given[0].count(".")):
        choice = isinstance(value, str) and key in conf_groups()
        by_name = choice and _has_no_file(key, value)
        if choice and not by_name:
            words.append(f"{key}={value}")
            continue
        *above, last = key.split(".")
        inside = values
        for name in above:
            inside = inside.setdefault(name, {})
        inside[last] = {"name": value} if by_name else value
    return words, values


def _has_no_file(group: str, name: str) -> bool:
    """Whether something is chosen that a plugin has registered, without a YAML file."""
    if group not in _CHOSEN or conf_file(group, name) is not None:
        return False
    kinds = ("model", "baseline") if group == "model" else (group,)
    return any(name in registry(kind) for kind in kinds)


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dicts, the values of `above` first; what is chosen by another name starts afresh."""
    made = dict(below)
    for key, value in above.items():
        old, new = made.get(key), value
        if isinstance(old, dict) and isinstance(value, dict):
            other = key in _CHOSEN and value.get("name", old.get("name")) != old.get("name")
            new = value if other else _laid_over(old, value)
        made[key] = new
    return made


def composed(name: str, schema: type[Any], overrides: Sequence[str]) -> DictConfig:
    """conf/<name>.yaml with overrides."""
    register(schema)
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"), sections_there(overrides):
        return hydra.compose(name, overrides=list(overrides))


def register(schema: type[Any]) -> None:
    ConfigStore.instance().store(name="schema", node=_open_schema(schema))
    look_in_own_conf()


def first(*values: Any) -> Any:
    """The first value that is given: ${first:${a},${b}}."""
    return next((value for value in values if value is not None), None)


# As this module is imported, which the processes that a launcher starts do too.
for _name, _function in (
    ("first", first),
    ("job_name", job_name),
    ("run_words", run_words),
):
    OmegaConf.register_new_resolver(_name, _function, replace=True)


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
    config = read(_content(tree), schema)
    assert isinstance(config, schema)
    return config


def _content(tree: DictConfig, whole: bool = True) -> dict[str, Any]:
    """Nested dicts; with `whole`, nothing that must be given may be missing."""
    content = OmegaConf.to_container(tree, resolve=True, throw_on_missing=whole)
    assert isinstance(content, dict)
    return content  # type: ignore[return-value]
