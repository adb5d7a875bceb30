"""Evaluating a checkpoint again: every setting of scripts/evaluate.py has its effect."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from p_rnn.data.readers.table import TableReader
from p_rnn.runs.comparison import evaluate_checkpoint
from p_rnn.runs.experiment import train
from p_rnn.runs.sweeps import run_job
from p_rnn.settings.commands import EvaluateConfig, EvaluationOverrides
from p_rnn.settings.config import Config
from p_rnn.settings.errors import UserError
from p_rnn.settings.hydra_glue import load_config
from tests.conftest import TINY
from tests.data.older import without_checksums
from tests.settings.test_settings_arrive import write_raw


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run on a log with cold items; (its folder, its metrics)."""
    place = tmp_path_factory.mktemp("evaluate")
    write_raw(place / "raw")
    paths = (f"paths.raw={place / 'raw'}", f"paths.prepared={place / 'prepared'}")
    config = load_config(*TINY, *paths, "dataset.path=cold.csv")
    return place, train(config, place / "run")


def again(place: Path, **settings: Any) -> dict[str, Any]:
    evaluation = EvaluationOverrides(
        **{k: settings.pop(k) for k in list(settings) if hasattr(EvaluationOverrides, k)}
    )
    config = EvaluateConfig(str(place / "run" / "checkpoints" / "best.pt"), device="cpu")
    results, _ = evaluate_checkpoint(replace(config, evaluation=evaluation, **settings))
    return results


def test_the_stored_metrics_come_out_again(trained: tuple[Path, dict[str, Any]]) -> None:
    place, metrics = trained
    for split in ("valid", "test"):
        assert again(place, split=split) == {split: metrics["results"][split]}
    folder = str(place / "run")
    assert again(place, checkpoint=folder) == {"test": metrics["results"]["test"]}


def held_out(place: Path) -> pd.DataFrame:
    """The rows of the raw log that are in the test split."""
    (folder,) = (place / "prepared").glob("tiny-*")
    log = pd.read_csv(place / "raw" / "cold.csv")
    return log[log["session"].isin(np.load(folder / "test" / "session_ids.npy").tolist())]


def test_other_events_in_the_format_of_the_data_set(
    trained: tuple[Path, dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    place, metrics = trained
    rows = held_out(place)
    rows.assign(session=rows["session"] + 10**6).to_csv(place / "raw" / "week.csv", index=False)
    assert again(place, events="week.csv") == {"week.csv": metrics["results"]["test"]}
    # A new item at the end of each session is cold: a target only where these count.
    ends = rows.groupby("session", as_index=False)["time"].max()
    more = pd.concat([rows, ends.assign(time=ends["time"] + 1, item=10**6 + ends["session"])])
    more.to_csv(place / "raw" / "more.csv", index=False)
    assert again(place, events="more.csv") == {"more.csv": metrics["results"]["test"]}
    caplog.set_level("INFO")
    kept = [
        again(place, events=f"{name}.csv", cold_items="keep")[f"{name}.csv"]["id_only"]
        for name in ("week", "more")
    ]
    assert kept[1]["targets"] - kept[0]["targets"] == len(ends)
    lines = [each.message for each in caplog.records if "does not know" in each.message]
    for line, says in zip(lines, ("are left out", "count as targets that are missed"), strict=True):
        assert f"{len(ends)} events are of {len(ends)} items that the model does not know" in line
        assert says in line
    more.assign(item=more["item"] + 10**7).to_csv(place / "raw" / "strange.csv", index=False)
    monkeypatch.chdir(tmp_path)
    more.to_csv("here.csv", index=False)
    for name, says in (
        ("none.csv", "none.csv is missing"),
        ("strange.csv", "none of its items .* is an item of the model"),
        ("here.csv", r"relative to .*raw \(paths.raw\).* exists in the current folder"),
    ):
        with pytest.raises(UserError, match=says) as error:
            again(place, events=name)
        assert "\n" not in str(error.value)


def test_data_that_an_older_version_has_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint stays valid where today's reading of the same files gives the same events."""
    write_raw(tmp_path / "raw")
    paths = (f"paths.raw={tmp_path / 'raw'}", f"paths.prepared={tmp_path / 'prepared'}")
    with monkeypatch.context() as older:
        older.setattr(TableReader, "version", 1)
        metrics = train(load_config(*TINY, *paths), tmp_path / "run")
    (old,) = (tmp_path / "prepared").glob("tiny-*")
    assert again(tmp_path) == {"test": metrics["results"]["test"]}
    without_checksums(old)
    items = np.load(old / "item_ids.npy")
    np.save(old / "item_ids.npy", items[::-1].copy())
    with pytest.raises(UserError, match="prepared by an older version"):
        again(tmp_path)
    shutil.rmtree(old)
    with pytest.raises(UserError, match="the folder is gone"):
        again(tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        {"cutoffs": [2]},
        {"ties": "standard"},
        {"cold_items": "keep"},
        {"exclude_seen": True},
        {"most_popular": 5},
        {"beyond_accuracy": True},
        {"baselines": []},
        {"split": "valid"},
    ],
)
def test_a_setting_changes_the_result(
    settings: dict[str, Any], trained: tuple[Path, dict[str, Any]]
) -> None:
    place, metrics = trained
    assert again(place, **settings) != {"test": metrics["results"]["test"]}


def format_3(path: Path) -> dict[str, Any]:
    """The content of a checkpoint as of a version without checksums."""
    content = {**torch.load(path, weights_only=True), "format_version": 3}
    del content["checksums"]
    return content


def test_a_run_of_a_version_that_could_not_leave_seen_items_out(
    trained: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    place, metrics = trained
    content = format_3(place / "run" / "checkpoints" / "best.pt")
    for name in ("exclude_seen", "beyond_accuracy"):
        del content["config"]["evaluation"][name]
    old = tmp_path / "run" / "checkpoints" / "best.pt"
    old.parent.mkdir(parents=True)
    torch.save(content, old)
    assert again(tmp_path) == {"test": metrics["results"]["test"]}
    unseen = again(tmp_path, exclude_seen=True)["test"]
    assert unseen == again(place, exclude_seen=True)["test"]


def test_validation_of_an_epoch_counts_no_lists(
    tiny: Callable[..., Config], tmp_path: Path
) -> None:
    trained = train(tiny("evaluation.beyond_accuracy=true"), tmp_path / "run")
    for split in ("valid", "test"):
        for result in trained["results"][split].values():
            assert len(result["beyond_accuracy"]) == 3 * 4
    plain = train(tiny(), tmp_path / "plain")
    assert trained["history"][0].keys() == plain["history"][0].keys()
    assert trained["test"] == plain["test"]


def test_zero_most_popular_means_all_items(trained: tuple[Path, dict[str, Any]]) -> None:
    place, metrics = trained
    assert again(place, most_popular=0) == {"test": metrics["results"]["test"]}


def test_data_that_moved_are_found(trained: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    place, metrics = trained
    shutil.copytree(place / "raw", tmp_path / "elsewhere")
    moved = again(place, raw=str(tmp_path / "elsewhere"), prepared=str(tmp_path / "prepared"))
    assert moved == {"test": metrics["results"]["test"]}
    assert list((tmp_path / "prepared").iterdir())
    with pytest.raises(UserError, match="missing"):
        again(place, raw=str(tmp_path / "nowhere"))


def test_changed_data_are_refused(trained: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    place, _ = trained
    shutil.copytree(place / "raw", tmp_path / "raw")
    with (tmp_path / "raw" / "cold.csv").open("a") as file:
        file.write("0,1,99,1,0,view\n")
    with pytest.raises(UserError, match="have changed since"):
        again(place, raw=str(tmp_path / "raw"), prepared=str(tmp_path / "prepared"))


def test_device_and_threads_arrive(trained: tuple[Path, dict[str, Any]]) -> None:
    place, _ = trained
    with pytest.raises(UserError, match="device=none_such is not available"):
        again(place, device="none_such")
    threads = torch.get_num_threads()
    try:
        again(place, num_threads=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def write_log(path: Path, **days: list[list[int]]) -> None:
    """Sessions of these items, those of d3 on day 3, events a minute apart."""
    rows = [
        (f"{day}-{number}", item, 86_400 * int(day[1:]) + 60 * k)
        for day, sessions in days.items()
        for number, items in enumerate(sessions)
        for k, item in enumerate(items)
    ]
    pd.DataFrame(rows, columns=["session", "item", "time"]).to_csv(path, index=False)


# Of TINY, what a model that counts does not take.
UNTRAINED = [f"{key}=null" for key in ("hidden_size", "batch_size", "num_negatives", "num_epochs")]
TRAINING = 4 * [[0, 1, 2], [2, 1, 0], [1, 2]]
COLD, WARM = [[7, 8], [8, 7, 8]], [[0, 1], [1, 2, 0]]


@pytest.mark.parametrize("model", ["id_only", "markov"])
@pytest.mark.parametrize(
    ("valid", "test", "others", "split"),
    [
        (WARM, COLD, [], "test"),
        (COLD, WARM, [], "valid"),
        (WARM, [[0, 7], [8, 1]], [], "test"),  # no warm event stands before another one
        (WARM, COLD, ["train_on_validation=true"], "test"),
        (COLD, COLD, ["train_on_validation=true"], "valid"),  # of the test split they are warm then
    ],
)
def test_splits_of_cold_items_are_refused_before_anything_is_trained(
    valid: list[list[int]],
    test: list[list[int]],
    others: list[str],
    split: str,
    model: str,
    tiny: Callable[..., Config],
    tmp_path: Path,
) -> None:
    write_log(tmp_path / "raw" / "tiny.csv", d0=TRAINING, d5=valid, d7=test)
    config = tiny(f"model={model}", *(UNTRAINED if model == "markov" else []), *others)
    with pytest.raises(UserError, match=f"no target is left to evaluate in the {split} split") as e:
        train(config, tmp_path / "run")
    assert "evaluation.cold_items=keep" in str(e.value)
    assert "\n" not in str(e.value)
    assert not (tmp_path / "run").exists()
    config.evaluation.cold_items = "keep"
    assert train(config, tmp_path / "run")["test"]["recall@20"] >= 0


def test_cold_items_of_training_that_validation_has_are_warm_in_the_end(
    tiny: Callable[..., Config], tmp_path: Path
) -> None:
    write_log(tmp_path / "raw" / "tiny.csv", d0=TRAINING, d5=[*COLD, *WARM], d7=COLD)
    with pytest.raises(UserError, match="in the test split"):
        train(tiny(), tmp_path / "run")
    final = train(tiny("train_on_validation=true"), tmp_path / "final")
    assert final["results"]["test"]["id_only"]["targets"] == 3


@pytest.fixture
def shop(tiny: Callable[..., Config], tmp_path: Path) -> Callable[..., Config]:
    """`tiny` with two features."""
    rng = np.random.default_rng(5)
    table = pd.DataFrame({"item": range(30), "size": rng.random(30), "tags": rng.random(30)})
    table["tags"] = [f"t{k % 4} t{4 + k % 3}" for k in range(30)]
    table.to_csv(tmp_path / "raw" / "items.csv", index=False)
    features = [
        "dataset.item_table.path=items.csv",
        "dataset.features.size.kind=number",
        "dataset.features.tags.kind=tags",
    ]
    return lambda *overrides: tiny(*features, *overrides)


def beside(folder: Path, *names: str, **settings: Any) -> dict[str, Any]:
    """{ranker: result} of a checkpoint and these baselines on the test split."""
    asked = EvaluationOverrides(baselines=list(names), **settings)
    config = EvaluateConfig(str(folder / "checkpoints" / "best.pt"), evaluation=asked)
    results, _ = evaluate_checkpoint(replace(config, device="cpu"))
    return dict(results["test"])


def test_baselines_with_parameters_beside_a_checkpoint_are_those_of_runs_of_their_own(
    shop: Callable[..., Config], tmp_path: Path
) -> None:
    names = ["markov", "item_knn", "recently_popular", "v_sknn", "feature_markov", "pop"]
    trained = train(shop(), tmp_path / "run")
    found = beside(tmp_path / "run", *names)
    assert list(found) == ["id_only", *names]
    assert found["id_only"] == trained["results"]["test"]["id_only"]
    for name in names:
        own = train(shop(f"model={name}", *UNTRAINED), tmp_path / name)
        assert found[name] == own["results"]["test"][name], name
    assert list(beside(tmp_path / "markov", "markov", "item_knn")) == ["markov", "item_knn"]


def test_a_baseline_reads_the_features_that_the_run_has_selected(
    shop: Callable[..., Config], tmp_path: Path
) -> None:
    chosen = "selected_features=[size]"
    train(shop("model=concat", chosen), tmp_path / "run")
    found = beside(tmp_path / "run", "feature_markov")["feature_markov"]
    for word, same in ((chosen, True), ("selected_features=[tags]", False)):
        own = train(shop("model=feature_markov", word, *UNTRAINED), tmp_path / word)
        assert (found == own["results"]["test"]["feature_markov"]) == same


def test_a_baseline_beside_a_checkpoint_by_hand(
    tiny: Callable[..., Config], tmp_path: Path
) -> None:
    write_log(tmp_path / "raw" / "tiny.csv", d0=TRAINING, d5=WARM, d7=WARM)
    train(tiny(), tmp_path / "run")
    found = beside(tmp_path / "run", "markov", cutoffs=[1, 5])["markov"]
    # In [0, 1] and [1, 2, 0]: 1 is all that follows 0, and 2 follows 1 twice as often as 0 does;
    # of what follows 2 there is 1 alone, and 2 is more popular than 0.
    assert found["targets"] == 3
    metrics = found["metrics"]
    assert metrics["recall@1"] == pytest.approx(2 / 3)
    assert metrics["mrr@5"] == pytest.approx((1 + 1 + 1 / 3) / 3)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nosuch", "unknown evaluation.baselines 'nosuch'. Known: feature_markov, item_knn, "),
        ("item_kn", "unknown evaluation.baselines 'item_kn'; did you mean 'item_knn'?"),
        ("bpr_mf", "bpr_mf is trained; run it as model=bpr_mf and compare the runs with p-rnn r"),
        ("id_only", "id_only is trained; run it as model=id_only"),
        ("feature_markov", "feature_markov reads item features, and dataset tiny has none; leave"),
    ],
)
def test_what_cannot_stand_beside_a_checkpoint_is_refused(
    name: str, says: str, trained: tuple[Path, dict[str, Any]]
) -> None:
    with pytest.raises(UserError, match=re.escape(says)) as error:
        again(trained[0], baselines=["pop", name])
    assert "\n" not in str(error.value)


def test_training_refuses_baselines_with_parameters_and_says_who_takes_them(
    tiny: Callable[..., Config], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"model=item_knn and .*p-rnn report, or have p-rnn eval"):
        train(tiny("evaluation.baselines=[item_knn]"), tmp_path / "run")
    with pytest.raises(UserError, match="bpr_mf is trained; run it as model=bpr_mf"):
        train(tiny("evaluation.baselines=[bpr_mf]"), tmp_path / "run")


def test_names_that_an_older_run_has_stored_are_left_out(
    trained: tuple[Path, dict[str, Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place, metrics = trained
    content = format_3(place / "run" / "checkpoints" / "best.pt")
    content["config"]["evaluation"]["baselines"] = ["popularity", "session_pop"]
    content["config"]["early_stopping"]["metric"] = "recall@7"
    old = tmp_path / "run" / "checkpoints" / "best.pt"
    old.parent.mkdir(parents=True)
    torch.save(content, old)
    found = again(tmp_path)["test"]
    table = metrics["results"]["test"]
    assert found == {name: table[name] for name in ("id_only", "session_pop")}
    (warning,) = [x.getMessage() for x in caplog.records if x.name == "p_rnn.baselines"]
    assert warning.startswith("'popularity' of the run's evaluation.baselines is left out")
    assert again(tmp_path, baselines=["pop"])["test"]["pop"] == table["pop"]
    with pytest.raises(UserError, match=r"unknown evaluation\.baselines 'popularity'"):
        again(tmp_path, baselines=["popularity"])  # somebody has typed it
    content["config"]["evaluation"]["gone"] = 1
    torch.save(content, old)
    with pytest.raises(UserError, match=r"best\.pt has settings of another version \(.*gone") as e:
        again(tmp_path)
    assert "\n" not in str(e.value)


def test_a_finished_job_of_another_version_is_named(
    tiny: Callable[..., Config], tmp_path: Path
) -> None:
    run_job(tiny(), tmp_path / "job")
    file = tmp_path / "job" / "metrics.json"
    metrics = json.loads(file.read_text())
    metrics["config"]["gone"] = 1
    file.write_text(json.dumps(metrics))
    with pytest.raises(UserError, match=r"metrics\.json has settings of another version \(.*gone"):
        run_job(tiny(), tmp_path / "job")
