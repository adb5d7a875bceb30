"""The whole job on one page: from settings to a trained, evaluated model and its metrics."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from p_rnn import distributed
from p_rnn.baselines import check_beside
from p_rnn.data.dataset import Dataset
from p_rnn.data.prepare import prepare
from p_rnn.evaluation.ranks_file import RANKS, write_ranks
from p_rnn.evaluation.report import describe
from p_rnn.models.architectures import check_model
from p_rnn.printing import wrapped
from p_rnn.runs.comparison import check_splits, compare, load_features
from p_rnn.runs.fit import Watch
from p_rnn.runs.jobs import CountingJob, ModelJob, TrainingJob
from p_rnn.runs.resuming import check_resume
from p_rnn.runs.runtime import environment, use_device, write_json
from p_rnn.runs.warm_start import check_warm_start
from p_rnn.settings.config import Config, Settings
from p_rnn.settings.resolve import counts, resolve
from p_rnn.settings.show import differences
from p_rnn.settings.tree import plain
from p_rnn.tracking import Tracker, varied_hyperparameters

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What a run has made.

    Attributes:
        metrics: the content of metrics.json: "valid" and "test" metrics, counts, timings, history,
            config.
        config: the settings of the run.
        ranker: the trained network, or a baseline.
        dataset: what it was trained on.
        folder: of the run.
        checkpoint: best.pt, or with train_on_validation final.pt.
    """

    metrics: dict[str, Any]
    config: Settings
    ranker: Any
    dataset: Dataset
    folder: Path
    checkpoint: Path


def train(
    given: Config | Settings,
    folder: Path | str,
    varied: Sequence[str] = (),
    watch: Watch | None = None,
) -> dict[str, Any]:
    """`run`, of which only the content of metrics.json is kept."""
    return run(given, folder, varied, watch).metrics


def run(
    given: Config | Settings,
    folder: Path | str,
    varied: Sequence[str] = (),
    watch: Watch | None = None,
) -> Outcome:
    """Prepare the data, train, choose the best epoch, test, and write all results to `folder`.

    Args:
        varied: the settings that the surrounding sweep varies; TensorBoard names runs by them.
        watch: called with the epoch and the metric of early stopping after each validation; it may
            raise `Stopped`, which ends the run.

    Raises:
        UserError: invalid settings or data; `folder` then has no metrics.json.
    """
    started = time.perf_counter()
    pooled = isinstance(given, Config) and given.pooling_mode is not None
    config = resolve(given)
    check_names(config)
    changed = differences(config)
    log.info("%s", wrapped(f"not the defaults: {' '.join(changed)}" if changed else "all defaults"))
    if config.resume is not None:
        check_resume(Path(config.resume), config)
    if config.warm_start is not None and (config.resume is None or config.train_on_validation):
        check_warm_start(config)
    folder = Path(folder)
    name = distributed.device_of(config.device)
    device = use_device(name, config.num_threads, config.matmul_precision)
    with distributed.first_alone():
        dataset = prepare(config.dataset, config.paths)
        check_splits(config, dataset)
        features = load_features(config, dataset, pooled)
    if features:
        config = replace(config, selected_features=list(features))
    prepared = time.perf_counter()
    tracker = Tracker(folder, config.tracking)
    try:
        job: ModelJob
        what = (config, dataset, features, folder, device)
        if counts(config.model.name):
            job = CountingJob(*what)
        else:
            job = TrainingJob(*what, tracker=tracker, watch=watch)
        ranker = job.fit()
        trained = time.perf_counter()
        results: dict[str, dict[str, Any]] = {}
        if "valid" in dataset.splits:
            results["valid"] = compare(ranker, config, dataset, "valid", device).table
        final = config.train_on_validation
        if final:
            del ranker  # frees the memory of the first network and optimizer for the second
            ranker = job.fit_final()
        tested = compare(ranker, config, dataset, "test", device, with_validation=final)
        results["test"] = tested.table
        done = time.perf_counter()
        metrics: dict[str, Any] = {
            split: table[config.model.name]["metrics"] for split, table in results.items()
        }
        _warn_of_failure(config, tested.table)
        summary = job.summary()
        last = max(config.evaluation.cutoffs)
        tracker.hyperparameters(
            config,
            {
                f"{split}/{kind}@{last}": metrics[split][f"{kind}@{last}"]
                for split in results
                for kind in ("recall", "mrr")
            },
            max((row["epoch"] for row in summary["history"]), default=0),
            varied_hyperparameters(varied, config, given),
        )
    finally:
        tracker.close()
    metrics.update(
        **summary,
        seconds={
            "prepare": prepared - started,
            "train": job.before_s + trained - prepared,
            "evaluate": job.before_final_s + done - trained,
            "total": job.before_s + job.before_final_s + done - started,
        },
        results=results,
        dataset={key: value for key, value in dataset.manifest.items() if key != "settings"},
        environment=environment(device),
        config=plain(config),
    )
    if distributed.writes():
        write_ranks(folder / RANKS, tested.ranks)
        write_json(folder / "metrics.json", metrics)
        job.clean()
    log.info("%s", describe(results, config.evaluation))
    checkpoint = folder / "checkpoints" / ("final.pt" if final else "best.pt")
    log.info("\ntested:\n%s", checkpoint)
    return Outcome(metrics, config, ranker, dataset, folder, checkpoint)


def _warn_of_failure(config: Settings, table: dict[str, Any]) -> None:
    """Say so where popularity alone ranks better than a trained model."""
    name = f"recall@{max(config.evaluation.cutoffs)}"
    model, pop = (table.get(each, {}).get("metrics") for each in (config.model.name, "pop"))
    if model and pop and not counts(config.model.name) and model[name] < pop[name]:
        log.warning(
            "warning: test %s is below that of popularity alone: the training has failed; lower "
            "learning_rate (now %g), or give it more epochs or data",
            name,
            config.learning_rate,
        )


def check_names(config: Settings) -> None:
    """Check names of components and their parameters before anything takes time.

    Raises:
        UserError: an unknown name, with the nearest known one; or a parameter that the chosen
            component does not take, with those it takes.
    """
    check_beside(config.evaluation.baselines, plain=True)
    if not counts(config.model.name):
        check_model(config)
