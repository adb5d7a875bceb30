"""The package as a user installs it: built, installed into a folder, run from another one."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import p_rnn
from p_rnn import __main__ as command_line
from p_rnn.settings.job_names import SWEPT
from tests.conftest import random_log

ROOT = Path(__file__).resolve().parents[1]
# Run by Python at its start: what an editable install put there must not lead to the repository.
NO_REPOSITORY = f"""
import sys
sys.meta_path[:] = [x for x in sys.meta_path if "editable" not in getattr(x, "__module__", "")]
sys.path[:] = [x for x in sys.path if x != {str(ROOT)!r}]
"""
DATASET = """
name: mine
reader: table
path: clicks.csv
columns: {session: session, item: item, time: time}
min_item_support: 1
test_days: 2
"""
EXPERIMENT = """# @package _global_
hidden_size: 7
batch_size: 8
num_negatives: 16
num_epochs: 1
compile: never
tracking: {progress: false}
"""


def pip(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel is installed."""
    place = tmp_path_factory.mktemp("package")
    source = place / "source"
    for name in ("p_rnn", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    isolation = ["--no-build-isolation"] if importlib.util.find_spec("setuptools") else []
    built = pip("wheel", "-q", "--no-deps", *isolation, "-w", str(place), str(source))
    if built.returncode and isolation:  # setuptools is too old, perhaps
        built = pip("wheel", "-q", "--no-deps", "-w", str(place), str(source))
    wheels = list(place.glob("*.whl"))
    if not wheels:
        pytest.skip(f"no wheel can be built here: {built.stderr[-500:]}")
    shutil.rmtree(source)
    target = place / "installed"
    done = pip("install", "-q", "--no-deps", "--target", str(target), str(wheels[0]))
    assert done.returncode == 0, done.stderr
    (target / "sitecustomize.py").write_text(NO_REPOSITORY)
    return target


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A working directory with a click log and an own conf folder."""
    for group, name, content in (
        ("dataset", "mine", DATASET),
        ("experiment", "prnn_paper", EXPERIMENT),  # in the place of the package's
    ):
        (tmp_path / "conf" / group).mkdir(parents=True)
        (tmp_path / "conf" / group / f"{name}.yaml").write_text(content)
    random_log(seed=1).to_csv(tmp_path / "clicks.csv", index=False)
    return tmp_path


def run(command: list[str], place: Path, installed: Path) -> subprocess.CompletedProcess[str]:
    own = {"PYTHONPATH": str(installed), "P_RNN_RAW_DATA": str(place), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command,
        cwd=place,
        env={**os.environ, **own},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def names(folder: Path, *patterns: str) -> set[str]:
    return {str(p.relative_to(folder)) for pattern in patterns for p in folder.rglob(pattern)}


def test_the_wheel_holds_all_that_the_repository_has(installed: Path) -> None:
    there = installed / "p_rnn"
    patterns = ("*.py", "*.cpp", "*.h")
    assert names(there, *patterns) == names(ROOT / "p_rnn", *patterns)
    assert names(there / "conf", "*") == names(ROOT / "conf", "*")
    others = {path.name for path in installed.iterdir()} - {"p_rnn", "bin", "sitecustomize.py"}
    assert others <= {f"p_rnn-{p_rnn.__version__}.dist-info", "__pycache__"}


def test_trained_from_another_folder_with_an_own_conf(installed: Path, place: Path) -> None:
    words = ["train", "dataset=mine", "experiment=prnn_paper", "device=cpu"]
    trained = run([sys.executable, "-m", "p_rnn", *words], place, installed)
    assert trained.returncode == 0, trained.stdout + trained.stderr
    (stored,) = place.glob("outputs/mine/*/*/metrics.json")
    config = json.loads(stored.read_text())["config"]
    assert (config["hidden_size"], config["dataset"]["path"]) == (7, "clicks.csv")
    said = " ".join(trained.stdout.split())  # lines are broken in a terminal's width
    assert f"settings are looked for first in {place / 'conf'}" in said
    assert "settings are looked for" in (stored.parent / "train.log").read_text()


def test_the_console_script(installed: Path, place: Path) -> None:
    script = str(installed / "bin" / "p-rnn")
    where = "import p_rnn.settings.config as c; print(c.CONF)"
    folder = run([sys.executable, "-c", where], place, installed)
    assert folder.stdout.strip() == str(installed / "p_rnn" / "conf")
    unknown = run([sys.executable, script, "prepar"], place, installed)
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert unknown.stderr == "error: unknown command 'prepar'; did you mean 'prepare'?\n"


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_commands_are_listed(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/p-rnn", *words])
    command_line.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "usage: p-rnn <command> ..."
    listed = {line.split()[0] for line in lines if line.startswith("  ")}
    assert listed == {path.stem for path in (ROOT / "scripts").glob("*.py")}
    assert all((ROOT / "p_rnn" / "commands" / f"{name}.py").exists() for name in listed)
    assert max(map(len, lines)) <= 80


def test_version_and_a_command_like_no_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["p_rnn/__main__.py", "--version"])
    command_line.main()
    assert capsys.readouterr().out == f"p-rnn {p_rnn.__version__}\n"
    monkeypatch.setattr(sys, "argv", ["p_rnn/__main__.py", "xyz"])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert ended.value.code == 2
    expected = "error: unknown command 'xyz'; python -m p_rnn --help lists them\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["x/bin/p-rnn", "train"], "p-rnn train"),
        (["x/bin/p-rnn", "search"], "p-rnn search"),
        (["x/p_rnn/__main__.py", "study"], "python -m p_rnn study"),
        (["scripts/prepare.py"], "python scripts/prepare.py"),
        (["scripts/report.py"], "python scripts/report.py"),
    ],
)
def test_help_says_the_command_as_it_was_typed(
    argv: list[str], name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in ("HYDRA_FULL_ERROR", SWEPT, "GOMP_SPINCOUNT", "THP_MEM_ALLOC_ENABLE"):
        monkeypatch.setenv(variable, "")  # so that what a command sets is gone after the test
    monkeypatch.setattr(sys, "argv", [*argv, "--help"])
    with contextlib.suppress(SystemExit):
        if argv[0].startswith("scripts/"):
            command_line.run_script(Path(argv[0]).stem)
        else:
            command_line.main()
    assert capsys.readouterr().out.startswith(f"usage: {name} ")
