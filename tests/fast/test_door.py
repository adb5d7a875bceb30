"""Which route updates take, and that nothing goes wrong with it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from p_rnn.fast import door, native, routes
from p_rnn.fast.gpu import compiled_update
from p_rnn.models.network import Subnet
from p_rnn.settings.errors import UserError
from tests.worlds import sessions, settings, trainer, weights

built = pytest.mark.skipif(native.library() is None, reason="no C++ compiler: no fast steps")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, float]]:
    """Every run is worth measuring, in a cache of its own; what was measured."""
    taken: list[dict[str, float]] = []
    measure = door.Fast._measure

    def spy(*arguments: Any) -> dict[str, float]:
        taken.append(measure(*arguments))
        return taken[-1]

    monkeypatch.setattr(door.Fast, "_measure", spy)
    monkeypatch.setattr(door, "WORTH_MEASURING", 1)
    monkeypatch.setattr(routes, "private_folder", lambda: tmp_path)
    return taken


@built
def test_the_quickest_route_is_measured_once_a_machine_and_shape(
    measured: list[dict[str, float]], tmp_path: Path
) -> None:
    job, _ = trainer(settings(), tmp_path)
    assert job.fast.route is None
    job.run_pass(0)
    (taken,) = measured
    assert set(taken) == {"never", "always", "products"}
    assert job.fast.route == min(taken, key=lambda name: taken[name])
    kept = json.loads((tmp_path / "routes.json").read_text())
    assert list(kept.values()) == [job.fast.route]
    # A repeated run takes the same one, whatever would be the quickest now.
    (tmp_path / "routes.json").write_text(json.dumps(dict.fromkeys(kept, "products")))
    again, _ = trainer(settings(), tmp_path)
    again.run_pass(0)
    assert again.fast.route == "products"
    assert len(measured) == 1
    other, _ = trainer(settings("batch_size=4"), tmp_path)
    other.run_pass(0)
    assert len(measured) == 2


@built
def test_measuring_changes_nothing(measured: list[dict[str, float]], tmp_path: Path) -> None:
    """Weights, slots and random numbers are those of a run that knew its route."""
    some = ("dropout_hidden=0.3", "dropout_embedding=0.2", "optimizer.momentum=0.3")
    found = []
    for _ in range(2):
        (tmp_path / "routes.json").unlink(missing_ok=True)
        job, recorder = trainer(settings(*some), tmp_path)
        job.run_pass(0)
        known, expected = trainer(settings(*some, f"compile={job.fast.route}"), tmp_path)
        known.run_pass(0)
        assert recorder.losses == expected.losses
        wanted = weights(known.network)
        assert all(np.array_equal(x, wanted[key]) for key, x in weights(job.network).items())
        found.append(recorder.losses)
    assert len(measured) == 2


def test_a_damaged_file_of_routes_is_as_none(
    measured: list[dict[str, float]], tmp_path: Path
) -> None:
    for text in ("{", "[]", '{"x": 1}'):
        (tmp_path / "routes.json").write_text(text)
        assert routes.known("key") is None
        routes.keep("key", "always")
        assert routes.known("key") == "always"


@built
def test_short_runs_take_the_likely_route(tmp_path: Path) -> None:
    job, _ = trainer(settings(), tmp_path)
    job.run_pass(0)
    assert job.fast.route == "always"


@built
def test_an_exception_falls_back_to_the_plain_step_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*arguments: Any, **named: Any) -> None:
        raise RuntimeError("no such kernel\nand much more")

    monkeypatch.setattr("p_rnn.fast.update.FastUpdate._update", fails)
    job, recorder = trainer(settings("compile=always"), tmp_path)
    with caplog.at_level(logging.WARNING):
        job.run_pass(0)
    said = [r.message for r in caplog.records]
    assert said == ["the fast step failed, so the plain one runs: no such kernel"]
    plain, wanted = trainer(settings("compile=never"), tmp_path)
    plain.run_pass(0)
    assert recorder.losses == wanted.losses


@built
def test_a_network_that_changes_its_type_runs_plain(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job, recorder = trainer(settings("compile=always"), tmp_path)
    job.network.double()
    with caplog.at_level(logging.WARNING):
        job.run_pass(0)
    assert "not all parameters are float32" in caplog.text
    assert np.isfinite(recorder.losses).all()
    assert min(recorder.losses) > 0.01


@built
def test_weights_that_are_given_other_memory_are_seen(tmp_path: Path) -> None:
    losses = []
    for how in ("never", "always"):
        job, recorder = trainer(settings(f"compile={how}"), tmp_path, data=sessions(count=60))
        job.run_pass(0)
        for p in job.network.parameters():
            p.data = p.data.clone() * 0.5
        job.optimizer.load_state_dict(job.optimizer.state_dict())
        job.run_pass(1)
        losses.append(recorder.losses)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


class Mine(Subnet):
    """Somebody's own subnet."""


@built
@pytest.mark.parametrize("how", ["auto", "always"])
def test_what_is_not_ours_is_declined_with_the_reason(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("p_rnn.models.parts.Subnet", Mine)
    if how == "always":
        with pytest.raises(UserError, match="compile=always has no effect here: the network is"):
            trainer(settings("compile=always"), tmp_path)
        return
    with caplog.at_level(logging.INFO):
        job, recorder = trainer(settings(), tmp_path)
    assert "the plain step runs: the network is not composed of" in caplog.text
    job.run_pass(0)
    assert job.fast.route == "never"
    assert recorder.losses


def test_without_a_compiler_the_plain_step_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "library", lambda: None)
    job, _ = trainer(settings(), tmp_path)
    job.run_pass(0)
    assert job.fast.route == "never"
    with pytest.raises(UserError, match=r"it needs a C\+\+ compiler .*; take compile=auto"):
        trainer(settings("compile=always"), tmp_path)


@built
@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("compile=graph",), "compile=graph has no effect here: graph is for GPUs"),
        (("compile=products", "loss=top1_max"), "compile=products has no effect here: this loss"),
        (
            ("compile=always", "negatives=uniform_one", "loss=bpr", "loss.output=linear"),
            "compile=always has no effect here: each example has candidates of its own",
        ),
    ],
)
def test_what_has_no_effect_is_refused(
    overrides: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=says):
        trainer(settings(*overrides), tmp_path)


@pytest.mark.skipif(native.compiler() is None, reason="no C++ compiler: torch.compile needs one")
def test_a_step_compiled_by_pytorch_has_the_losses_of_the_step(tmp_path: Path) -> None:
    """What `always` is on a GPU; here it is compiled for the CPU."""
    losses = []
    for how in ("plain", "compiled"):
        config = settings("compile=never", "loss=cross_entropy", "loss.logq=0", "num_epochs=1")
        job, recorder = trainer(config, tmp_path)
        if how == "compiled":
            job.fast.update = compiled_update(job.update)  # type: ignore[assignment]
        job.run_pass(0)
        losses.append(recorder.losses)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: CUDA graphs are not tested")
@pytest.mark.parametrize("how", ["graph", "always"])
@pytest.mark.parametrize("model", ["id_only", "parallel"])
def test_on_a_gpu_every_route_has_the_losses_of_the_step(
    how: str, model: str, tmp_path: Path
) -> None:
    losses = []
    for each in ("never", how):
        config = settings(f"model={model}", f"compile={each}", "device=cuda", "schedule=cosine")
        job, recorder = trainer(config, tmp_path, data=sessions(count=200))
        for index in range(len(job.passes)):
            job.run_pass(index)
        losses.append(recorder.losses)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3, atol=1e-5)
