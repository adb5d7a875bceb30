"""A compiled or captured step is the step: the same losses and weights, and when it is used."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from p_rnn.errors import UserError
from p_rnn.training import engine as engine_module
from p_rnn.training.trainer import Trainer
from tests.worlds import sessions, settings, trainer, weights

STEPS = 1000
DROPOUT = ("dropout_embedding=0.2", "dropout_hidden=0.1")
JOBS = {
    "bpr_max": ("loss=bpr_max", "optimizer.momentum=0.3", "num_layers=2", *DROPOUT),
    "cross_entropy": ("loss=cross_entropy", "loss.logq=1", "optimizer=adam", "learning_rate=0.01"),
    "interleaving": ("model=parallel", "strategy=interleaving", "pooling_mode=mean", *DROPOUT),
    "residual": ("model=parallel_shared", "strategy=residual", "loss=top1"),
    "full": ("model=concat", "negatives=full", "loss=cross_entropy", "model.input=one_hot"),
    "uniform_one": ("model=gru4recf", "negatives=uniform_one", "loss=bpr", "loss.output=linear",
                    "batching=session_parallel", "batch_size=4"),
}  # fmt: skip


def run(name: str, how: str, folder: Path, *more: str) -> tuple[Trainer, list[float], int]:
    """A job of at least STEPS updates, its losses, and the passes that it took."""
    extra = [] if name == "uniform_one" else ["batch_size=8"]
    config = settings(*JOBS[name], *extra, f"compile={how}", "num_epochs=1", *more)
    job, recorder = trainer(config, folder, data=sessions(seed=4, count=400, longest=9))
    index, done = 0, 0
    while len(recorder.losses) < STEPS:
        job.run_pass(index)
        index, done = (index + 1) % len(job.passes), done + 1
    return job, recorder.losses, done


@pytest.mark.skipif(engine_module.compiler() is None, reason="no C++ compiler: none is tested")
@pytest.mark.parametrize("name", JOBS)
def test_a_compiled_step_has_the_losses_of_the_step(name: str, tmp_path: Path) -> None:
    eager, losses, passes = run(name, "never", tmp_path)
    compiled, found, _ = run(name, "always", tmp_path)
    assert len(losses) == len(found) >= STEPS
    assert np.isfinite(losses).all()
    assert np.std(losses) > 1e-4
    np.testing.assert_allclose(found, losses, rtol=2e-4, atol=1e-6)
    wanted = weights(eager.network)
    for key, x in weights(compiled.network).items():
        np.testing.assert_allclose(x, wanted[key], atol=2e-3, err_msg=key)
    kinds = {learners for plan in compiled.passes for learners in plan.updates}
    assert len(compiled.engine.made) == len(kinds)
    assert all(made is not None for made in compiled.engine.made.values())
    assert not eager.engine.made
    assert passes > 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: CUDA graphs are not tested")
@pytest.mark.parametrize("how", ["graph", "always"])
@pytest.mark.parametrize("name", JOBS)
def test_a_captured_step_has_the_losses_of_the_step(name: str, how: str, tmp_path: Path) -> None:
    _, losses, _ = run(name, "never", tmp_path, "device=cuda")
    _, found, _ = run(name, how, tmp_path, "device=cuda")
    np.testing.assert_allclose(found, losses, rtol=1e-3, atol=1e-5)


def test_tracing_changes_nothing_and_the_end_of_a_pass_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only steps without an empty slot run compiled; here each one counts itself."""
    widths: dict[str, list[int]] = {"static": [], "eager": []}
    before: list[Any] = []

    def compiled(function: Any, inputs: Any) -> Any:
        start = weights(job.network)
        traced = engine_module.make_fx(
            function, tracing_mode="fake", _allow_non_fake_inputs=True
        )(*inputs)  # fmt: skip
        assert len(list(traced.graph.nodes)) > 50
        before.append((start, weights(job.network)))

        def counted(*tensors: Any) -> Any:
            widths["static"].append(len(tensors[0]))
            return function(*tensors)

        return counted

    monkeypatch.setattr(engine_module, "_compile", compiled)
    job, recorder = trainer(settings("compile=always"), tmp_path)
    update = job.engine.update

    class Spy:
        def __getattr__(self, name: str) -> Any:
            return getattr(update, name)

        def __call__(self, step: Any, *arguments: Any) -> Any:
            widths["eager"].append(step.count)
            return update(step, *arguments)

    job.run_pass(0)
    plain, wanted = trainer(settings("compile=never"), tmp_path)
    plain.run_pass(0)
    assert recorder.losses == wanted.losses
    ((start, after),) = before
    assert all(np.array_equal(start[name], after[name]) for name in start)
    job.engine.update = Spy()  # type: ignore[assignment]
    widths["static"].clear()
    job.run_pass(1)
    full = job.config.batch_size
    assert set(widths["static"]) == {full}
    assert widths["eager"]
    assert max(widths["eager"]) < (full or 0)


def test_auto_compiles_what_is_long_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def compiled(function: Any, inputs: Any) -> Any:
        made.append(1)
        return function

    monkeypatch.setattr(engine_module, "_compile", compiled)
    monkeypatch.setattr(engine_module, "compiler", lambda: "/bin/compiler")
    job, _ = trainer(settings(), tmp_path)
    job.run_pass(0)
    assert not made
    saved = 0.9 * engine_module.SAVED_S * sum(job.engine.expected.values())
    monkeypatch.setattr(engine_module, "WORTH_COMPILING_S", saved)
    job, _ = trainer(settings(), tmp_path)
    job.run_pass(0)
    assert made == [1]
    monkeypatch.setattr(engine_module, "compiler", lambda: None)
    job, _ = trainer(settings(), tmp_path)
    job.run_pass(0)
    assert made == [1]


def test_a_compiler_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """auto goes on without it and says so; always is an error of one line."""

    def fails(function: Any, inputs: Any) -> Any:
        raise RuntimeError("no such compiler\nand much more")

    monkeypatch.setattr(engine_module, "_compile", fails)
    monkeypatch.setattr(engine_module, "WORTH_COMPILING_S", 0.0)
    monkeypatch.setattr(engine_module, "compiler", lambda: "/bin/compiler")
    job, recorder = trainer(settings("compile=auto"), tmp_path)
    with caplog.at_level(logging.WARNING):
        job.run_pass(0)
    assert [r.message for r in caplog.records] == [
        "compiling the step failed, so it runs as it stands: no such compiler"
    ]
    plain, wanted = trainer(settings("compile=never"), tmp_path)
    plain.run_pass(0)
    assert recorder.losses == wanted.losses
    job, _ = trainer(settings("compile=always"), tmp_path)
    with pytest.raises(UserError, match=r"^compile=always failed: no such compiler$"):
        job.run_pass(0)


def test_what_cannot_be_compiled_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="compile=always has no effect: with batching=sequences"):
        trainer(settings("batching=sequences", "batch_size=20", "compile=always"), tmp_path)
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="compile=graph needs a GPU; take compile=auto"):
            trainer(settings("compile=graph"), tmp_path)
