"""A whole study of a tiny world: equal trials, seeds, variants, a table; failures, going on."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from p_rnn.errors import UserError
from p_rnn.study import read_study
from tests.conftest import random_log
from tests.report.test_report import NETWORK, SETTINGS, script

STUDY = """
overrides: {overrides}
trials: 2
in_trials: [num_epochs=1]
seeds: [3, 4]
against: pop
shared: {{networks: {networks}}}
rows:
  pop:
  markov: {{space: {space}}}
  broken: {{model: markov, overrides: [baseline.backoff=3]}}
  id_only:
    space: {networks_space}
    overrides: ${{shared.networks}}
    variants: [gru.reset=after, gru.reset=before]
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    random_log(0).to_csv(folder / "tiny.csv", index=False)
    (folder / "steps.yaml").write_text("baseline.steps: [1, 2, 3]\n")
    (folder / "rates.yaml").write_text("learning_rate: [0.05, 0.1]\n")
    settings = [*SETTINGS, f"paths.raw={folder}", f"paths.prepared={folder}/prepared"]
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
    done = script("study", study, "small.yaml", "seed=0")
    assert done.returncode == 2
    assert "1 runs of the study failed:\n  broken/run: baseline.backoff has no effect" in (
        done.stderr
    )
    folder = study / "multirun" / "small"
    with (folder / "report" / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["model"], row["seed"]) for row in rows] == [
        ("pop", "0"), ("markov", "0"), *[("id_only", seed) for seed in "3434"],
    ]  # fmt: skip
    tried = {}
    for file in sorted(folder.glob("id_only/trials/*/metrics.json")):
        metrics = json.loads(file.read_text())
        assert metrics["epochs"] == 1
        tried[metrics["valid"]["recall@20"]] = metrics["config"]["learning_rate"]
    runs = [json.loads((study / row["folder"] / "metrics.json").read_text()) for row in rows[2:]]
    assert {run["config"]["learning_rate"] for run in runs} == {tried[max(tried)]}
    assert [run["config"]["gru"]["reset"] for run in runs] == ["after"] * 2 + ["before"] * 2
    assert {run["epochs"] for run in runs} == {2}
    text = (folder / "report" / "table.txt").read_text()
    assert "better and worse than pop" in text

    broken = (study / "small.yaml").read_text().replace("baseline.backoff=3", "baseline.steps=4")
    (study / "small.yaml").write_text(broken)
    stamp = (folder / "pop" / "run" / "metrics.json").stat().st_mtime_ns
    done = script("study", study, "small.yaml", "seed=0", "--rows", "broken")
    assert done.returncode == 0, done.stderr
    assert (folder / "pop" / "run" / "metrics.json").stat().st_mtime_ns == stamp
    assert (folder / "report" / "table.txt").read_text().count("id_only") >= 2


def test_mistakes_in_one_line(study: Path) -> None:
    for arguments, words in (
        (["smal"], "unknown study 'smal'"),
        (["small.yaml", "--rows", "id_olny"], "unknown row 'id_olny'; did you mean 'id_only'?"),
    ):
        done = script("study", study, *arguments)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert words in done.stderr
    (study / "wrong.yaml").write_text("trails: 3\n")
    done = script("study", study, "wrong.yaml")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "trails" in done.stderr
    (study / "empty.yaml").write_text("trials: 3\n")
    with pytest.raises(UserError, match="needs rows and seeds"):
        read_study(str(study / "empty.yaml"))


@pytest.mark.parametrize("name", ["amazon_beauty", "globo", "ml_100k", "retailrocket_week"])
def test_published_studies_read(name: str) -> None:
    assert "id_only" in read_study(name).rows
