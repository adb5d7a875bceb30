"""Random search over a space of settings, trial after trial (Bergstra & Bengio, JMLR 2012)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hydra.errors import HydraException
from omegaconf import OmegaConf

from p_rnn.cli import CONF, MENDABLE, load_config, one_line
from p_rnn.config import Config
from p_rnn.errors import UserError
from p_rnn.registry import suggest
from p_rnn.sweeps import note_failure, objective, run_job

log = logging.getLogger(__name__)
TRIES = 1000  # draws without a new combination, after which a space is taken for exhausted


@dataclass(frozen=True)
class Trial:
    """Attributes:
    folder: of its run; `overrides`: what was drawn; `reached`: the metric on validation.
    """

    folder: Path
    overrides: list[str]
    reached: float


def search(
    space: str, trials: int, folder: Path, seed: int, overrides: Sequence[str]
) -> Trial | None:
    """Run so many trials below `folder`, each in a folder of its own; the best one.

    Trial k is a function of the space, the seed and k, so that finished trials are skipped and
    more can be added. A trial that fails leaves a note in its folder and stops no other.

    Raises:
        UserError: an unknown or malformed space, or no trials.
    """
    if trials < 1:
        raise UserError(f"--trials {trials} must be at least 1")
    best: Trial | None = None
    for k, drawn in zip(range(trials), draws(read_space(space), seed), strict=False):
        own = [f"{key}={value}" for key, value in drawn.items()]
        log.info("\ntrial %d of %d: %s", k + 1, trials, " ".join(own))
        place = folder / f"trial{k:03d}"
        metrics = attempt([*overrides, *own], place)
        if metrics is not None and (best is None or objective(metrics) > best.reached):
            best = Trial(place, own, objective(metrics))
    if best is not None:
        log.info("\nbest on validation, %.4f: %s", best.reached, " ".join(best.overrides))
    return best


def attempt(overrides: Sequence[str], folder: Path) -> dict[str, Any] | None:
    """The metrics of a job; None where it failed, with a note in its folder."""
    try:
        metrics = run_job(load_config(*overrides), folder)
    except (*MENDABLE, HydraException) as error:
        line = one_line(error, Config)
        log.error("error: %s", line)
        note_failure(folder, line)
        return None
    note_failure(folder, None)
    return metrics


def read_space(space: str) -> dict[str, list[Any]]:
    """The values of each setting: a list, or {low, high, step} with both ends.

    Raises:
        UserError: no such space, or a line that is neither.
    """
    path = Path(space) if space.endswith((".yaml", ".yml")) else CONF / "space" / f"{space}.yaml"
    if not path.is_file():
        known = [p.stem for p in (CONF / "space").glob("*.yaml")]
        raise UserError(f"unknown space '{space}'{suggest(space, known)}")
    found: dict[str, list[Any]] = {}
    read: Any = OmegaConf.to_container(OmegaConf.load(path))
    for key, value in read.items():
        if isinstance(value, dict) and set(value) == {"low", "high", "step"}:
            count = round((value["high"] - value["low"]) / value["step"]) + 1
            value = [round(value["low"] + k * value["step"], 10) for k in range(count)]
        if not isinstance(value, list) or not value:
            raise UserError(f"{path}: {key} needs a list of values, or low, high and step")
        found[str(key)] = value
    return found


def draws(values: dict[str, list[Any]], seed: int) -> Iterator[dict[str, Any]]:
    """Combinations, each once, as long as new ones are found."""
    rng = np.random.default_rng(seed)
    seen: set[tuple[int, ...]] = set()
    while True:
        for _ in range(TRIES):
            picked = tuple(int(rng.integers(len(v))) for v in values.values())
            if picked not in seen:
                break
        else:
            return
        seen.add(picked)
        yield {key: v[n] for (key, v), n in zip(values.items(), picked, strict=True)}
