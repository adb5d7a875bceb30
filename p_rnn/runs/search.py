"""Random search over a space of settings (Bergstra & Bengio, JMLR 2012)."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from p_rnn.runs.fit import Stopped, Watch
from p_rnn.runs.isolation import memory_line, out_of_memory
from p_rnn.runs.locks import Busy
from p_rnn.runs.report.runs import METRICS
from p_rnn.runs.sweeps import note_failure, objective, run_job
from p_rnn.settings.config import Config
from p_rnn.settings.errors import UserError
from p_rnn.settings.folders import conf_choices, conf_file
from p_rnn.settings.hydra_glue import load_config
from p_rnn.settings.messages import MENDABLE, one_line
from p_rnn.settings.registry import suggest
from p_rnn.settings.tree import as_overrides

log = logging.getLogger(__name__)
LOG_VALUES = 101  # of a range with log=true
RANGES = ({"low", "high", "step"}, {"low", "high", "log"})  # keys of a range
LARGEST = 100_000  # values in a file of YAML
TRIES = 1000  # draws without a new combination after which a space counts as exhausted


@dataclass(frozen=True)
class Range:
    """Numbers from low to high: in steps, or with log=true evenly in their logarithm."""

    low: float
    high: float
    step: float | None = None
    log: bool = False

    def values(self) -> list[float]:
        """The numbers from which random trials are drawn."""
        if self.step is None:
            grid = np.geomspace(self.low, self.high, LOG_VALUES)
            return [float(f"{x:.3g}") for x in grid]
        count = math.floor((self.high - self.low) / self.step + 1e-9) + 1
        return [round(self.low + k * self.step, 10) for k in range(count)]


Space = dict[str, "list[Any] | Range"]  # what each setting is drawn from


@dataclass(frozen=True)
class Trial:
    """Attributes:
    folder: of its run; `overrides`: drawn settings; `reached`: the metric on validation.
    """

    folder: Path
    overrides: list[str]
    reached: float


def search(
    space: str, trials: int, folder: Path, seed: int, overrides: Sequence[str]
) -> Trial | None:
    """Run the trials, each in its own folder below `folder`; return the best one.

    Trial k is a function of the space, the seed and k, so that finished trials are skipped and
    more can be added. A trial that fails leaves a note in its folder and does not stop the others.
    Settings given as overrides are not drawn.

    Raises:
        UserError: an unknown or malformed space, no trials, or no validation split.
    """
    if trials < 1:
        raise UserError(f"trials={trials} must be at least 1")
    best: Trial | None = None
    for k, drawn in zip(range(trials), draws(free(space, overrides), seed), strict=False):
        own = as_overrides(drawn)
        log.info("\ntrial %d of %d: %s", k + 1, trials, " ".join(own))
        place = folder / f"trial{k:03d}"
        metrics = attempt([*overrides, *own], place, list(drawn))
        if metrics is None:
            continue
        if "valid" not in metrics:
            raise UserError("trials are compared on validation, and dataset.validation is false")
        if best is None or objective(metrics) > best.reached:
            best = Trial(place, own, objective(metrics))
    if best is not None:
        log.info("\nbest on validation, %.4f: %s", best.reached, " ".join(best.overrides))
    return best


def attempt(
    overrides: Sequence[str],
    folder: Path,
    varied: Sequence[str] = (),
    watch: Watch | None = None,
) -> dict[str, Any] | None:
    """Run a job; return its metrics, or None if it failed, with a note in its folder.

    Args:
        varied: the settings in which it differs from the jobs around it.
        watch: called after each validation; it may raise `Stopped`, which ends the job.
    """
    try:
        metrics = run_job(load_config(*overrides), folder, varied, watch)
    except Stopped:
        raise
    except Busy as error:
        log.info("left out: %s", error)
        return None
    except MENDABLE as error:
        line = one_line(error, Config)
    except Exception as error:  # a bug or no memory: the other jobs may still run
        if out_of_memory(error):
            line = memory_line(error)
        else:
            log.exception("the job failed")
            line = f"{type(error).__name__}: {error}"
    else:
        note_failure(folder, None)
        return metrics
    log.error("error: %s", line)
    if not (folder / METRICS).exists():  # else: finished, with other settings
        note_failure(folder, line)
    return None


def first_draw(space: str, seed: int, overrides: Sequence[str]) -> list[str]:
    """The overrides that the first trial draws in addition to these."""
    return as_overrides(next(draws(free(space, overrides), seed)))


def free(space: str, overrides: Sequence[str]) -> Space:
    """The settings of a space that are not among the overrides."""
    fixed = {word.partition("=")[0].lstrip("+~") for word in overrides}
    return {key: values for key, values in read_space(space).items() if key not in fixed}


def file_of(group: str, name: str) -> Path:
    """Find a YAML file by name in a folder of conf/ (the user's own first), or by path.

    Raises:
        UserError: there is no such file.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else conf_file(group, name)
    if path is None or not path.is_file():
        raise UserError(f"unknown {group} '{name}'{suggest(name, conf_choices(group))}")
    return path


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file of keys and values, and resolve interpolations.

    Raises:
        UserError: it is not such a file.
    """
    try:
        text = path.read_text(encoding="utf-8")
        _refuse_loops(yaml.compose(text, Loader=yaml.SafeLoader))
        read = OmegaConf.to_container(OmegaConf.load(io.StringIO(text)), resolve=True)
    except (yaml.YAMLError, OmegaConfBaseException, OSError, ValueError) as error:
        raise UserError(f"{path}: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise UserError(f"{path} refers to itself, or is nested too deep") from error
    if not isinstance(read, dict):
        raise UserError(f"{path} must hold keys and values")
    return {str(key): value for key, value in read.items()}


def _refuse_loops(node: yaml.Node | None) -> None:
    """Refuse anchors that contain themselves, and those that others repeat without end.

    Raises:
        ValueError: there are such.
    """
    sizes: dict[int, int] = {}

    def size(node: Any) -> int:
        if not isinstance(node, yaml.CollectionNode):
            return 1
        if sizes.get(id(node)) == 0:
            raise ValueError("it holds an anchor that contains itself")
        if id(node) not in sizes:
            sizes[id(node)] = 0
            parts = [x for y in node.value for x in (y if isinstance(y, tuple) else (y,))]
            sizes[id(node)] = 1 + sum(map(size, parts))
        if sizes[id(node)] > LARGEST:
            raise ValueError(f"it has more than {LARGEST:,} values")
        return sizes[id(node)]

    size(node)


def read_space(space: str) -> Space:
    """What each setting is drawn from: a list, {low, high, step} or {low, high, log: true}.

    Raises:
        UserError: no such space, or a line that is neither.
    """
    path = file_of("space", space)
    found: Space = {}
    content = read_mapping(path)
    if not content:
        raise UserError(f"{path} is empty: a space needs lines such as learning_rate: [0.01, 0.1]")
    for key, value in content.items():
        if isinstance(value, dict):
            value = _range(**value) if set(value) in RANGES else None
        if not isinstance(value, list | Range) or value == []:
            raise UserError(
                f"{path}: {key} needs a list of values, or low, high and step > 0, or low > 0, "
                "high and log: true"
            )
        found[key] = value
    return found


def _range(low: Any, high: Any, step: Any = None, log: Any = False) -> Range | None:
    """The range, or None if it is none."""
    given = [low, high] if step is None else [low, high, step]
    if not all(isinstance(x, int | float) for x in given) or low > high:
        return None
    if (step is None and (log is not True or low <= 0)) or (step is not None and step <= 0):
        return None
    return Range(low, high, step, step is None)


def draws(space: Space, seed: int) -> Iterator[dict[str, Any]]:
    """Random combinations without repetition, until no new one is found."""
    values = {k: v.values() if isinstance(v, Range) else v for k, v in space.items()}
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
