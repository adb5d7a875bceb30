"""Reports on real runs of a tiny sweep: rows, tables in all forms, pictures, refusals."""

from __future__ import annotations

import copy
import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p_rnn.runs.report.pictures import _together, heat_map
from p_rnn.runs.report.rows import ReportRow, best_rows, rows_of
from p_rnn.runs.report.runs import Run, find_runs
from p_rnn.runs.report.table import as_latex, as_markdown, as_text, make_table, metrics_of
from p_rnn.runs.report.write import write_report
from p_rnn.settings.errors import UserError
from tests.conftest import random_log
from tests.running import run_script as script

SETTINGS = [
    "dataset=table",
    "dataset.name=tiny",
    "dataset.path=tiny.csv",
    "dataset.min_item_support=2",
    "dataset.test_days=2",
    "tracking.progress=false",
    "tracking.tensorboard=false",
    "evaluation.cutoffs=[5,20]",
    "device=cpu",
]
JOB = "learning_rate=0.05,num_layers=1,seed=1"  # a folder of the sweep
NETWORK = ["num_epochs=2", "hidden_size=8", "batch_size=8", "num_negatives=4"]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep over two settings and two seeds, and a baseline beside it."""
    folder = tmp_path_factory.mktemp("reports")
    random_log(0).to_csv(folder / "tiny.csv", index=False)
    paths = [f"paths.raw={folder}", f"paths.prepared={folder}/prepared"]
    varied = ["learning_rate=0.05,0.2", "num_layers=1,2", "seed=1,2", "sweep_name=first"]
    done = script("train", folder, "-m", *SETTINGS, *NETWORK, *paths, *varied)
    assert done.returncode == 0, done.stderr
    done = script(
        "train", folder, *SETTINGS, *paths, "model=markov", "hydra.run.dir=multirun/markov"
    )
    assert done.returncode == 0, done.stderr
    return folder / "multirun"


def test_a_sweep_ends_in_a_report(sweep: Path) -> None:
    report = sweep / "first" / "report"
    text = (report / "table.txt").read_text()
    assert "model id_only" in text.splitlines()[0]
    assert "learning_rate=0.2, num_layers=2 " in text
    with (report / "table.csv").open() as file:
        runs = list(csv.DictReader(file))
    assert sorted(row["seed"] for row in runs) == ["1"] * 4 + ["2"] * 4
    metrics = json.loads(Path(sweep.parent / runs[0]["folder"] / "metrics.json").read_text())
    assert float(runs[0]["test recall@20"]) == metrics["test"]["recall@20"]


def test_rows_and_tables(sweep: Path) -> None:
    rows = rows_of(find_runs([sweep]))
    assert [len(row.runs) for row in rows] == [2, 2, 2, 2, 1]
    varied = {"learning_rate", "num_layers"}
    assert all(set(row.varied) == varied for row in rows[:4])
    assert rows[4].varied == {}
    metrics = metrics_of(rows, None)
    assert metrics == ["recall@20", "mrr@20"]
    assert metrics_of(rows, [5]) == ["recall@5", "mrr@5"]
    values = rows[0].values("recall@20")
    stored = [run.metrics["test"]["recall@20"] for run in rows[0].runs]
    assert values.tolist() == stored

    table = make_table(rows, metrics, rows[4])
    cells = table.frame.iloc[0]
    mark = cells["recall@20"].removeprefix(f"{np.mean(stored):.4f} ± {np.std(stored, ddof=1):.4f}")
    assert mark in ("", " +", " -")
    assert cells["seeds"] == "2"
    assert len(table.notes) == 4 * 2
    seconds = sorted(e["seconds"] for run in rows[0].runs for e in run.metrics["history"])
    middle = seconds[len(seconds) // 2] + seconds[(len(seconds) - 1) // 2]
    assert cells["s/epoch"] == f"{middle / 2:.1f}"
    assert table.frame["s/epoch"].iloc[4] == ""  # counts
    text = as_text(table)
    assert text.startswith("data set tiny\n")
    assert max(map(len, text.splitlines())) <= 80
    lines = as_markdown(table).splitlines()
    assert {line.count("|") for line in lines[:7]} == {len(table.frame.columns) + 1}


def test_latex_has_the_columns_that_differ_and_the_best_in_bold(sweep: Path) -> None:
    rows = rows_of(find_runs([sweep]))
    table = make_table(rows, ["recall@20", "mrr@20"], rows[4])
    table.frame.loc[0, "recall@20"] = "2.0000 ± 0.0100 +"
    table.frame.loc[1, "recall@20"] = "2.0000 -"
    latex = as_latex(table)
    assert latex.count(r"\\") == 6
    assert "data set &" not in latex
    assert "model & loss & settings & valid recall@20 & recall@20" in latex
    assert "learning\\_rate" in latex
    assert r"\textbf{2.0000 $\pm$ 0.0100$^{+}$} & " in latex
    assert r"\textbf{2.0000$^{-}$} & " in latex
    assert latex.count(r"\textbf") >= 2 + 2
    caption = latex.partition(r"\caption{")[2].partition("\n")[0]
    assert caption.startswith("Data set tiny. Best values in bold. $^{+}$ and")
    assert "$^{+}$ and $^{-}$: better and worse than markov (paired bootstrap" in caption
    first = make_table(rows[:4], ["recall@20"], None)
    assert "model" not in as_latex(first).partition(r"\toprule")[2].partition(r"\midrule")[0]
    assert "model id\\_only, loss" in as_latex(first)


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    [
        (["model", "input"], "embedding", "model.input=embedding"),
        (["loss", "name"], "top1_max", "loss=top1_max"),
        (["dataset", "features", "x", "kind"], "tags", "dataset.features.x.kind=tags"),
    ],
)
def test_runs_of_different_networks_are_different_rows(
    sweep: Path, keys: list[str], value: str, words: str
) -> None:
    one = find_runs([sweep / "first"])[0]
    metrics = copy.deepcopy(one.metrics)
    node = metrics["config"]
    for key in keys[:-1]:
        node = node.setdefault(key, {})
    node[keys[-1]] = value
    rows = rows_of([one, Run(one.folder, metrics)])
    assert len(rows) == 2
    assert words in rows[1].label
    assert rows[0].label != rows[1].label


def altered(run: Run, fingerprint: str = "", **settings: Any) -> Run:
    """A run with other settings, as dataset__time_range=[...], and another data set."""
    metrics = copy.deepcopy(run.metrics)
    for key, value in settings.items():
        node = metrics["config"]
        *outer, last = key.split("__")
        for name in outer:
            node = node.setdefault(name, {})
        node[last] = value
    if fingerprint:
        metrics["dataset"]["fingerprint"] = fingerprint
    return Run(run.folder, metrics)


def settings_of(*runs: Run) -> list[list[str]]:
    return [row.settings for row in rows_of(runs)]


def test_runs_of_other_data_or_targets_say_in_what_they_differ(sweep: Path) -> None:
    one = find_runs([sweep / "markov"])[0]
    assert settings_of(one) == [[]]
    late = altered(one, "f1", dataset__time_range=["1970-01-02", "1970-01-09"])
    assert settings_of(one, late) == [
        ["dataset.time_range=null"],
        ["dataset.time_range=[1970-01-02,1970-01-09]"],
    ]
    ties = altered(late, "f1", evaluation__ties="standard")
    assert settings_of(one, late, ties) == [
        ["dataset.time_range=null", "evaluation.ties=conservative"],
        ["dataset.time_range=[1970-01-02,1970-01-09]", "evaluation.ties=conservative"],
        ["dataset.time_range=[1970-01-02,1970-01-09]", "evaluation.ties=standard"],
    ]
    both = altered(one, train_on_validation=True)
    assert settings_of(one, both) == [["train_on_validation=false"], ["train_on_validation=true"]]
    # The same settings, other content of the raw files.
    own = one.metrics["dataset"]["fingerprint"]
    raw = altered(one, "f2")
    assert settings_of(one, raw) == [[f"fingerprint={own}"], ["fingerprint=f2"]]
    assert settings_of(one, raw, late)[1] == ["fingerprint=f2", "dataset.time_range=null"]
    # Another name, or none of what decides the targets: nothing to say.
    assert settings_of(one, altered(one, "f2", dataset__name="other")) == [[], []]
    more = altered(one, seed=5, dataset__source="elsewhere", evaluation__baselines=[])
    assert settings_of(one, more) == [[]]
    steps = altered(one, baseline__steps=2, dataset__source="elsewhere")
    assert settings_of(one, steps, late)[:2] == [
        ["dataset.time_range=null", "baseline.steps=1"],
        ["dataset.time_range=null", "baseline.steps=2"],
    ]


def test_runs_that_leave_seen_items_out_are_not_mixed_with_others(sweep: Path) -> None:
    one = find_runs([sweep / "markov"])[0]
    unseen = altered(one, evaluation__exclude_seen=True)
    found = [["evaluation.exclude_seen=false"], ["evaluation.exclude_seen=true"]]
    assert settings_of(one, unseen) == found
    lists = altered(one, seed=5, evaluation__beyond_accuracy=True)
    assert settings_of(one, lists) == [[]]
    # A run of a version that had no such setting has ranked them.
    old = altered(one, seed=5)
    del old.metrics["config"]["evaluation"]["exclude_seen"]
    assert settings_of(one, old) == [[]]
    assert settings_of(old, unseen) == found


def test_a_second_table_of_what_was_measured_beyond_accuracy(sweep: Path, tmp_path: Path) -> None:
    run = find_runs([sweep / "markov"])[0]
    for seed, coverage in ((1, 0.25), (2, 0.75)):
        for model in ("markov", "item_knn"):
            metrics = copy.deepcopy(run.metrics)
            metrics["config"]["seed"], metrics["config"]["model"]["name"] = seed, model
            for split in ("valid", "test"):
                metrics["results"][split][model] = metrics["results"][split]["markov"]
            if model == "markov":
                figures = {"coverage@20": coverage, "popularity@20": 1234.5, "novelty@20": 7.0}
                mine = {**metrics["results"]["test"][model], "beyond_accuracy": figures}
                metrics["results"]["test"][model] = mine
            folder = tmp_path / f"{model}-{seed}"
            folder.mkdir()
            (folder / "metrics.json").write_text(json.dumps(metrics))
    text = write_report([tmp_path], tmp_path / "report")
    first, second = text.split("\n\n")
    assert "item_knn" in first
    assert "coverage" not in first
    assert "0.5000 ± 0.3536" in second
    assert "1,234.5 ± 0.0" in second
    assert "7.00 ± 0.00" in second
    assert "item_knn" not in second
    assert "| coverage@20 |" in (tmp_path / "report" / "table.md").read_text()
    assert "coverage" not in (tmp_path / "report" / "table.tex").read_text()
    assert "coverage" not in write_report([sweep / "markov"], tmp_path / "plain")


def test_runs_of_the_same_events_with_other_properties_of_items_are_rows_of_one_table(
    sweep: Path,
) -> None:
    one = find_runs([sweep / "markov"])[0]
    rows = rows_of([one, altered(one, dataset__properties=["colour"])])
    assert [row.settings for row in rows] == [[], ["dataset.properties=[colour]"]]
    assert rows[0].first.data == rows[1].first.data


def test_tests_stay_within_the_same_data(sweep: Path, tmp_path: Path) -> None:
    """And the row to test against can be that of one protocol."""
    for ties in ("conservative", "standard"):
        for run in find_runs([sweep / "markov", sweep / "first" / JOB]):
            folder = tmp_path / ties / run.model
            folder.mkdir(parents=True)
            shutil.copy(run.folder / "test_ranks.npz", folder)
            metrics = altered(run, evaluation__ties=ties).metrics
            (folder / "metrics.json").write_text(json.dumps(metrics))
    text = write_report([tmp_path], tmp_path / "all", against="markov")
    assert text.count("id_only - markov, recall@20: ") == 2
    assert " ".join(text.split()).count("for the 2 tests") == 2
    chosen = write_report([tmp_path], tmp_path / "one", against="markov evaluation.ties=standard")
    assert chosen.count("id_only - markov, recall@20: ") == 1
    first, second = chosen.split("\n\ndata set")
    assert "evaluation.ties=conservative" in first
    assert "tests" not in first
    assert "evaluation.ties=standard" in second
    with (tmp_path / "all" / "table.csv").open() as file:
        found = {(row["model"], row["settings"]) for row in csv.DictReader(file)}
    assert found == {
        (model, f"evaluation.ties={ties}")
        for model in ("id_only", "markov")
        for ties in ("conservative", "standard")
    }


@pytest.mark.slow
def test_a_sweep_over_ties_and_periods(sweep: Path) -> None:
    folder = sweep.parent
    paths = [f"paths.raw={folder}", f"paths.prepared={folder}/prepared", "sweep_name=protocols"]
    varied = [
        "evaluation.ties=standard,conservative",
        "dataset.time_range=null,['1970-01-02','1970-01-12']",
    ]
    done = script("train", folder, "-m", *SETTINGS, *paths, "model=markov", *varied)
    assert done.returncode == 0, done.stderr
    text = (sweep / "protocols" / "report" / "table.md").read_text()
    for period in ("null", "[1970-01-02,1970-01-12]"):
        for ties in ("standard", "conservative"):
            assert text.count(f"dataset.time_range={period}, evaluation.ties={ties} ") == 1
    shutil.rmtree(sweep / "protocols")


def test_trials_are_no_runs(sweep: Path, tmp_path: Path) -> None:
    one = find_runs([sweep / "first"])[0].folder
    shutil.copytree(one, tmp_path / "row" / "run")
    shutil.copytree(one, tmp_path / "row" / "trials" / "trial000")
    assert [run.folder for run in find_runs([tmp_path])] == [tmp_path / "row" / "run"]
    assert len(find_runs([tmp_path / "row" / "trials"])) == 1


def test_settings_that_change_together_are_one(sweep: Path) -> None:
    """Two axes of a heat map must tell two things."""
    rows = [
        ReportRow(
            rows_of(find_runs([sweep / "first"]))[0].runs, {"a": k, "twice a": 2 * k, "b": k % 2}
        )
        for k in range(4)
    ]
    assert _together(rows, "a", "twice a")
    assert not _together(rows, "a", "b")


def test_no_heat_map_of_settings_that_never_meet(sweep: Path) -> None:
    """One model varies one setting, another model another."""
    runs = rows_of(find_runs([sweep / "first"]))[0].runs
    rows = [ReportRow(runs, varied) for varied in ({"a": 1}, {"a": 2}, {"b": 1}, {"b": 2})]
    assert not heat_map(None, rows, "recall@5")


def test_best_settings(sweep: Path) -> None:
    rows = rows_of(find_runs([sweep]))
    best = best_rows(rows, "recall@20")
    assert [row.first.model for row in best] == ["id_only", "markov"]
    most = max(row.mean("recall@20", "valid") for row in rows[:4])
    assert best[0].mean("recall@20", "valid") == most


def test_pictures(sweep: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="no matplotlib: pictures are not drawn")
    write_report([sweep], tmp_path, against="markov")
    names = {path.name for path in tmp_path.glob("*.png")}
    # All targets have about the same support: that is no picture.
    kinds = ("learning_curves", "heat_map", "by_position", "against_time")
    assert names == {f"tiny_{kind}.png" for kind in kinds}
    assert all(path.stat().st_size > 5000 for path in tmp_path.glob("*.png"))


def test_refusals(sweep: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no finished run"):
        find_runs([tmp_path])
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(UserError, match="not the metrics of a run of this version"):
        find_runs([tmp_path])
    old = altered(find_runs([sweep / "markov"])[0]).metrics
    del old["config"]["loss"]
    (tmp_path / "metrics.json").write_text(json.dumps(old))
    with pytest.raises(UserError, match=r"metrics.json is not .*'loss' is missing"):
        find_runs([tmp_path])
    with pytest.raises(UserError, match="has no recall@7; known: recall@5"):
        write_report([sweep], tmp_path / "r", cutoffs=[7])
    with pytest.raises(UserError, match="fits several rows"):
        write_report([sweep], tmp_path / "r", against="id_only")
    with pytest.raises(UserError, match="fits none of"):
        write_report([sweep], tmp_path / "r", against="nothing")
    runs = find_runs([sweep / "markov"])
    with pytest.raises(UserError, match="same settings and seed"):
        rows_of([*runs, *runs])
    done = script("report", tmp_path, str(tmp_path / "absent"))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_the_script(sweep: Path, tmp_path: Path) -> None:
    against = ["--against", "markov", "--best", "--out", str(tmp_path / "out")]
    done = script("report", tmp_path, str(sweep), *against, fresh=True)
    assert done.returncode == 0, done.stderr
    assert "+ and -: better and worse than markov" in done.stdout
    assert {p.name for p in (tmp_path / "out").glob("table.*")} == {
        f"table.{kind}" for kind in ("txt", "md", "csv", "tex")
    }


@pytest.mark.slow
def test_a_failed_job_stops_nobody(sweep: Path, tmp_path: Path) -> None:
    folder: Any = sweep.parent
    paths = [f"paths.raw={folder}", f"paths.prepared={folder}/prepared"]
    base = ["-m", *SETTINGS, *NETWORK, *paths, "sweep_name=second"]
    # A batch larger than there are sessions.
    done = script("train", folder, *base, "batch_size=8,999")
    assert done.returncode == 2
    assert "1 jobs of the sweep failed:\n  batch_size=999: batch_size=999 exceeds" in done.stderr
    jobs = sweep / "second"
    assert (jobs / "batch_size=8" / "metrics.json").exists()
    assert (jobs / "batch_size=999" / "error.txt").exists()
    assert (jobs / "report" / "table.txt").exists()
    stamp = (jobs / "batch_size=8" / "metrics.json").stat().st_mtime_ns
    done = script("train", folder, *base, "batch_size=8,999")
    assert done.returncode == 2
    assert "finished before" in done.stdout
    assert (jobs / "batch_size=8" / "metrics.json").stat().st_mtime_ns == stamp


@pytest.mark.slow
def test_random_search(sweep: Path, tmp_path: Path) -> None:
    folder = sweep.parent
    paths = [f"paths.raw={folder}", f"paths.prepared={folder}/prepared"]
    (tmp_path / "space.yaml").write_text(
        "baseline.steps: {low: 1, high: 3, step: 1}\nevaluation.ties: [median, standard]\n"
    )
    arguments = [
        "--space",
        str(tmp_path / "space.yaml"),
        "--name",
        "s",
        *SETTINGS,
        *paths,
        "model=markov",
    ]
    done = script("search", tmp_path, "--trials", "4", *arguments, fresh=True)
    assert done.returncode == 0, done.stderr
    done = script("search", tmp_path, "--trials", "20", *arguments)
    assert done.returncode == 0, done.stderr
    output = done.stdout + done.stderr
    assert output.count("finished before") == 4
    assert "best on validation" in output
    jobs = tmp_path / "multirun" / "s"
    tried = set()
    for file in jobs.glob("*/metrics.json"):
        config = json.loads(file.read_text())["config"]
        tried.add((config["baseline"]["steps"], config["evaluation"]["ties"]))
    assert len(tried) == 6  # each combination once, and then the space is exhausted
    done = script("search", tmp_path, "--trials", "1", "--space", "none", "--name", "s")
    assert done.returncode == 2
    assert "unknown space 'none'" in done.stderr
