"""Random logs and settings: what must hold of every job, whatever it is given.

`P_RNN_EXAMPLES=300 pytest --slow tests/test_random_jobs.py` tries more of them.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from p_rnn.data.prepare import prepare
from p_rnn.runs.experiment import train
from p_rnn.settings.config import Config
from p_rnn.settings.errors import UserError
from p_rnn.settings.sections import PathsConfig
from tests.composed import composed

EXAMPLES = int(os.environ.get("P_RNN_EXAMPLES", "100"))
DAY_S, CUTOFFS = 86_400, (1, 3, 10)
FEATURES = ("feature_only", "concat", "parallel", "parallel_shared", "feature_markov")
COUNTING = ("pop", "markov", "item_knn", "v_sknn", "feature_markov")


@dataclass(frozen=True)
class Job:
    """A random log with an item table, and how it is prepared and ranked."""

    seed: int
    text_ids: bool
    length: int
    support: int
    test_days: float
    straddling: str
    cold: str
    words: tuple[str, ...]

    @property
    def model(self) -> str:
        return self.words[0].partition("=")[2]


NETWORKS = st.tuples(
    st.sampled_from(["id_only", "concat", "parallel", "parallel_shared", "feature_only"]),
    st.sampled_from(["simultaneous", "alternating", "residual", "interleaving"]),
    st.sampled_from(["cross_entropy", "bpr_max", "top1", "bpr"]),
    st.sampled_from(["session_parallel", "sequences"]),
    st.sampled_from(["num_negatives=0", "num_negatives=7", "negatives=uniform_one"]),
).map(lambda w: (f"model={w[0]}", f"strategy={w[1]}", f"loss={w[2]}", f"batching={w[3]}", w[4]))
JOBS = st.builds(
    Job,
    seed=st.integers(0, 10**6),
    text_ids=st.booleans(),
    length=st.integers(1, 3),
    support=st.integers(1, 4),
    test_days=st.sampled_from([0.5, 1.0, 2.0]),
    straddling=st.sampled_from(["whole", "truncate"]),
    cold=st.sampled_from(["drop", "keep"]),
    words=st.one_of(NETWORKS, st.sampled_from(COUNTING).map(lambda m: (f"model={m}",))),
)


def raw_log(job: Job) -> tuple[pd.DataFrame, pd.DataFrame]:
    """30 to 80 sessions of up to 8 events in 8 days, equal times among them; tags of items."""
    rng = np.random.default_rng(job.seed)
    count, items = int(rng.integers(30, 80)), int(rng.integers(4, 20))
    rows = [
        (s, int(rng.integers(items)), start + int(rng.integers(0, 4)) * 3600 * k)
        for s, start in enumerate(rng.integers(0, 8 * DAY_S, count).tolist())
        for k in range(int(rng.integers(1, 9)))
    ]
    log = pd.DataFrame(rows, columns=["session", "item", "time"])
    log = log.drop_duplicates().sample(frac=1, random_state=job.seed)
    tags = [f"t{i % 3}|t{i % 4}" if i % 5 else "" for i in range(items)]
    table = pd.DataFrame({"item": range(items), "tags": tags})
    if job.text_ids:
        log["session"], log["item"] = (
            "s" + log["session"].astype(str),
            "ü" + log["item"].astype(str),
        )
        table["item"] = "ü" + table["item"].astype(str)
    return log, table


def counted(log: pd.DataFrame, job: Job) -> tuple[int, int]:
    """The training pairs and the test targets, by pandas."""
    before = -1
    while len(log) != before:
        before = len(log)
        log = log[log.groupby("session")["item"].transform("size") >= job.length]
        log = log[log.groupby("item")["item"].transform("size") >= job.support]
    parts: dict[str, pd.DataFrame] = {}
    for name in ("test", "valid"):
        start = log.groupby("session")["time"].transform("min")
        cut = start.max() - job.test_days * DAY_S
        parts[name], late = log[start > cut], start > cut
        log = log[~late]
        if job.straddling == "truncate":
            log = log[log["time"] <= cut]
            least = max(job.length, 2)
            log = log[log.groupby("session")["item"].transform("size") >= least]
    test = parts["test"]
    if job.cold == "drop":
        test = test[test["item"].isin(log["item"])]
    pairs = [frame.groupby("session").size() - 1 for frame in (log, test)]
    return int(pairs[0].sum()), int(pairs[1].sum())


def config_of(job: Job, folder: Path) -> Config:
    log, table = raw_log(job)
    log.to_csv(folder / "log.csv", index=False)
    table.to_csv(folder / "items.csv", index=False)
    words = [
        "dataset=table",
        "dataset.name=random",
        "dataset.path=log.csv",
        "dataset.item_table.path=items.csv",
        "dataset.item_table.list_columns=[tags]",
        "dataset.item_table.list_separator='|'",
        f"dataset.min_session_length={job.length}",
        f"dataset.min_item_support={job.support}",
        f"dataset.test_days={job.test_days}",
        f"dataset.straddling={job.straddling}",
        f"evaluation.cold_items={job.cold}",
        f"evaluation.cutoffs=[{','.join(map(str, CUTOFFS))}]",
        "evaluation.baselines=[pop]",
        "tracking.progress=false",
        "tracking.tensorboard=false",
        "device=cpu",
        *job.words,
    ]
    if job.model not in COUNTING:
        words += ["hidden_size=4", "num_epochs=1", "batch_size=3", "compile=never"]
    paths = PathsConfig(str(folder), str(folder / "prepared"))
    return replace(composed(*words), paths=paths)


def files_of(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def check(job: Job) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            config = config_of(job, folder)
            found = train(config, folder / "run")
        except UserError:
            assume(False)
        pairs, targets = counted(raw_log(job)[0], job)
        rows: list[dict[str, Any]] = found["history"]
        for row in rows:
            assert row["events"] == pairs or row["skipped"]
            assert math.isfinite(row["loss"])
        assert found["results"]["test"][job.model]["targets"] == targets
        for split in ("valid", "test"):
            for measured in found["results"][split].values():
                values = measured["metrics"]
                check_metrics(
                    [[values[f"{m}@{k}"] for k in CUTOFFS] for m in ("recall", "mrr", "ndcg")]
                )
        again = PathsConfig(str(folder), str(folder / "again"))
        first, second = (prepare(config.dataset, paths).folder for paths in (config.paths, again))
        kept = {k: v for k, v in files_of(first).items() if not k.startswith("features")}
        assert files_of(second) == kept


def check_metrics(curves: list[list[float]]) -> None:
    """Recall, MRR and NDCG at each cutoff: in [0, 1], growing with K, and MRR <= NDCG <= recall."""
    for curve in curves:
        assert all(0 <= value <= 1 for value in curve)
        assert curve == sorted(curve)
    for recall, mrr, ndcg in zip(*curves, strict=True):
        assert mrr <= ndcg + 1e-12
        assert ndcg <= recall + 1e-12


def tried(examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    checks = [HealthCheck.filter_too_much, HealthCheck.too_slow]
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=checks,
    )


@given(job=JOBS)
@tried(5)
def test_a_few_random_jobs(job: Job) -> None:
    check(job)


@pytest.mark.slow
@given(job=JOBS)
@tried(EXAMPLES)
def test_many_random_jobs(job: Job) -> None:
    check(job)
