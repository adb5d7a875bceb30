"""Rows of a report: runs that differ only in their seed, and the settings in which rows differ."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p_rnn.evaluation.metrics import of_cold
from p_rnn.runs.report.runs import Run
from p_rnn.settings.errors import UserError
from p_rnn.settings.roles import tells_rows_apart
from p_rnn.settings.tree import as_overrides

Array = NDArray[Any]


@dataclass(frozen=True)
class ReportRow:
    """Runs that differ only in their seed.

    Attributes:
        varied: the settings in which it differs from other rows of its data set, model, strategy
            and loss.
        protocol: the settings in which its data and targets differ from those of data sets of the
            same name; rows of equal protocol can be compared target by target.
    """

    runs: tuple[Run, ...]
    varied: dict[str, Any]
    protocol: dict[str, Any] = field(default_factory=dict)

    @property
    def first(self) -> Run:
        return self.runs[0]

    @property
    def label(self) -> str:
        """Name and protocol in one line."""
        return " ".join([self.name, *self.protocol_words])

    @property
    def name(self) -> str:
        """The words that distinguish it from other rows of its data."""
        parts = [self.first.model, self.first.strategy, *self._own]
        return " ".join(part for part in parts if part)

    @property
    def settings(self) -> list[str]:
        """`protocol` and `varied` as key=value."""
        return [*self.protocol_words, *self._own]

    @property
    def protocol_words(self) -> list[str]:
        """`protocol` as key=value."""
        return as_overrides(self.protocol)

    @property
    def _own(self) -> list[str]:
        """`varied` as key=value, without null values."""
        return as_overrides({key: value for key, value in self.varied.items() if value is not None})

    def values(self, name: str, split: str = "test") -> Array:
        """A metric of each run [R]; NaN if a run has no such split or cutoff."""
        found = [run.metrics.get(split, {}).get(name, np.nan) for run in self.runs]
        return np.array(found, dtype=float)

    def cold(self, name: str) -> Array:
        """The same of cold test targets, those without a training event."""
        found = [of_cold(run.result("test").get("by_support", []), name) for run in self.runs]
        return np.array(found, dtype=float)  # None becomes NaN

    def mean(self, name: str, split: str = "test") -> float:
        return float(self.values(name, split).mean())


def rows_of(runs: Sequence[Run]) -> list[ReportRow]:
    """Group runs into rows, in the order of their first runs.

    Raises:
        UserError: two runs have the same settings and seed.
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
            rows.append(ReportRow(tuple(members), json.loads(text)))
    return _with_protocols(_with_losses(rows))


def _with_protocols(rows: Sequence[ReportRow]) -> list[ReportRow]:
    """Set `protocol`: what distinguishes data of the same name but with other targets."""
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
            # The raw files had other content.
            differ = {d: {"fingerprint": first[d].fingerprint, **own} for d, own in differ.items()}
        told.update({(name, data): own for data, own in differ.items()})
    return [replace(row, protocol=told[row.first.dataset, row.first.data]) for row in rows]


def _with_losses(rows: Sequence[ReportRow]) -> list[ReportRow]:
    """Add the loss to `varied` where rows differ in nothing else."""
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


def best_rows(rows: Sequence[ReportRow], metric: str) -> list[ReportRow]:
    """Of rows that differ only in their settings, the best one on validation.

    Raises:
        UserError: a row has no validation metrics.
    """
    best: dict[tuple[str, ...], ReportRow] = {}
    for row in rows:
        key = _kind(row.first)
        value = row.mean(metric, "valid")
        if np.isnan(value):
            raise UserError(f"{row.first.folder} has no validation {metric} to choose by")
        if key not in best or value > best[key].mean(metric, "valid"):
            best[key] = row
    return list(best.values())


def _varying(runs: Sequence[Run]) -> list[str]:
    """The settings that differ between the runs."""
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
                f"{run.folder} and {seen[seed].folder} are runs with the same settings and seed; "
                "pass only one of them"
            )
        seen[seed] = run
