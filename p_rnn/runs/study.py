"""A study: every model is tuned by as many trials on validation, then run with several seeds."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from p_rnn.files import write_text
from p_rnn.runs.experiment import check_names
from p_rnn.runs.report.runs import METRICS, TRIALS
from p_rnn.runs.report.write import write_report
from p_rnn.runs.search import attempt, file_of, first_draw, read_mapping, search
from p_rnn.runs.sweeps import list_failures
from p_rnn.settings.errors import UserError
from p_rnn.settings.hydra_glue import load_config
from p_rnn.settings.registry import suggest
from p_rnn.settings.resolve import counts, resolve

# ruff: noqa: UP045  (OmegaConf reads Optional[...] on every Python that we support)
log = logging.getLogger(__name__)


@dataclass
class StudyRowConfig:
    """A model of a study.

    Attributes:
        model: null: the name of the row.
        space: file of conf/space from which trials are drawn; null: nothing is tuned.
        trials: null: as many as the study says.
        overrides: settings of all its runs, as for p-rnn train.
        variants: overrides, each of which makes another row of the table with the same tuned
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
        in_trials: settings of the trials only, such as dataset.validation=true if the reported
            runs train on everything before the test split.
        seeds: of the reported runs of trained models.
        against: the row that the others are tested against: its name here, then words of its label
            if it has variants.
        shared: lists of overrides that rows refer to, as ${shared.networks}.
        rows: in the order of the table.
    """

    overrides: list[str] = field(default_factory=list)
    trials: int = 4
    in_trials: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=lambda: [1, 2, 3])
    against: Optional[str] = None
    shared: dict[str, list[str]] = field(default_factory=dict)
    rows: dict[str, Optional[StudyRowConfig]] = field(default_factory=dict)


def read_study(name: str) -> StudyConfig:
    """Read a study by its name in conf/study, or from a YAML file.

    Raises:
        UserError: no such study, or one that cannot be run.
    """
    path = file_of("study", name)
    content = read_mapping(path)
    if not isinstance(content.get("rows"), dict) or content.get("seeds") == []:
        raise UserError(f"{path} needs seeds, and rows such as id_only: {{space: network}}")
    try:
        study = OmegaConf.to_object(OmegaConf.merge(StudyConfig, content))
    except OmegaConfBaseException as error:
        raise UserError(f"{path}: {str(error).splitlines()[0]}") from error
    assert isinstance(study, StudyConfig)
    return study


def run_study(
    study: StudyConfig,
    folder: Path,
    rows: Sequence[str] | None = None,
    against: str | None = None,
    overrides: Sequence[str] = (),
) -> bool:
    """Run the unfinished part of a study below `folder`, and report on all finished runs.

    Args:
        rows: run only these; empty: only report; None: all.
        against: the row that others are tested against; None: that of the study.
        overrides: settings of all runs in addition to those of the study.

    Returns:
        Whether a run has failed.

    Raises:
        UserError: an unknown row, model or space, nothing to report, or an unknown row to test
            against.
    """
    named, _, words = (against or study.against or "").partition(" ")
    for name in [*(rows or []), *([named] if named and not against else [])]:
        if name not in study.rows:
            raise UserError(f"unknown row '{name}'{suggest(name, study.rows)}")
    if any(word.startswith("seed=") for word in overrides):
        raise UserError("seeds are part of the study, in its file; leave seed= out")
    all_rows = {
        name: _StudyRow(study, row or StudyRowConfig(), name, folder / name, overrides)
        for name, row in study.rows.items()
    }
    asked = [row for name, row in all_rows.items() if rows is None or name in rows]
    for row in asked:
        row.check()
    finished: list[Path] = []
    for row in all_rows.values():
        if row in asked:
            finished += row.run()
        else:
            finished += [place for place, _ in row.final() if (place / METRICS).exists()]
    failed = list_failures([row.folder for row in asked], "runs of the study")
    failed |= any(row.refused for row in asked)
    if not finished:
        raise UserError(f"no run of the study with these settings has finished below {folder}")
    if named in all_rows:
        own = folder / named
        there = against or any(own in place.parents for place in finished)
        text = write_report(finished, folder / "report", words if there else None, inside=own)
    else:  # words of a label
        text = write_report(finished, folder / "report", against)
    tuned = "\n".join(f"{name}: {row.tuned}" for name, row in all_rows.items() if row.tuned)
    write_text(folder / "report" / "tuned.txt", tuned + "\n")
    log.info("%s\n\nbest of their trials:\n%s\n\nreport: %s", text, tuned, folder / "report")
    return failed


class _StudyRow:
    """Tunes and runs one row of a study."""

    def __init__(
        self,
        study: StudyConfig,
        row: StudyRowConfig,
        name: str,
        folder: Path,
        overrides: Sequence[str],
    ) -> None:
        self.study, self.row, self.folder = study, row, folder
        self.trials = study.trials if row.trials is None else row.trials
        model = f"model={row.model or name}"
        self.overrides = [*study.overrides, model, *row.overrides, *overrides]
        self.counts = counts(load_config(model).model.name)
        self.refused = False  # whether a run was already finished with other settings

    def check(self) -> None:
        """Check all that can be checked without the data, before anything runs."""
        drawn: list[str] = []
        if self.row.space is not None:
            drawn = first_draw(self.row.space, 0, self.overrides)
            if self.trials < 1:
                raise UserError(f"{self.folder.name}: trials={self.trials} must be at least 1")
        for variant in self.row.variants or [""]:
            own = [variant] if variant else []
            check_names(resolve(load_config(*self.overrides, *drawn, *own)))

    @property
    def tuned(self) -> str:
        """The overrides of the best trial; empty if there is none yet."""
        note = self.folder / "tuned.txt"
        return note.read_text().strip() if note.exists() else ""

    def final(self) -> Iterator[tuple[Path, list[str]]]:
        """Folder and overrides (besides the tuned ones) of each reported run."""
        # Models that count have no randomness.
        seeds = [""] if self.counts else [f"seed={seed}" for seed in self.study.seeds]
        for variant in self.row.variants or [""]:
            for seed in seeds:
                own = [word for word in (variant, seed) if word]
                yield self.folder / (",".join(own) or "run"), own

    def run(self) -> list[Path]:
        """Tune, then run with the best settings; return the folders of finished runs."""
        tuned: list[str] = []
        if self.row.space is not None:
            fixed = [*self.overrides, *self.study.in_trials]
            best = search(self.row.space, self.trials, self.folder / TRIALS, 0, fixed)
            if best is None:
                return []
            tuned = best.overrides
            write_text(self.folder / "tuned.txt", " ".join(tuned) + "\n")
        finished = []
        for place, own in self.final():
            log.info("\n%s: %s", place, " ".join([*tuned, *own]))
            if attempt([*self.overrides, *tuned, *own], place) is not None:
                finished.append(place)
            elif (place / METRICS).exists():
                log.error("remove %s to run it again", place)
                self.refused = True
        return finished
