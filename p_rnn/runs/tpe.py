"""Search by Optuna's tree-structured Parzen estimator, with early pruning (extra `sweep`).

TPE draws settings near those that did well on validation so far (Bergstra et al., NeurIPS 2011). A
trial whose validation metric is below the median of the other trials at the same epoch is pruned.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from p_rnn.runs.fit import Stopped
from p_rnn.runs.search import Range, Space, Trial, attempt, free
from p_rnn.runs.sweeps import objective
from p_rnn.settings.errors import UserError, how_to_install
from p_rnn.settings.tree import as_overrides

log = logging.getLogger(__name__)
STUDY_FILE = "study.log"  # of the trials, in Optuna's journal format
RANDOM = 8  # trials that are drawn at random before TPE starts
WARM_UP = 3  # the first epoch after which a trial may be pruned


def search(
    space: str,
    trials: int,
    folder: Path,
    seed: int,
    overrides: Sequence[str],
    prune: bool = True,
) -> Trial | None:
    """Run the trials, each in its own folder below `folder`; return the best one.

    All trials are in the file study.log of the folder. The same command goes on where the last one
    stopped, with a trial that was interrupted first; more `trials` may be given then. Trial k is a
    function of the space, the seed, k and the trials before it.

    Raises:
        UserError: Optuna is missing, an unknown or malformed space, no trials, no validation split,
            or a folder of another search.
    """
    optuna = _optuna()
    if trials < 1:
        raise UserError(f"trials={trials} must be at least 1")
    values = free(space, overrides)
    study = _open(optuna, folder, {"space": str(values), "seed": seed, "of": list(overrides)})
    pruners = optuna.pruners
    study.pruner = pruners.MedianPruner(RANDOM, WARM_UP) if prune else pruners.NopPruner()
    while True:
        so_far = study.get_trials(deepcopy=False)
        interrupted = [t for t in so_far if not t.state.is_finished()]
        if interrupted:
            trial = optuna.trial.Trial(study, interrupted[0]._trial_id)
        elif len(so_far) < trials:
            # A sampler of its own for each trial, so that a search that goes on draws the same.
            with warnings.catch_warnings(category=optuna.exceptions.ExperimentalWarning):
                warnings.simplefilter("ignore")
                study.sampler = optuna.samplers.TPESampler(
                    seed=seed + len(so_far), multivariate=True, n_startup_trials=RANDOM
                )
            trial = study.ask(_distributions(optuna, values))
        else:
            return _best(optuna, study, folder)
        _run(optuna, study, trial, trials, folder, overrides)


def _run(
    optuna: Any, study: Any, trial: Any, trials: int, folder: Path, overrides: Sequence[str]
) -> None:
    """Run one trial and write down how it ended."""
    own = as_overrides(trial.params)
    log.info("\ntrial %d of %d: %s", trial.number + 1, trials, " ".join(own))
    place, states = folder / f"trial{trial.number:03d}", optuna.trial.TrialState
    watch = partial(_watch, trial)
    try:
        metrics = attempt([*overrides, *own], place, list(trial.params), watch)
    except Stopped:
        log.info("pruned: others were better at this epoch")
        study.tell(trial, state=states.PRUNED)
        return
    if metrics is None:
        study.tell(trial, state=states.FAIL)
        return
    if "valid" not in metrics:
        raise UserError("trials are compared on validation, and dataset.validation is false")
    study.tell(trial, objective(metrics))


def _watch(trial: Any, epoch: int, value: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an interrupted trial, which reports epochs again
        trial.report(value, epoch)
    if trial.should_prune():
        raise Stopped


def _best(optuna: Any, study: Any, folder: Path) -> Trial | None:
    done = study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])
    pruned = study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.PRUNED])
    if not done:
        return None
    best = max(done, key=lambda trial: trial.value)
    own = as_overrides(best.params)
    log.info(
        "\nbest of %d trials (%d pruned) on validation, %.4f: %s",
        len(study.get_trials(deepcopy=False)),
        len(pruned),
        best.value,
        " ".join(own),
    )
    return Trial(folder / f"trial{best.number:03d}", own, best.value)


def _open(optuna: Any, folder: Path, about: dict[str, Any]) -> Any:
    """The study of the folder, new or to go on with.

    Raises:
        UserError: the folder holds another search, or random trials without a study.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = folder / STUDY_FILE
    if not path.exists() and any(folder.glob("trial*")):
        raise UserError(f"{folder} holds trials without {STUDY_FILE}; give another name")
    folder.mkdir(parents=True, exist_ok=True)
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    study = optuna.create_study(
        study_name="search",
        storage=optuna.storages.JournalStorage(backend),
        direction="maximize",
        load_if_exists=True,
    )
    stored, now = study.user_attrs.get("about"), json.dumps(about, sort_keys=True)
    if stored is None:
        study.set_user_attr("about", now)
    elif stored != now:
        raise UserError(
            f"{path} is of a search with another space, seed or settings; give another name"
        )
    return study


def _distributions(optuna: Any, space: Space) -> dict[str, Any]:
    """A distribution for each setting: a range is numbers, a list is a choice without an order."""
    kind, made = optuna.distributions, {}
    for key, value in space.items():
        if isinstance(value, Range):
            whole = isinstance(value.low, int) and isinstance(value.step, int)
            cls = kind.IntDistribution if whole else kind.FloatDistribution
            limits = {"log": True} if value.step is None else {"step": value.step}
            made[key] = cls(value.low, value.high, **limits)
        else:
            made[key] = kind.CategoricalDistribution(value)
    return made


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise UserError(
            f"--sampler tpe needs Optuna: {how_to_install('sweep')}; --sampler random needs nothing"
        ) from error
    return optuna
