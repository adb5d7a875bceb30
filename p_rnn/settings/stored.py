"""Settings that a run has stored, and whether they are those of another run."""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from p_rnn.settings.config import Config
from p_rnn.settings.errors import UserError
from p_rnn.settings.ranges import leaves
from p_rnn.settings.upgrade import upgraded_config


def from_dict(plain: dict[str, Any], what: str) -> Config:
    """The settings stored in a checkpoint or in metrics.json.

    Args:
        what: the file, for messages.

    Raises:
        UserError: a key that this version does not have, or a wrong type.
    """
    try:
        tree = OmegaConf.merge(OmegaConf.structured(Config), upgraded_config(plain))
        config = OmegaConf.to_object(tree)
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{what} has settings of another version ({reason}); train again"
        ) from error
    assert isinstance(config, Config)
    return config


# Settings that do not make another run of it.
_NOT_THE_RUN = (
    "resume",
    "tracking.",
    "paths.",
    "device",
    "num_threads",
    "compile",
    "sweep_name",
    "dataset.source",
)


def refuse_difference(what: str, stored: Config, now: Config, free: tuple[str, ...] = ()) -> None:
    """Make sure that a stored run had the settings of this one, but for the keys in `free`.

    Raises:
        UserError: the first setting that differs.
    """
    then, current = ({key: value for key, value, _ in leaves(node)} for node in (stored, now))
    for key in {**then, **current}:
        # A subnet or feature that only one of them names has the default settings in the other.
        absent = 1.0 if key.startswith("subnets.") and key.endswith(".weight") else None
        a, b = then.get(key, absent), current.get(key, absent)
        # A run stores the features that null stood for.
        same = a == b or (key == "selected_features" and b is None)
        if not key.startswith((*_NOT_THE_RUN, *free)) and not same:
            a, b = ("null" if value is None else value for value in (a, b))
            raise UserError(
                f"{what} was trained with {key}={a}, not {b}: give the same, or another name"
            )
