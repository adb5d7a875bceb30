"""A whole study of a tiny world: equal trials, seeds, variants, a table; failures, going on."""

from __future__ import annotations

import csv
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.errors import HydraException

from p_rnn.runs.search import Range, read_space, search
from p_rnn.runs.study import StudyConfig, read_study, run_study
from p_rnn.settings.errors import UserError
from p_rnn.settings.messages import one_line
from tests.conftest import random_log
from tests.running import ROOT
from tests.running import run_script as script
from tests.runs.test_report import NETWORK, SETTINGS

STUDY = """
overrides: {overrides}
trials: 2
in_trials: [dataset.validation=true]
seeds: [3, 4]
against: popular
shared: {{networks: {networks}}}
rows:
  popular: {{model: pop}}
  markov: {{space: {space}}}
  broken: {{model: id_only, overrides: [batch_size=100000]}}
  id_only:
    space: {networks_space}
    overrides: ${{shared.networks}}
    variants: [cell.reset=after, cell.reset=before]
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    random_log(0).to_csv(folder / "tiny.csv", index=False)
    (folder / "steps.yaml").write_text("baseline.steps: [1, 2, 3]\n")
    (folder / "rates.yaml").write_text("learning_rate: [0.05, 0.1]\n")
    settings = [
        *SETTINGS,
        f"paths.raw={folder}",
        f"paths.prepared={folder}/prepared",
        "dataset.validation=false",
    ]
    (folder / "small.yaml").write_text(
        STUDY.format(
            overrides=json.dumps(settings),
            networks=json.dumps(NETWORK),
            space=folder / "steps.yaml",
            networks_space=folder / "rates.yaml",
        )
    )
    return folder


def test_a_study(study: Path) -> None:
    done = script("study", study, "small.yaml", fresh=True)
    assert done.returncode == 2
    assert "2 runs of the study failed:\n  broken/seed=3: batch_size=100000 exceeds" in (
        done.stderr
    )
    folder = study / "multirun" / "small"
    with (folder / "report" / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["model"], row["seed"]) for row in rows] == [
        ("pop", "0"),
        ("markov", "0"),
        *[("id_only", seed) for seed in "3434"],
    ]
    tried = {}
    for file in sorted(folder.glob("id_only/trials/*/metrics.json")):
        metrics = json.loads(file.read_text())
        tried.setdefault(metrics["valid"]["recall@20"], metrics["config"]["learning_rate"])
    runs = [json.loads((study / row["folder"] / "metrics.json").read_text()) for row in rows[2:]]
    assert {run["config"]["learning_rate"] for run in runs} == {tried[max(tried)]}
    assert [run["config"]["cell"]["reset"] for run in runs] == ["after"] * 2 + ["before"] * 2
    assert all("valid" not in run for run in runs)
    text = (folder / "report" / "table.txt").read_text()
    assert "better and worse than pop" in text

    text = (study / "small.yaml").read_text()
    small = "[batch_size=7, num_epochs=1, hidden_size=8, num_negatives=4]"
    broken = text.replace("[batch_size=100000]", small)
    (study / "small.yaml").write_text(broken)
    stamp = (folder / "popular" / "run" / "metrics.json").stat().st_mtime_ns
    done = script("study", study, "small.yaml", "--rows", "broken")
    assert done.returncode == 0, done.stderr
    assert (folder / "popular" / "run" / "metrics.json").stat().st_mtime_ns == stamp
    assert (folder / "report" / "table.txt").read_text().count("id_only") >= 2


def collected(study: Path, *words: str) -> subprocess.CompletedProcess[str]:
    script = ROOT / "docs" / "results" / "collect.py"
    command = [sys.executable, "-B", str(script), *words]
    return subprocess.run(command, cwd=study, capture_output=True, text=True, timeout=120)


def test_collect_takes_means_over_the_seeds_of_a_study(study: Path) -> None:
    done = collected(study, "multirun/small")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(done.stdout.splitlines()))
    names = [f"{row['row']} {row['variant']}".strip() for row in rows]
    assert names[0] == "popular"  # the order of the study
    assert names[-2:] == ["id_only cell.reset=after", "id_only cell.reset=before"]
    folder = study / "multirun" / "small" / "id_only"
    values = [
        json.loads((folder / f"cell.reset=after,seed={s}" / "metrics.json").read_text())["test"]
        for s in (3, 4)
    ]
    for name in ("recall@20", "mrr@20"):
        pair = [value[name] for value in values]
        assert float(rows[-2][name]) == pytest.approx(sum(pair) / 2, abs=6e-5)
        spread = abs(pair[0] - pair[1]) / 2**0.5
        assert float(rows[-2][f"{name}_std"]) == pytest.approx(spread, abs=6e-5)
    assert rows[-2]["seeds"] == "2"

    done = collected(study, "--against", "popular", "multirun/small")
    assert done.returncode == 0, done.stderr
    first, *_, last = csv.DictReader(done.stdout.splitlines())
    assert (first["seeds"], last["row"], last["seeds"]) == ("", "id_only cell.reset=before", "3 4")
    assert first["recall@20_vs_popular"] == ""
    table = (study / "multirun" / "small" / "report" / "table.md").read_text().splitlines()
    line = next(line for line in table if "reset=before" in line)
    cells = dict(zip(map(str.strip, table[0].split("|")), line.split("|"), strict=True))
    for name in ("recall@20", "mrr@20"):
        mean, _, rest = cells[name].strip().partition(" ± ")
        assert float(last[name]) == pytest.approx(float(mean), abs=6e-4)
        mark = {"better": "+", "worse": "-", "": ""}[last[f"{name}_vs_popular"]]
        assert rest.partition(" ")[2] == mark

    assert "take one of popular, " in collected(study, "--against", "x", "multirun/small").stderr
    nothing = collected(study, "multirun/none")
    assert (nothing.returncode, "Traceback" in nothing.stderr) == (1, False)
    assert "multirun/none holds no report of a study" in nothing.stderr


def test_claims_are_the_differences_of_the_report(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs" / "results")
    claims = importlib.import_module("claims")
    folder = study / "multirun" / "small"
    found = claims.Study(folder)
    notes = (folder / "report" / "table.md").read_text()
    for row, name in {"markov": "markov", "id_only cell.reset=before": ".*=before"}.items():
        recall = found.cell(row, "popular").split(" / ")[0].replace("*", "")
        value, low, high = (float(v) for v in re.findall(r"[+-][.\d]+", recall))
        note = re.search(rf"- {name} - pop, recall@20: (\S+) \[(\S+), (\S+)\]", notes)
        assert note is not None
        expected = [float(v) for v in note.groups()]
        assert [value, low, high] == pytest.approx(expected, abs=6e-4)
    assert found.cell("concat", "popular") == ""


MISTAKES = {
    "trails: 3\nrows: {pop: }": "mistake.yaml: Key 'trails' not in",
    "trials: 3": "mistake.yaml needs seeds, and rows such as id_only: {space: network}",
    "rows: [pop]": "needs seeds, and rows",
    "rows: {pop: }\nseeds: []": "needs seeds, and rows",
    "- a": "mistake.yaml must hold keys and values",
    "rows:\n  pop:\n  pop:": "found duplicate key pop",
    "rows: {pop: {model: a=b}}": "cannot read 'model=a=b'",
    "rows: {pop: }\nagainst: popp": "unknown row 'popp'; did you mean 'pop'?",
    "rows: {idonly: }": "unknown model 'idonly'",
    "rows: {id_only: {variants: [strategy=sideways]}}": "unknown strategy 'sideways'",
    "rows: {id_only: {overrides: [hidden_size=-3]}}": "hidden_size=-3 must be at least 1",
    "rows: {pop: , id_only: {space: netwrok}}": "unknown space 'netwrok'; did you mean 'network'",
    "rows: {id_only: {space: network, trials: 0}}": "id_only: trials=0 must be at least 1",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes_in_a_study(text: str, tmp_path: Path) -> None:
    """They show before anything runs."""
    (tmp_path / "mistake.yaml").write_text(text)
    with pytest.raises((UserError, HydraException)) as found:
        run_study(read_study(str(tmp_path / "mistake.yaml")), tmp_path / "runs")
    assert MISTAKES[text] in one_line(found.value, StudyConfig)
    assert not (tmp_path / "runs").exists()


def test_mistakes_in_one_line(study: Path) -> None:
    for arguments, words in (
        (["smal"], "unknown study 'smal'"),
        (["small.yaml", "--rows", "id_olny"], "unknown row 'id_olny'; did you mean 'id_only'?"),
        (
            ["small.yaml", "--report", "--name", "other"],
            "no run of the study with these settings has finished",
        ),
        (["small.yaml", "seed=3"], "seeds are part of the study"),
    ):
        done = script("study", study, *arguments)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert words in done.stderr


def test_trials_are_of_what_is_not_set(study: Path) -> None:
    """A setting that somebody gives holds for all runs, whatever the space would draw."""
    done = script(
        "study", study, "small.yaml", "--name", "fixed", "--rows", "markov", "baseline.steps=7"
    )
    assert done.returncode == 0, done.stderr
    files = (study / "multirun" / "fixed").rglob("metrics.json")
    steps = [json.loads(file.read_text())["config"]["baseline"]["steps"] for file in files]
    assert steps == [7, 7]  # one trial, as there is nothing to draw, and the run


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a: {low: 0, high: 0.5, step: 0.25}", [0, 0.25, 0.5]),
        ("a: {low: 0, high: 0.5, step: 0.3}", [0, 0.3]),
        ("a: [null, 1]", [None, 1]),
        ("a: {low: 0, high: 1, step: 0}", None),
        ("a: {low: x, high: 1, step: 1}", None),
        ("a: 3", None),
        ("[a]", None),
        ("a: [", None),
    ],
)
def test_spaces(text: str, values: list[Any] | None, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(text)
    if values is None:
        with pytest.raises(UserError, match=r"space\.yaml"):
            read_space(str(tmp_path / "space.yaml"))
    else:
        (found,) = read_space(str(tmp_path / "space.yaml")).values()
        assert (found.values() if isinstance(found, Range) else found) == values


def test_nothing_is_chosen_by_the_test_split(study: Path) -> None:
    settings = [*SETTINGS, f"paths.raw={study}", f"paths.prepared={study}/prepared"]
    with pytest.raises(UserError, match=r"dataset\.validation is false"):
        search(
            str(study / "steps.yaml"),
            1,
            study / "blind",
            0,
            [*settings, "model=markov", "dataset.validation=false"],
        )


@pytest.mark.parametrize(
    "name", ["amazon_beauty", "frontier", "globo", "ml_100k", "paper", "retailrocket_week"]
)
def test_published_studies_read(name: str) -> None:
    assert "id_only" in read_study(name).rows
