"""The Python interface: examples of the docstrings, training on frames, and what comes of it."""

from __future__ import annotations

import doctest
import importlib
import inspect
import logging
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import p_rnn
from p_rnn import Dataset, Trained, UserError, component, load_config, train
from p_rnn.baselines import BASELINES
from p_rnn.models.architectures import MODELS
from p_rnn.runs import experiment
from p_rnn.settings.config import Config
from p_rnn.training.losses import LOSSES
from tests.conftest import random_log
from tests.running import run_script
from tests.worlds import SMALL

DOCUMENTED = (
    "p_rnn.api",
    "p_rnn.data.frames",
    "p_rnn.recommend.recommender",
    "p_rnn.settings.hydra_glue",
)


def shop(**given: Any) -> Dataset:
    log = random_log(seed=1)
    items = pd.DataFrame({"item": range(30), "size": np.arange(30) / 4})
    items["tags"] = [[f"t{k % 4}", f"u{k % 5}"] for k in range(30)]
    return Dataset.from_frame(log, items, **{"min_item_support": 1, "test_days": 2, **given})


@pytest.fixture(scope="module")
def data() -> Dataset:
    return shop()


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_examples_of_docstrings(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    found = [test for test in doctest.DocTestFinder().find(module) if test.examples]
    assert found
    for test in found:
        assert not doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test).failed
    torch.set_num_threads(1)


@pytest.mark.parametrize("model", [*MODELS, "item_knn", "feature_markov"])
def test_every_model_trains_on_frames(model: str, data: Dataset, tmp_path: Path) -> None:
    given = dict(SMALL)
    if model in BASELINES:
        given = {"device": "cpu", "tracking": SMALL["tracking"]}
    elif model not in ("gru4recf", "bpr_mf"):
        given["num_negatives"] = 8
    trained = train(data, model, folder=tmp_path / "run", **given)
    assert 0 < trained.metrics["test"]["recall@20"] <= 1
    assert (trained.folder / "metrics.json").exists()
    assert trained.checkpoint == trained.folder / "checkpoints" / "best.pt"
    assert trained.checkpoint.exists()
    assert model in trained.describe()
    assert repr(trained).startswith(f"Trained '{model}' on 'frame': test recall@20 ")
    if model in BASELINES:
        assert trained.network is None
        assert trained.history.empty
        with pytest.raises(UserError, match=f"^model {model} has no hidden states"):
            trained.hidden_states([[1]])
    else:
        assert isinstance(trained.network, torch.nn.Module)
        assert trained.ranker.network is trained.network
        assert list(trained.history["epoch"]) == [1]
        assert "valid/recall@20" in trained.history
        states = trained.hidden_states([[1, 2], [3]])
        assert tuple(states) == trained.network.names


def by_hand(trained: Trained, session: list[int]) -> list[np.ndarray]:
    """The hidden states after a session, one step at a time."""
    network, ids = trained.network, trained.dataset.item_ids.tolist()
    assert network is not None
    state = network.begin(1)
    with torch.no_grad():
        for raw in session:
            if raw in ids:
                item = torch.tensor([ids.index(raw)])
                state = network.step(item, state, torch.tensor([True]))
        return [h.numpy() for h in network.hidden(state)]


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_hidden_states_are_those_of_single_steps(
    cell: str, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p_rnn.runs.trained.TOGETHER", 2)
    given = {**SMALL, "num_negatives": 8, "subnets": {"tags": {"hidden_size": 3}}}
    trained = train(data, "parallel", cell=cell, num_layers=2, folder=tmp_path, **given)
    sessions = [[1, 2, 3], [999, 4], [], [5], [6, 7, 999, 8]]
    states = trained.hidden_states(sessions)
    assert {name: h.shape for name, h in states.items()} == {
        "id": (5, 4),
        "size": (5, 4),
        "tags": (5, 3),
    }
    for row, session in enumerate(sessions):
        for h, expected in zip(states.values(), by_hand(trained, session), strict=True):
            np.testing.assert_allclose(h[row], expected[0], rtol=1e-5, atol=1e-6)
    assert not states["id"][2].any()
    assert states["id"][0].any()
    assert trained.hidden_states([])["tags"].shape == (0, 3)
    with pytest.raises(UserError, match="a list of sessions"):
        trained.hidden_states(["abc"])


def test_a_cold_item_is_read_by_its_features(tmp_path: Path) -> None:
    log = random_log(seed=1)
    late = log.tail(1).assign(session=10**6, item=30)
    late = pd.concat([late, late.assign(item=3, time=late["time"] + 9)])
    items = pd.DataFrame({"item": range(31), "tags": [[f"t{k % 4}"] for k in range(31)]})
    data = Dataset.from_frame(pd.concat([log, late]), items, min_item_support=1, test_days=2)
    assert data.prepared.num_train_items == 30
    states = train(data, "parallel", folder=tmp_path, **SMALL).hidden_states([[30], [31]])
    assert [states[name].any(axis=1).tolist() for name in ("id", "tags")] == [
        [False, False],
        [True, False],
    ]


def test_the_same_as_from_files(data: Dataset, tmp_path: Path) -> None:
    """Ways to say a setting, and the command line's own."""
    given = {**SMALL, "num_negatives": 8, "loss": component("bpr_max", bpreg=0.5), "seed": 3}
    first = train(data, "parallel", strategy="residual", folder=tmp_path / "1", **given)
    words = [f"{key}={SMALL[key]}" for key in ("hidden_size", "batch_size", "num_epochs")]
    words += ["num_negatives=8", "loss=bpr_max", "loss.bpreg=0.5", "seed=3", "device=cpu"]
    words += ["compile=never", "tracking.progress=false", "tracking.tensorboard=false"]
    again = train(data, "parallel", *words, "strategy=residual", folder=tmp_path / "2")
    assert again.metrics["test"] == first.metrics["test"]
    assert again.config == first.config
    config = load_config("model=parallel", "strategy=residual", *words)
    config.dataset, config.paths = data.config, data.paths
    assert train(config, tmp_path / "3").metrics["test"] == first.metrics["test"]
    assert experiment.train(config, tmp_path / "4")["test"] == first.metrics["test"]
    assert train(config, folder=tmp_path / "5").folder == tmp_path / "5"


def test_a_new_folder_for_each_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = shop(name="shop")
    monkeypatch.chdir(tmp_path)
    runs = [train(data, "pop", device="cpu") for _ in range(2)]
    assert runs[0].folder != runs[1].folder
    assert runs[0].folder.parent == Path("outputs/shop/pop-simultaneous")
    assert (runs[1].folder / "metrics.json").exists()


def test_the_last_model_is_that_of_both_splits(data: Dataset, tmp_path: Path) -> None:
    trained = train(data, "id_only", folder=tmp_path, train_on_validation=True, **SMALL)
    assert trained.checkpoint.name == "final.pt"
    assert trained.checkpoint.exists()


@pytest.mark.parametrize(
    ("words", "given", "message"),
    [
        ([], {"hiden_size": 8}, "^unknown setting 'hiden_size'; did you mean hidden_size or"),
        ([], {"lr": 0.1}, "^unknown setting 'lr'; here it is learning_rate"),
        ([], {"bpreg": 0.1}, "^unknown setting 'bpreg'; here it is loss.bpreg"),
        ([], {"hidden_size": "many"}, "^hidden_size: .* is not a whole number"),
        ([], {"hidden_size": 0}, "^hidden_size=0 must be at least 1"),
        ([], {"loss": "bpr_min"}, "^unknown loss 'bpr_min'; did you mean 'bpr_max'"),
        ([], {"loss": component("bpr_max", bpre=1)}, r"did you mean loss\.bpreg\?"),
        ([], {"loss": "CE"}, "^unknown loss 'CE'; RecBole's, with its negatives, is loss_type=CE"),
        ([], {"experiment": "prnn_papr"}, "^unknown experiment 'prnn_papr'; did you mean 'prnn_pa"),
        ([], {"strategy": "residul"}, "^unknown strategy 'residul'; did you mean 'residual'"),
        (
            [],
            {"evaluation": {"cutofs": [20]}},
            "^unknown setting 'evaluation.cutofs'; did you mean",
        ),
        ([], {"window": 3}, "^window has no effect"),
        ([], {"dataset": {"test_days": 3}}, "^dataset has no effect beside a Dataset"),
        (["dataset.test_days=3"], {}, "^dataset.test_days has no effect beside a Dataset"),
        (["hidden_sizes=3"], {}, "^unknown setting 'hidden_sizes'; did you mean hidden_size"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    words: list[str], given: dict[str, Any], message: str, data: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message) as error:
        train(data, "id_only", *words, folder=tmp_path, **given)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "metrics.json").exists()


def test_what_is_wrong_with_the_first_arguments(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^unknown model 'paralel'; did you mean 'parallel'"):
        train(data, "paralel", folder=tmp_path)
    with pytest.raises(UserError, match="must be a Dataset or a Config, not DataFrame"):
        train(random_log(1), "parallel")  # type: ignore[call-overload]
    with pytest.raises(UserError, match="settings beside a Config have no effect"):
        train(load_config(), tmp_path, hidden_size=3)  # type: ignore[call-overload]


def test_components_and_nested_settings(data: Dataset) -> None:
    config = load_config(
        "optimizer.beta1=0.7",
        model=component("parallel", feature_input="embedding"),
        optimizer="adam",
        schedule=component("cosine", warmup_epochs=1),
        early_stopping={"patience": np.int64(3)},
        subnets={"tags": {"weight": 2}},
        **{"loss.bpreg": 0.25},
    )
    assert (config.model.name, config.model.feature_input) == ("parallel", "embedding")
    assert config.optimizer == component("adam", beta1=0.7)
    assert (config.schedule.name, config.schedule.warmup_epochs) == ("cosine", 1)
    assert config.early_stopping.patience == 3
    assert config.subnets["tags"].weight == 2
    assert config.loss.parameters == {"bpreg": 0.25}
    assert load_config(**{"loss.bpreg": 1, "loss": "bpr_max"}).loss == component("bpr_max", bpreg=1)
    with pytest.MonkeyPatch.context() as patch:  # registered by a plugin, without a YAML file
        patch.setitem(LOSSES, "own", LOSSES["top1"])
        assert load_config(loss="own").loss == component("own")
    assert load_config(experiment="prnn_paper") == load_config("experiment=prnn_paper")
    # What another loss had stays with it.
    assert load_config("loss=bpr_max", "loss.bpreg=1", loss=component("top1")).loss == component(
        "top1"
    )


def test_a_checkpoint_of_a_frame_is_evaluated_where_its_arrays_are(tmp_path: Path) -> None:
    data = shop(folder=tmp_path / "prepared", name="shop")
    trained = train(data, "parallel", folder=tmp_path / "run", num_negatives=8, **SMALL)
    word = f"checkpoint={trained.checkpoint}"
    done = run_script("evaluate", tmp_path, word, "device=cpu")
    assert done.returncode == 0, done.stderr
    (tmp_path / "prepared").rename(tmp_path / "away")
    gone = run_script("evaluate", tmp_path, word, "device=cpu")
    assert gone.returncode == 2
    lines = (gone.stdout + gone.stderr).splitlines()
    said = " ".join(" ".join(lines).split())
    assert "error: the events came from a frame (Dataset.from_frame), not from a file" in said
    assert str(tmp_path / "prepared") in said.replace(" ", "")
    assert not (tmp_path / "prepared").exists()
    moved = run_script("evaluate", tmp_path, word, "device=cpu", f"prepared={tmp_path / 'away'}")
    assert moved.returncode == 0, moved.stderr


def test_recommendations_are_those_of_the_checkpoint(
    tmp_path: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = train(data, "pop", folder=tmp_path, device="cpu")
    calls: list[Any] = []

    class Recommender:
        def recommend(self, *arguments: Any, **options: Any) -> str:
            calls.append((arguments, options))
            return "items"

    module = types.ModuleType("p_rnn.recommend")
    module.load = lambda path: calls.append(path) or Recommender()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "p_rnn.recommend", module)
    assert trained.recommend([1, 2], k=3) == "items"
    assert isinstance(trained.recommender(), Recommender)
    assert calls == [trained.checkpoint, (([1, 2],), {"k": 3})]  # loaded once


def test_arrays_live_as_long_as_what_was_trained_on_them(tmp_path: Path) -> None:
    trained = train(shop(), "pop", folder=tmp_path, device="cpu")
    assert trained.dataset.folder.exists()
    assert len(trained.dataset.sessions("test").items)


def test_nothing_is_printed(
    data: Dataset, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    logging.getLogger("p_rnn").setLevel(logging.NOTSET)
    train(data, "id_only", folder=tmp_path, **SMALL)
    assert capfd.readouterr().out == ""


def test_public_names() -> None:
    api = importlib.import_module("p_rnn.api")
    assert set(p_rnn.__all__) == set(api.__all__)
    assert sorted(p_rnn.__all__) == list(p_rnn.__all__)
    for name in p_rnn.__all__:
        assert getattr(p_rnn, name) is getattr(api, name)
    source = inspect.getsource(p_rnn).partition("__all__")[0]
    assert all(f"        {name},\n" in source for name in p_rnn.__all__)  # for type checkers
    code = "import sys, p_rnn; sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_config_keeps_its_own_words() -> None:
    assert isinstance(load_config(), Config)
