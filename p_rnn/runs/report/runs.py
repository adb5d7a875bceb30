"""Reads finished runs from disk."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from p_rnn.evaluation.evaluator import Ranks
from p_rnn.evaluation.ranks_file import RANKS, read_ranks
from p_rnn.settings.errors import UserError
from p_rnn.settings.roles import decides_events, decides_targets, every_setting

METRICS = "metrics.json"
NEEDED = ("test", "parameters", "updates", "best_epoch", "seconds", "history")  # of metrics.json
TRIALS = "trials"  # folder of runs from which settings were chosen (p_rnn/runs/study.py)


@dataclass(frozen=True)
class Run:
    """A run folder with metrics.json."""

    folder: Path
    metrics: dict[str, Any] = field(repr=False)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """{dotted key: value} of the resolved settings.

        A run of an older version has measured as the defaults of later settings say.
        """
        stored = dict(_flat(self.metrics["config"]))
        return stored | {key: x for key, x in _later().items() if key not in stored}

    @property
    def data(self) -> str:
        """A key of the targets: data set, rules and protocol."""
        evaluation = sorted(f"{k}={v}" for k, v in self.settings.items() if decides_targets(k))
        return " ".join([self.fingerprint, *evaluation])

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the prepared events: of the rules and the content of the raw files."""
        return str(self.metrics["dataset"]["fingerprint"])

    @property
    def protocol(self) -> dict[str, Any]:
        """The settings that determine the targets."""
        return {
            key: value
            for key, value in self.settings.items()
            if decides_targets(key) or decides_events(key)
        }

    @property
    def dataset(self) -> str:
        return str(self.settings["dataset.name"])

    @property
    def model(self) -> str:
        return str(self.settings["model.name"])

    @property
    def strategy(self) -> str:
        """The name of the strategy; empty where it makes no difference."""
        several = len(self.metrics["updates_of_subnets"]) > 1
        return str(self.settings["strategy.name"]) if several else ""

    @property
    def loss(self) -> str:
        """The name of the loss; empty for models that only count."""
        return str(self.settings["loss.name"] or "")

    def result(self, split: str) -> dict[str, Any]:
        """{"targets", "metrics", "by_position", "by_support"} of the model."""
        found: dict[str, Any] = self.metrics["results"][split][self.model]
        return found

    @cached_property
    def ranks(self) -> Ranks:
        return read_ranks(self.folder / RANKS)


def find_runs(places: Iterable[Path]) -> list[Run]:
    """All finished runs in and below the folders, ordered by path.

    Trials from which the settings of other runs were chosen are left out, because they would
    count as further rows beside those runs.

    Raises:
        UserError: a folder without any, or a metrics.json of another format.
    """
    runs: dict[Path, Run] = {}
    for place in places:
        files = [place] if place.name == METRICS else sorted(place.rglob(METRICS))
        files = [file for file in files if TRIALS not in file.relative_to(place).parts]
        if not files or not files[0].is_file():
            raise UserError(f"{place} holds no finished run: no {METRICS} in or below it")
        for file in files:
            try:
                metrics = json.loads(file.read_text())
                run = Run(file.parent, metrics)
                _try(run)
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{file} is not the metrics of a run of this version ({error!r}); leave it "
                    "out, or run that job again"
                ) from error
            runs[file.parent.resolve()] = run
    return list(runs.values())


def _try(run: Run) -> None:
    """Check that a run has everything that a report reads.

    Raises:
        KeyError, TypeError: the run was written by another version.
    """
    read = [run.metrics[name] for name in NEEDED]
    read += [run.data, run.strategy, run.loss, run.settings["seed"], run.result("test")]
    if None in read:
        raise TypeError("a value is null")


@cache
def _later() -> dict[str, Any]:
    """Settings of the targets that older versions did not have, with their defaults."""
    return {k: x for k, x, known in every_setting() if decides_targets(k) and known.get("later")}


def _flat(node: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _flat(value, f"{prefix}{key}.")
    else:
        yield prefix.rstrip("."), node
