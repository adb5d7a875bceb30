"""Finished runs on disk, and those that differ by their seed alone as one row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p_rnn.evaluation.evaluator import Ranks
from p_rnn.evaluation.ranks_file import RANKS, read_ranks
from p_rnn.settings.errors import UserError
from p_rnn.settings.roles import decides_events, decides_targets, tells_rows_apart

Array = NDArray[Any]
METRICS = "metrics.json"
NEEDED = ("test", "parameters", "updates", "best_epoch", "seconds", "history")  # of metrics.json
TRIALS = "trials"  # a folder of runs from which others were chosen (p_rnn/runs/study.py)


@dataclass(frozen=True)
class Run:
    """A run folder with metrics.json."""

    folder: Path
    metrics: dict[str, Any] = field(repr=False)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """{dotted key: value} of the resolved settings."""
        return dict(_flat(self.metrics["config"]))

    @property
    def data(self) -> str:
        """What decides the targets: data set, rules and protocol."""
        evaluation = [f"{k}={v}" for k, v in self.settings.items() if decides_targets(k)]
        return " ".join([self.fingerprint, *evaluation])

    @property
    def fingerprint(self) -> str:
        """Of the prepared events: of the rules and of the content of the raw files."""
        return str(self.metrics["dataset"]["fingerprint"])

    @property
    def protocol(self) -> dict[str, Any]:
        """The settings that decide the targets."""
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
        """Empty where it makes no difference."""
        several = len(self.metrics["updates_of_subnets"]) > 1
        return str(self.settings["strategy.name"]) if several else ""

    @property
    def loss(self) -> str:
        """Empty for models that only count."""
        return str(self.settings["loss.name"] or "")

    def result(self, split: str) -> dict[str, Any]:
        """{"targets", "metrics", "by_position", "by_support"} of the model."""
        found: dict[str, Any] = self.metrics["results"][split][self.model]
        return found

    @cached_property
    def ranks(self) -> Ranks:
        return read_ranks(self.folder / RANKS)


@dataclass(frozen=True)
class Row:
    """Runs that differ by their seed alone.

    Attributes:
        varied: the settings by which it differs from other rows of its data set, model, strategy
            and loss.
        protocol: what tells its data and targets from those of others under the same name; rows
            can be compared target by target where it is the same.
    """

    runs: tuple[Run, ...]
    varied: dict[str, Any]
    protocol: dict[str, Any] = field(default_factory=dict)

    @property
    def first(self) -> Run:
        return self.runs[0]

    @property
    def label(self) -> str:
        """In one line."""
        return " ".join([self.name, *self.protocol_words])

    @property
    def name(self) -> str:
        """What tells it from other rows of its data."""
        parts = [self.first.model, self.first.strategy, *self._own]
        return " ".join(part for part in parts if part)

    @property
    def settings(self) -> list[str]:
        """`protocol` and `varied` as key=value."""
        return [*self.protocol_words, *self._own]

    @property
    def protocol_words(self) -> list[str]:
        """`protocol` as key=value."""
        return _words(self.protocol)

    @property
    def _own(self) -> list[str]:
        """`varied` without what is null."""
        return _words({key: value for key, value in self.varied.items() if value is not None})

    def values(self, name: str, split: str = "test") -> Array:
        """A metric of each run; NaN where a run has no such split or cutoff."""
        found = [run.metrics.get(split, {}).get(name, np.nan) for run in self.runs]
        return np.array(found, dtype=float)

    def mean(self, name: str, split: str = "test") -> float:
        return float(self.values(name, split).mean())


def find_runs(places: Iterable[Path]) -> list[Run]:
    """All finished runs in and below some folders, in the order of their names.

    Trials from which the settings of other runs were chosen are left out: where they lie beside
    those runs, they would count among them.

    Raises:
        UserError: a place without any, or a file that is not ours.
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
                assert all(needed in metrics for needed in NEEDED)
                assert None not in (run.data, run.strategy, run.loss, run.settings["seed"])
                assert run.result("test")
            except (ValueError, KeyError, TypeError, AssertionError) as error:
                raise UserError(
                    f"{file} is not the metrics of a run of this version ({error!r}); leave it "
                    "out, or run that job again"
                ) from error
            runs[file.parent.resolve()] = run
    return list(runs.values())


def rows_of(runs: Sequence[Run]) -> list[Row]:
    """Rows in the order of their first runs.

    Raises:
        UserError: two runs of the same settings and seed.
    """
    families: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        families.setdefault((run.data, run.dataset, run.model, run.strategy, run.loss), []).append(
            run
        )
    rows = []
    for family in families.values():
        keys = _varying(family)
        groups: dict[str, list[Run]] = {}
        for run in family:
            varied = {key: run.settings.get(key) for key in keys}
            groups.setdefault(json.dumps(varied), []).append(run)
        for text, members in groups.items():
            _refuse_twins(members)
            rows.append(Row(tuple(members), json.loads(text)))
    return _with_protocols(_with_losses(rows))


def _with_protocols(rows: Sequence[Row]) -> list[Row]:
    """With what tells data apart that have the same name, but other targets."""
    told = {}
    for name in dict.fromkeys(row.first.dataset for row in rows):
        first = {row.first.data: row.first for row in rows if row.first.dataset == name}
        settings = {data: run.protocol for data, run in first.items()}
        keys = [
            key
            for key in dict.fromkeys(key for own in settings.values() for key in own)
            if len({json.dumps(own.get(key)) for own in settings.values()}) > 1
        ]
        differ = {data: {key: own.get(key) for key in keys} for data, own in settings.items()}
        if len({json.dumps(own) for own in differ.values()}) < len(first):
            # Other content of the raw files.
            differ = {d: {"fingerprint": first[d].fingerprint, **own} for d, own in differ.items()}
        told.update({(name, data): own for data, own in differ.items()})
    return [replace(row, protocol=told[row.first.dataset, row.first.data]) for row in rows]


def _with_losses(rows: Sequence[Row]) -> list[Row]:
    """The loss among what varies, where that is all that rows differ by."""
    losses: dict[tuple[str, ...], set[str]] = {}
    for row in rows:
        losses.setdefault(_kind(row.first), set()).add(row.first.loss)
    return [
        replace(row, varied={"loss": row.first.loss, **row.varied})
        if len(losses[_kind(row.first)]) > 1
        else row
        for row in rows
    ]


def _kind(run: Run) -> tuple[str, ...]:
    return run.data, run.dataset, run.model, run.strategy


def best_rows(rows: Sequence[Row], metric: str) -> list[Row]:
    """Of rows that differ by their settings alone, the one that is best on validation.

    Raises:
        UserError: runs without a validation split.
    """
    best: dict[tuple[str, ...], Row] = {}
    for row in rows:
        key = _kind(row.first)
        value = row.mean(metric, "valid")
        if np.isnan(value):
            raise UserError(f"{row.first.folder} has no {metric} on validation to choose by")
        if key not in best or value > best[key].mean(metric, "valid"):
            best[key] = row
    return list(best.values())


def _varying(runs: Sequence[Run]) -> list[str]:
    """The settings that are not the same in all runs."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    return [
        key
        for key in keys
        if tells_rows_apart(key) and len({json.dumps(run.settings.get(key)) for run in runs}) > 1
    ]


def _refuse_twins(runs: Sequence[Run]) -> None:
    seen: dict[int, Run] = {}
    for run in runs:
        seed = run.settings["seed"]
        if seed in seen:
            raise UserError(
                f"{run.folder} and {seen[seed].folder} are runs of the same settings and seed; "
                "give one of them"
            )
        seen[seed] = run


def _words(settings: Mapping[str, Any]) -> list[str]:
    return [f"{key}={_word(value)}" for key, value in settings.items()]


def _word(value: Any) -> str:
    """A value, in one word where it is a list or null."""
    if isinstance(value, list):
        return f"[{','.join(map(_word, value))}]"
    return "null" if value is None else str(value)


def _flat(node: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _flat(value, f"{prefix}{key}.")
    else:
        yield prefix.rstrip("."), node
