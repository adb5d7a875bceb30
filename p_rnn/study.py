"""A study: every model tuned by as many trials on validation, then run with several seeds."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from omegaconf import OmegaConf

from p_rnn.cli import CONF, load_config
from p_rnn.errors import UserError
from p_rnn.registry import suggest
from p_rnn.report.write import write_report
from p_rnn.search import attempt, search
from p_rnn.sweeps import list_failures

# ruff: noqa: UP045  (OmegaConf reads Optional[...] on every Python that we support)
log = logging.getLogger(__name__)


@dataclass
class RowConfig:
    """A model of a study.

    Attributes:
        model: null: the row's own name.
        space: of conf/space, from which its trials are drawn; null: it has nothing to tune.
        trials: null: as many as the study says.
        overrides: settings of all its runs, as of scripts/train.py.
        variants: overrides of which each makes another row of the table with the same tuned
            settings, such as strategy=residual.
    """

    model: Optional[str] = None
    space: Optional[str] = None
    trials: Optional[int] = None
    overrides: list[str] = field(default_factory=list)
    variants: list[str] = field(default_factory=list)


@dataclass
class StudyConfig:
    """A file of conf/study.

    Attributes:
        overrides: settings of all runs, first of all the data set.
        trials: random draws for each model with a space; the best one on validation is kept.
        in_trials: settings of the trials of trained models alone, such as num_epochs=1.
        seeds: of the runs of trained models that are reported.
        against: the row, by its name, that the others are tested against once it is there.
        shared: lists of overrides that rows refer to, as ${shared.networks}.
        rows: in the order of the table.
    """

    overrides: list[str] = field(default_factory=list)
    trials: int = 4
    in_trials: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=lambda: [1, 2, 3])
    against: Optional[str] = None
    shared: dict[str, list[str]] = field(default_factory=dict)
    rows: dict[str, Optional[RowConfig]] = field(default_factory=dict)


def read_study(name: str) -> StudyConfig:
    """The study of a name in conf/study, or of a YAML file.

    Raises:
        UserError: no such study, or one without rows or seeds.
        OmegaConfBaseException: unknown keys or wrong types.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else CONF / "study" / f"{name}.yaml"
    if not path.is_file():
        known = [p.stem for p in (CONF / "study").glob("*.yaml")]
        raise UserError(f"unknown study '{name}'{suggest(name, known)}")
    study = OmegaConf.to_object(OmegaConf.merge(StudyConfig, OmegaConf.load(path)))
    assert isinstance(study, StudyConfig)
    if not study.rows or not study.seeds:
        raise UserError(f"{path} needs rows and seeds")
    return study


def run_study(
    study: StudyConfig,
    folder: Path,
    rows: Sequence[str] | None = None,
    against: str | None = None,
    overrides: Sequence[str] = (),
) -> bool:
    """Run what is not finished of a study below `folder`, and report on all that is.

    Args:
        rows: run only these; none at all to report alone.
        against: the row that others are tested against; null: that of the study.
        overrides: settings of all runs besides those of the study.

    Returns:
        Whether a run has failed.

    Raises:
        UserError: an unknown row.
    """
    for name in rows or []:
        if name not in study.rows:
            raise UserError(f"unknown row '{name}'{suggest(name, study.rows)}")
    finished: list[Path] = []
    for name, row in study.rows.items():
        own = _Row(study, row or RowConfig(), name, folder / name, overrides)
        if rows is None or name in rows:
            own.run()
        finished += [place for place, _ in own.final() if (place / "metrics.json").exists()]
    if finished:
        if against is None and any((folder / str(study.against)) in p.parents for p in finished):
            against = study.against
        log.info("%s", write_report(finished, folder / "report", against))
        log.info("\nreport: %s", folder / "report")
    return list_failures(folder, "runs of the study")


class _Row:
    """The runs of a row."""

    def __init__(
        self, study: StudyConfig, row: RowConfig, name: str, folder: Path, overrides: Sequence[str]
    ) -> None:
        self.study, self.row, self.folder = study, row, folder
        model = f"model={row.model or name}"
        self.overrides = [*study.overrides, model, *row.overrides, *overrides]
        self.counts = load_config(model).model.family == "counts"

    def final(self) -> Iterator[tuple[Path, list[str]]]:
        """Folder and overrides of each run that is reported, beside the tuned settings."""
        if self.counts:  # nothing is random in it
            yield self.folder / "run", []
            return
        for variant in self.row.variants or [""]:
            for seed in self.study.seeds:
                own = [*filter(None, [variant]), f"seed={seed}"]
                yield self.folder / ",".join(own), own

    def run(self) -> None:
        """Tune, then run with the best settings."""
        tuned: list[str] = []
        if self.row.space is not None:
            fixed = [*self.overrides, *([] if self.counts else self.study.in_trials)]
            trials = self.row.trials or self.study.trials
            best = search(self.row.space, trials, self.folder / "trials", 0, fixed)
            if best is None:
                return
            tuned = best.overrides
        for place, own in self.final():
            log.info("\n%s: %s", place, " ".join([*tuned, *own]))
            attempt([*self.overrides, *tuned, *own], place)
