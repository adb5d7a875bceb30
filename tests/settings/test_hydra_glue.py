"""The scripts as a user runs them: results, folders, sweeps, and one clear line for mistakes."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from p_rnn.settings.job_names import SWEPT, job_name, run_words, swept_keys
from tests.conftest import TINY, random_log
from tests.running import run_script


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "raw").mkdir()
    random_log(seed=1).to_csv(folder / "raw" / "tiny.csv", index=False)
    return folder


def run(
    place: Path, script: str, *arguments: str, fresh: bool = False
) -> subprocess.CompletedProcess[str]:
    """A script in a process of its own, in an empty working directory."""
    return run_script(script, place, *arguments, raw=place / "raw", fresh=fresh)


def only(pattern: str, place: Path) -> Path:
    found = sorted(place.glob(pattern))
    assert len(found) == 1, found
    return found[0]


def test_train_then_evaluate_reproduces_the_stored_metrics(place: Path) -> None:
    trained = run(place, "train", *TINY, "num_epochs=3", fresh=True)
    assert trained.returncode == 0, trained.stderr
    folder = only("outputs/tiny/id_only-simultaneous/*", place)
    assert str(folder) in trained.stdout
    files = {path.name for path in folder.iterdir()}
    assert {".hydra", "train.log", "checkpoints", "metrics.json"} <= files
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["epochs"] == 3
    assert set(metrics["seconds"]) == {"prepare", "train", "evaluate", "total"}
    for name in ("id_only", "pop", "session_pop"):
        assert name in trained.stdout
    for split in ("valid", "test"):
        again = run(
            place,
            "evaluate",
            f"checkpoint={folder}/checkpoints/best.pt",
            f"split={split}",
            fresh=split == "test",
        )
        assert again.returncode == 0, again.stderr
        written = only("outputs/evaluate/*/evaluation.json", place)
        assert json.loads(written.read_text())["results"][split] == metrics["results"][split]
        written.rename(written.with_name("seen.json"))
    other = run(
        place,
        "evaluate",
        f"checkpoint={folder}/checkpoints/best.pt",
        "evaluation.cutoffs=[3]",
        "evaluation.ties=standard",
    )
    only("outputs/evaluate/*/evaluation.json", place).unlink()
    assert "recall@3" in other.stdout
    assert "standard ties" in other.stdout
    knn = run(
        place,
        "evaluate",
        f"checkpoint={folder}/checkpoints/best.pt",
        "evaluation.baselines=[item_knn]",
    )
    only("outputs/evaluate/*/evaluation.json", place).unlink()
    lines = knn.stdout[: knn.stdout.index("written:")].split("\n\n")[-2].splitlines()
    assert [line.split()[0] for line in lines[-2:]] == ["id_only", "item_knn"]
    for name in ("nosuch", "bpr_mf", "feature_markov"):
        refused = run(
            place,
            "evaluate",
            f"checkpoint={folder}/checkpoints/best.pt",
            f"evaluation.baselines=[{name}]",
        )
        assert refused.returncode == 2
        (line,) = [x for x in refused.stdout.splitlines() if x.startswith("error: ")]
        assert name in line
        assert refused.stderr == ""


def test_final_model_on_training_and_validation_can_be_evaluated(place: Path) -> None:
    trained = run(place, "train", *TINY, "train_on_validation=true", "dataset.name=final")
    assert trained.returncode == 0, trained.stderr
    folder = only("outputs/final/id_only-simultaneous/*", place)
    stored = json.loads((folder / "metrics.json").read_text())["results"]["test"]
    again = run(place, "evaluate", f"checkpoint={folder}/checkpoints/final.pt")
    assert again.returncode == 0, again.stderr
    written = only("outputs/evaluate/*/evaluation.json", place)
    assert json.loads(written.read_text())["results"]["test"] == stored
    written.rename(written.with_name("seen.json"))
    learned = run(place, "evaluate", f"checkpoint={folder}/checkpoints/final.pt", "split=valid")
    assert "was trained on the validation split too" in learned.stdout


def test_sweep_has_a_folder_per_job_and_skips_finished_ones(place: Path) -> None:
    sweep = ("-m", *TINY, "sweep_name=lr", "learning_rate=0.01,0.1")
    first = run(place, "train", *sweep)
    assert first.returncode == 0, first.stderr
    jobs = sorted(path.parent for path in place.glob("multirun/lr/*/metrics.json"))
    assert [job.name for job in jobs] == ["learning_rate=0.01", "learning_rate=0.1"]
    rates = {json.loads((j / "metrics.json").read_text())["config"]["learning_rate"] for j in jobs}
    assert rates == {0.01, 0.1}
    second = run(place, "train", *sweep)
    assert second.stdout.count("finished before") == 2
    other = run(place, "train", *sweep, "hidden_size=9")
    assert other.returncode == 2
    assert "hidden_size=8, not 9" in other.stdout  # nothing is overwritten or passed off as done


def test_one_failed_job_does_not_stop_the_others(place: Path) -> None:
    sweep = run(place, "train", "-m", *TINY, "sweep_name=mixed", "batch_size=100000,8")
    assert sweep.returncode == 2
    assert "exceeds" in sweep.stdout
    assert "1 jobs of the sweep failed" in sweep.stdout + sweep.stderr
    assert len(list(place.glob("multirun/mixed/*/metrics.json"))) == 1


def test_why_a_sweep_cannot_start_is_said_beside_the_failures_of_before(place: Path) -> None:
    old = place / "multirun" / "stale" / "batch_size=1"
    old.mkdir(parents=True)
    (old / "error.txt").write_text("of another day\n")
    sweep = run(place, "train", "-m", "no_such_key=5,6", "sweep_name=stale")
    assert sweep.returncode == 2
    assert "unknown setting 'no_such_key'" in sweep.stderr
    assert "of another day" in sweep.stderr
    assert "Traceback" not in sweep.stderr


def test_interrupted_run_goes_on_as_if_it_had_not_been(place: Path) -> None:
    dropout = ("dropout_prob=0.3", "optimizer.momentum=0.2")
    whole = run(place, "train", *TINY, *dropout, "num_epochs=4", "dataset.name=whole")
    half = run(place, "train", *TINY, *dropout, "num_epochs=2", "dataset.name=half")
    last = only("outputs/half/id_only-simultaneous/*/checkpoints/last.pt", place)
    rest = run(
        place, "train", *TINY, *dropout, "num_epochs=4", "dataset.name=half", f"resume={last}"
    )
    assert (whole.returncode, half.returncode, rest.returncode) == (0, 0, 0), rest.stdout
    first = json.loads(only("outputs/whole/*/*/metrics.json", place).read_text())
    resumed = sorted(place.glob("outputs/half/*/*/metrics.json"))[-1]
    second = json.loads(resumed.read_text())
    assert second["results"] == first["results"]
    assert [row["loss"] for row in second["history"]] == [row["loss"] for row in first["history"]]
    other = run(place, "train", *TINY, "num_epochs=4", "dataset.name=half", f"resume={last}")
    assert other.returncode == 2
    assert "was trained with" in other.stdout
    fewer = run(
        place, "train", *TINY, *dropout, "num_epochs=1", "dataset.name=half", f"resume={last}"
    )
    assert "has trained 2 epochs already, and num_epochs=1" in fewer.stdout


def test_interrupted_job_of_a_sweep_goes_on(place: Path) -> None:
    sweep = ("-m", *TINY, "sweep_name=cut", "seed=1,2", "num_epochs=2")
    assert run(place, "train", *sweep).returncode == 0
    folder = place / "multirun" / "cut" / "seed=2"
    whole = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").unlink()
    again = run(place, "train", *sweep)
    assert again.stdout.count("finished before") == 1
    assert again.stdout.count("resuming from") == 1
    resumed = json.loads((folder / "metrics.json").read_text())
    assert resumed["results"] == whole["results"]
    # It trained both epochs, although this process had none left.
    assert resumed["seconds"]["train"] >= sum(row["seconds"] for row in whole["history"])


def test_refused_runs_leave_no_folder(place: Path) -> None:
    before = set(place.rglob("*"))
    assert run(place, "train", *TINY, "batch_size=100000", "hydra.run.dir=refused").returncode == 2
    assert set(place.rglob("*")) - before == set()
    # The items of the last day occur in it alone.
    rows = [
        f"{day}{s},{'ab'[day == 3]}{k},{day * 86_400 + k}"
        for day in range(4)
        for s in range(9)
        for k in range(3)
    ]
    (place / "raw" / "cold.csv").write_text("\n".join(["session,item,time", *rows]))
    cold = ["dataset.path=cold.csv", "dataset.test_days=1", "dataset.name=cold"]
    refused = run(place, "train", *TINY, *cold)
    assert "no target is left to evaluate in the test split" in refused.stdout
    assert not list(place.glob("outputs/cold/*/*"))
    (place / "mine").mkdir()
    (place / "mine" / "other.log").write_text("not of this run")
    run(place, "train", *TINY, "batch_size=100000", "hydra.run.dir=mine")
    assert {path.name for path in (place / "mine").iterdir()} >= {"other.log", "train.log"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["learning_rat=0.1"], "unknown setting 'learning_rat'; did you mean learning_rate"),
        (["inpt=shared"], "did you mean model.input"),
        (["+foo=1"], "unknown setting 'foo'"),
        (["+model.foo=1"], "unknown setting 'model.foo'"),
        (["learning_rate=fast"], "learning_rate: Value 'fast' of type 'str' is not a number"),
        (["num_layers=1.5"], "is not a whole number"),
        (["learning_rate=-1"], "learning_rate=-1.0 must be above 0"),
        (["learning_rate=nan"], "learning_rate=nan must be a finite number"),
        (["subnets.id.hidden_siz=3"], "unknown setting 'subnets.id.hidden_siz'; did you mean"),
        (["subnets.id.hidden_size=x"], "subnets.id.hidden_size: Value 'x' of type 'str' is not a"),
        (["subnets.id=2"], "subnets.id is a section of settings, such as subnets.id.weight=2"),
        (["dataset.features.x.columns=y"], "dataset.features.x.columns takes a list"),
        (["subnets.id.weight=inf"], "subnets.id.weight=inf must be a finite number"),
        (["dataset.features.x.knd=text"], "unknown setting 'dataset.features.x.knd'"),
        (
            ["dataset.features.x.kind=txt"],
            "unknown dataset.features.x.kind 'txt'; did you mean 'text'",
        ),
        (["model=parallel"], "has no item features; declare dataset.features or take model=id"),
        (["strategy=residul"], "unknown strategy 'residul'; did you mean 'residual'?"),
        (["learning_rate=[1"], "cannot read 'learning_rate=[1'"),
        (["evaluation.cutoffs=20"], "evaluation.cutoffs takes a list: evaluation.cutoffs=[20]"),
        (["learning_rate=0.1,0.2"], "several values are a sweep, which needs -m"),
        (["optimiser=adam"], "did you mean optimizer"),
        (["dataset.synthetic.num_events=9"], "dataset.synthetic has no effect: reader="),
        (["experiment=offical_globo"], "unknown experiment 'offical_globo'; did you mean"),
        (["sweep_name=x"], "sweep_name has no effect without -m"),
        (["dataset.name=../x"], "dataset.name='../x' names a folder"),
        (["dataset.columns.time=null"], "dataset.split=leave_one_out dataset.test_days=null"),
        (["dataset=globoo"], "unknown dataset 'globoo'; did you mean 'globo'?"),
        (["model=idonly"], "unknown model 'idonly'; did you mean 'id_only'?"),
        (["loss=bprmax"], "unknown loss 'bprmax'; did you mean 'bpr_max'?"),
        (["loss=null"], "loss=null: a group cannot be null; ~loss leaves it out"),
        (["loss=top1", "loss.bpreg=2"], "loss.bpreg has no effect: top1 takes no parameters"),
        (["negatives=full", "num_negatives=3"], "num_negatives has no effect with negatives=full"),
        (["embedding_size=3"], "embedding_size=3 must equal the hidden_size=8"),
        (["loss_type=CE", "loss=top1"], "loss and loss_type=CE both given"),
        (["batch_size=100000"], "batch_size=100000 exceeds the"),
        (["early_stopping.metric=recal@20"], "did you mean 'recall@20'?"),
        (["device=cuda:9"], "device=cuda:9 is not available here"),
        (["resume=absent.pt"], "no checkpoint at absent.pt"),
        (["learning_rate=1e30", "loss=bpr_max"], "the loss became "),
    ],
)
def test_mistakes_are_one_clear_line(place: Path, arguments: list[str], message: str) -> None:
    tiny = [
        o
        for o in TINY
        if not any(a.startswith("dataset=") and o.startswith("dataset") for a in arguments)
    ]
    result = run(place, "train", *tiny, *arguments)
    assert result.returncode == 2
    errors = [x for x in (result.stdout + result.stderr).splitlines() if x.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in result.stdout + result.stderr
    assert "Error executing job" not in result.stderr


def test_evaluate_mistakes(place: Path) -> None:
    assert "checkpoint must be given" in run(place, "evaluate").stdout
    (place / "text.pt").write_text("no checkpoint")
    assert "is not a p_rnn checkpoint" in run(place, "evaluate", "checkpoint=text.pt").stdout


def test_cutoffs_of_a_report_are_a_list(place: Path) -> None:
    refused = run(place, "report", str(place), "--cutoffs", "5,x")
    assert refused.returncode == 2
    assert "'5,x' is not a list such as 5,20" in refused.stderr
    run(place, "train", *TINY, "hydra.run.dir=reported")
    written = run(place, "report", "reported", "--cutoffs", "5,1", "--out", "report")
    assert {"recall@5", "mrr@1"} <= set(written.stdout.split()), written.stderr


def test_names_of_job_folders_hold_what_is_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["-m", "dataset=globo", "learning_rate=0.1,0.2", "loss.bpreg=choice(1,2)", "x=[1,2]"]
    assert swept_keys(words) == ["learning_rate", "loss.bpreg"]
    monkeypatch.setenv(SWEPT, "learning_rate,loss.bpreg")
    assert job_name("dataset=globo,learning_rate=0.1,loss.bpreg=2") == "learning_rate=0.1,bpreg=2"
    assert job_name("seed=1,learning_rate=0.1", {"seed": "1,2"}) == "seed=1,learning_rate=0.1"
    monkeypatch.setenv(SWEPT, "")
    assert job_name("subnets.a.weight=1,subnets.b.weight=2") == "a.weight=1,b.weight=2"
    assert job_name("dataset.features.a.min_df=1,seed=2") == "a.min_df=1,seed=2"
    assert job_name("") == "defaults"
    long = [job_name(",".join(f"key{k}={v}" for k in range(50))) for v in (1, 2)]
    assert len(set(long)) == 2
    assert max(map(len, long)) < 200


def test_folders_of_single_runs_say_what_is_not_the_default_in_them() -> None:
    assert run_words("") == ""
    assert run_words("model=concat,dataset.test_days=2,paths.raw=x,tracking.progress=false") == ""
    words = "strategy=residual,learning_rate=0.1,model.input=shared,resume=last.pt"
    assert run_words(words) == "_learning_rate-0.1_input-shared"


@pytest.mark.parametrize("length", [1, 150])
def test_values_that_differ_in_what_no_folder_can_be_called_have_folders_of_their_own(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SWEPT, "")
    values = [f"{'x' * length}{c}y.csv" for c in "/_ :"]
    names = [job_name(f"dataset.path={value}") for value in values]
    assert len(set(names)) == 4
    assert max(map(len, names)) < 200
    assert not any(c in "".join(names) for c in "/ :")
    assert job_name("dataset.path=x/y.csv") == "path=x_y.csv-e059a309"  # SHA-256 of path=x/y.csv
    # Names in which nothing is replaced are those that finished sweeps have.
    assert job_name("dataset.path=x_y.csv") == "path=x_y.csv"
    long = "seed=" + 130 * "1"
    assert job_name(long) == f"{long[:120]}-{hashlib.sha256(long.encode()).hexdigest()[:8]}"
