"""Reads finished runs from disk."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from p_rnn.evaluation.evaluator import Ranks
from p_rnn.evaluation.metrics import metrics
from p_rnn.evaluation.ranks_file import RANKS, read_ranks
from p_rnn.runs.report.stored import read_metrics
from p_rnn.settings.errors import UserError
from p_rnn.settings.roles import decides_events, decides_targets, every_setting

METRICS = "metrics.json"
SAME = 1e-9  # of figures of the same ranks
TRIALS = "trials"  # folder of runs from which settings were chosen (p_rnn/runs/study.py)
log = logging.getLogger(__name__)


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

    def check_ranks(self) -> None:
        """Check that the ranks of the test targets are there, and are those of this run.

        Raises:
            UserError: the file is missing, damaged, or of another run.
        """
        result, cutoffs = self.result("test"), self.settings["evaluation.cutoffs"]
        if len(self.ranks.rank) != result["targets"] or any(
            abs(value - result["metrics"][name]) > SAME
            for name, value in metrics(self.ranks.rank, cutoffs).items()
        ):
            raise UserError(f"{self.folder / RANKS} is not of this run; run that job again")


def find_runs(places: Iterable[Path]) -> list[Run]:
    """All finished runs in and below the folders, ordered by path.

    Trials from which the settings of other runs were chosen are left out, because they would
    count as further rows beside those runs.

    Raises:
        UserError: a folder without any, or in which all are damaged or something else. Where some
            are, they are left out with a warning.
    """
    runs: dict[Path, Run] = {}
    bad: list[str] = []
    for place in places:
        # By a pattern, with which links to nothing are found, too.
        below = [place] if place.name == METRICS else sorted(place.rglob("*.json"))
        files = [path for path in below if path.name == METRICS]
        files = [file for file in files if TRIALS not in file.relative_to(place).parts]
        if not files or (files == [place] and not place.is_file()):
            raise UserError(f"{place} holds no finished run: no {METRICS} in or below it")
        for file in files:
            try:
                run = Run(file.parent, read_metrics(file))
                if None in (run.data, run.settings["seed"]):
                    raise UserError(f"{file} has no data set or seed; leave it out")
            except UserError as error:
                log.warning("warning: left out of the report: %s", error)
                bad.append(str(error))
                continue
            runs[file.parent.resolve()] = run
    if not runs:
        raise UserError(bad[0])
    return list(runs.values())


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
