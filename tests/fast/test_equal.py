"""A fast step is the plain step: the same losses and weights over hundreds of updates."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from p_rnn.fast import native
from p_rnn.fast.update import FastUpdate
from p_rnn.training.trainer import Trainer
from tests.worlds import sessions, settings, trainer, weights

STEPS, LONG = 1000, ("bpr_max", "cross_entropy", "alternating")  # updates; the others: a quarter
Run = Callable[[str, str], tuple[Trainer, list[float]]]
DROPOUT = ("dropout_embedding=0.2", "dropout_hidden=0.1")
JOBS = {
    "bpr_max": ("loss=bpr_max", "optimizer.momentum=0.3", "num_layers=2", *DROPOUT),
    "cross_entropy": ("loss=cross_entropy", "loss.logq=1", "optimizer=adam", "learning_rate=0.01"),
    "one_hot": ("model.input=one_hot", "loss=cross_entropy", "loss.logq=0.5", "dropout_hidden=0.1"),
    "in_batch": ("num_negatives=0", "loss=bpr_max", "model.input=embedding", "embedding_size=3"),
    "interleaving": ("model=parallel", "strategy=interleaving", "pooling_mode=mean", *DROPOUT),
    "alternating": (
        "model=parallel_interaction",
        "strategy=alternating",
        "loss=cross_entropy",
        "loss.logq=0",
        "subnets.image.weight=0.5",
        "subnets.id.weight=2",
    ),
    "residual": (
        "model=parallel_shared",
        "strategy=residual",
        "loss=top1",
        "subnets.tags.weight=0.5",
    ),
    "projected": (
        "model=gru4recf",
        "batching=session_parallel",
        "negatives=sampled",
        "num_negatives=7",
        "sample_alpha=0.5",
        "loss=bpr_max",
        "learning_rate=0.003",
    ),
    "full": (
        "model=concat",
        "negatives=full",
        "loss=cross_entropy",
        "loss.logq=0",
        "model.input=one_hot",
        "subnets.tags.weight=0.5",
    ),
    "tied_and_full": ("negatives=full", "loss=cross_entropy", "loss.logq=0"),
    "max": (
        "model=parallel",
        "pooling_mode=max",
        "model.feature_input=embedding",
        "embedding_size=4",
        "loss=top1_max",
    ),
    "embedded": (
        "model=feature_only",
        "model.feature_input=embedding",
        "embedding_size=3",
        "dropout_embedding=0.3",
        "loss=bpr",
        "loss.output=tanh",
    ),
    "attention": ("cell=attention", "cell.span=4", "model=id_only", "cell.dropout=0.2"),
    "lstm": ("cell=lstm", "model=parallel", "strategy=interleaving", "num_layers=2", *DROPOUT),
    "reset_before": ("cell.reset=before", "loss=top1", "num_layers=2", *DROPOUT),
    "windows": (
        "batching=sequences",
        "window=6",
        "stride=3",
        "loss=cross_entropy",
        "loss.logq=1",
        *DROPOUT,
    ),
    "windows_of_features": (
        "model=parallel",
        "batching=sequences",
        "window=6",
        "stride=3",
        "strategy=alternating",
        "loss=bpr_max",
    ),
    "clipped": ("clip_norm=0.5", "optimizer=sgd", "optimizer.momentum=0.5", "schedule=cosine"),
    "decayed": ("optimizer=adamw", "learning_rate=0.01", "optimizer.weight_decay=0.1", "ema=0.9"),
    "adagrad_decayed": (
        "optimizer.weight_decay=0.01",
        "clip_norm=1",
        "schedule=linear",
        "schedule.warmup_epochs=1",
    ),
    "both": ("model=parallel_shared", "model.output=both", "pooling_mode=mean", *DROPOUT),
    "both_of_all": (
        "model=parallel",
        "model.output=both",
        "model.input=embedding",
        "strategy=interleaving",
        "loss=cross_entropy",
        "loss.logq=1",
    ),
    "features": ("model=concat", "model.output=features", "loss=bpr_max", "optimizer.momentum=0.2"),
    "features_by_adam": (
        "model.output=features",
        "optimizer=adam",
        "learning_rate=0.01",
        "loss=top1",
    ),
    "both_of_max": ("model.output=both", "pooling_mode=max", "loss=cross_entropy"),
    "both_and_full": (
        "model=parallel_interaction",
        "model.output=both",
        "strategy=residual",
        "negatives=full",
        "loss=cross_entropy",
        "loss.logq=0",
    ),
    "scheduled": (
        "schedule=cosine",
        "schedule.warmup_epochs=2",
        "loss=cross_entropy",
        "loss.logq=1",
    ),
}

pytestmark = pytest.mark.skipif(
    native.library() is None, reason="no C++ compiler: fast steps are not tested"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A function from the name of a job and how it is compiled to `trained`, which runs once."""
    folder = tmp_path_factory.mktemp("equal")
    return cache(lambda name, how: trained(name, how, folder))


def trained(name: str, how: str, folder: Path) -> tuple[Trainer, list[float]]:
    """A job of `steps_of` updates or more, and its losses."""
    job = JOBS[name]
    rate = [] if any(x.startswith("learning_rate") for x in job) else ["learning_rate=0.03"]
    config = settings(
        *job, *rate, "batch_size=8", f"compile={how}", "num_epochs=40", "tracking.log_every=50"
    )
    made, recorder = trainer(config, folder, data=sessions(seed=4, count=400, longest=9))
    index = 0
    while made.updates < steps_of(name):
        made.run_pass(index)
        index += 1
    return made, recorder.losses


def steps_of(name: str) -> int:
    return STEPS if name in LONG else STEPS // 4


@pytest.mark.parametrize("how", ["always", pytest.param("products", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", JOBS)
def test_a_fast_step_has_the_losses_of_the_plain_one(name: str, how: str, run: Run) -> None:
    if how == "products" and JOBS[name] and not _compiled(name):
        pytest.skip("products is for losses that are compiled")
    plain, losses = run(name, "never")
    fast, found = run(name, how)
    assert fast.fast.route == how
    assert isinstance(fast.fast.run, FastUpdate)
    assert len(losses) == len(found)
    assert plain.updates == fast.updates >= steps_of(name)
    assert np.isfinite(losses).all()
    assert np.std(losses) > 1e-4
    np.testing.assert_allclose(found, losses, rtol=5e-4, atol=1e-5)
    wanted = weights(plain.network)
    for key, x in weights(fast.network).items():
        np.testing.assert_allclose(x, wanted[key], atol=2e-3, err_msg=key)
    if plain.average is not None:
        assert fast.average is not None
        averaged = weights(plain.average)
        for key, x in weights(fast.average).items():
            np.testing.assert_allclose(x, averaged[key], atol=2e-3, err_msg=key)
            assert not np.array_equal(x, wanted[key])


def _compiled(name: str) -> bool:
    text = " ".join(JOBS[name])
    losses = re.findall(r"loss=(\w+)", text)
    return not losses or losses[0] in ("bpr_max", "cross_entropy", "top1")


@pytest.mark.parametrize(
    "name", ["bpr_max", "interleaving", "alternating", "one_hot", "scheduled", "reset_before"]
)
def test_whole_steps_are_replayed(name: str, run: Run) -> None:
    """One call of C++ for a step of GRUs, merges, the compiled losses and Adagrad."""
    made, _ = run(name, "always")
    assert isinstance(made.fast.run, FastUpdate)
    kinds = {learners for plan in made.passes for learners in plan.updates}
    assert len(made.fast.run.tapes) == len(kinds)
    assert all(tape is not None for tape in made.fast.run.tapes.values())


def test_a_replayed_step_draws_the_dropout_of_the_plain_one(run: Run) -> None:
    a, _ = run("bpr_max", "never")
    b, _ = run("bpr_max", "always")
    for name, generator in a.streams.generators.items():
        assert torch.equal(generator.get_state(), b.streams.generators[name].get_state()), name
