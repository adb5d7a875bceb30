"""Recommending from the command line: for one session, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from p_rnn.recommend import Recommender, load
from p_rnn.recommend.tables import GAP, SHORTEST, fitted
from p_rnn.runs.experiment import train
from p_rnn.settings.hydra_glue import load_config
from tests.commands.conftest import COLD, Run, rows_of
from tests.conftest import TINY, random_log
from tests.running import run_script


@pytest.mark.parametrize("name", ["network", "counts"])
def test_a_session_gives_a_table_and_leaves_no_files(shop: Path, tmp_path: Path, name: str) -> None:
    path = shop / f"{name}.pt"
    words = f"session=[007,'{COLD}',nope,\"001\"]"
    done = run_script("recommend", tmp_path, f"checkpoint={path}", words, "k=4", "device=cpu")
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())
    top = load(path, "cpu").recommend(["007", COLD, "nope", "001"], k=4)
    assert top.skipped == [COLD, "nope"]
    rows = rows_of(done.stdout)
    assert [row[:2] for row in rows] == [[str(k + 1), item] for k, item in enumerate(top.ids)]
    assert [float(row[2]) for row in rows] == pytest.approx(top.scores, abs=1e-4)
    assert all(row[3].startswith("a chair of wood") for row in rows)
    above = done.stdout[: done.stdout.index("recommended:")].splitlines()
    (cold,) = [line for line in above if COLD in line]
    (unknown,) = [line for line in above if "nope" in line]
    assert "cannot be read" in cold
    assert "unknown" in unknown
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_seen_items_and_candidates(shop: Path, run: Run) -> None:
    words = (f"checkpoint={shop / 'network.pt'}", "session=001,002", "candidates=[001,003,004]")
    items = {row[1] for row in rows_of(run(*words)[1])}
    assert items == {"001", "003", "004"}
    items = {row[1] for row in rows_of(run(*words, "exclude_seen=true")[1])}
    assert items == {"003", "004"}
    status, out, _ = run(*words[:2], "candidates=[001]", "exclude_seen=true")
    assert (status, "no item is left" in out) == (0, True)


def test_a_session_without_items_that_can_be_read(shop: Path, run: Run) -> None:
    _, unknown, _ = run(f"checkpoint={shop / 'network.pt'}", "session=[nope]")
    _, empty, _ = run(f"checkpoint={shop / 'network.pt'}", "session=[]")
    assert rows_of(unknown) == rows_of(empty)
    assert "none of these can be read" in unknown


FILE = ("sessions=clicks.csv", "output=top.csv")
MISTAKES = [
    ((), "give one of session=[a,b,c], sessions=<file> and interactive=true"),
    (("session=[001]", "interactive=true"), "give one of session="),
    (("session=[001]", "checkpoint=no.pt"), "no checkpoint at no.pt"),
    (("session=[001]", "k=0"), "k=0 must be at least 1"),
    (("session=[001]", "candidates=[001,x]"), "the model has no such candidates: 'x'"),
    (("session=[001]", "output=top.csv"), "output has no effect without sessions=<file>"),
    (("session=[001]", "columns.item=x"), "columns.item has no effect without sessions=<file>"),
    (("session=[001]", "quoting=odd"), "quoting='odd' is not a choice"),
    (("session=[001]", "device=cuda:9"), "device=cuda:9 is not available here"),
    (("session=[001]", "num_threads=0"), "num_threads=0 must be at least 1"),
    (("session=[001", "k=3"), "a bracket is missing"),
    (("session=[001]", "-m"), "recommend does not take the flag -m"),
    (("session=[001]", "exclude_sen=true"), "did you mean exclude_seen"),
    (("sessions=no.csv", "output=top.csv"), "sessions=no.csv: no such file or folder"),
    (("sessions=clicks.csv",), "sessions needs output="),
    (("sessions=clicks.csv", "output=top.xls"), "output=top.xls must end in .csv"),
    (("sessions=clicks.csv", "output=clicks.csv"), "output=clicks.csv is an input, clicks.csv"),
    ((*FILE, "columns.item=skuu"), "no column 'skuu' (columns.item); did you mean 'sku'?"),
    ((*FILE, "columns.time=when"), "no column 'when' (columns.time)"),
    ((*FILE, "columns.item=visit"), "none of the items (such as 'c') is an item of the model"),
    ((*FILE, "separator=,"), "its first line is separated by ';': set separator=';'"),
    ((*FILE, "columns.item=;"), "cannot read 'columns.item=;'; such a value needs quotes"),
    ((*FILE, "time_unit=iso"), "not an ISO date; fix that row, or set time_unit"),
]


@pytest.mark.usefixtures("clicks")
@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=[m for _, m in MISTAKES])
def test_mistakes_are_one_clear_line(
    shop: Path, tmp_path: Path, run: Run, words: tuple[str, ...], message: str
) -> None:
    own = () if any("checkpoint" in w for w in words) else (f"checkpoint={shop / 'network.pt'}",)
    status, out, err = run(*own, *words)
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert [p.name for p in tmp_path.iterdir()] == ["clicks.csv"]


def test_a_checkpoint_that_needs_its_data_says_so(shop: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "raw").mkdir()
    random_log(seed=1).to_csv(tmp_path / "raw" / "tiny.csv", index=False)
    paths = (f"paths.raw={tmp_path / 'raw'}", f"paths.prepared={tmp_path / 'prepared'}")
    train(load_config(*TINY, *paths, "portable=false"), tmp_path / "run")
    (tmp_path / "prepared").rename(tmp_path / "moved = (1)")
    given = (f"checkpoint={tmp_path}/run/checkpoints/best.pt", "session=[1,2]", "k=3")
    status, _, err = run(*given)
    assert status == 2
    assert "give prepared=<the folder that it lies in>" in err
    status, out, err = run(*given, f"prepared={tmp_path / 'moved = (1)'}")
    assert (status, err) == (0, "")
    assert len(rows_of(out)) == 3


def test_threads_are_set(shop: Path, run: Run) -> None:
    before = torch.get_num_threads()
    try:
        run(f"checkpoint={shop / 'network.pt'}", "session=[001]", f"num_threads={before + 1}")
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_help_and_settings_are_printed(run: Run) -> None:
    status, out, _ = run("--help")
    assert status == 0
    assert "exclude_seen: false" in out
    status, out, _ = run("--cfg", "job", "checkpoint=x", "session=[007,1_000]")
    assert status == 0
    assert "session: [007, 1_000]" in out


@pytest.mark.usefixtures("clicks")
def test_an_interrupted_command_leaves_the_old_file(
    shop: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> Iterator[Any]:
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(Recommender, "recommend_many", interrupted)
    (tmp_path / "top.csv").write_text("old")
    status, out, err = run(f"checkpoint={shop / 'network.pt'}", *FILE)
    assert (status, out, err) == (130, "", "\ninterrupted\n")
    assert (tmp_path / "top.csv").read_text() == "old"
    assert {p.name for p in tmp_path.iterdir()} == {"clicks.csv", "top.csv"}


@pytest.mark.parametrize("width", [30, 50, 80, 100])
def test_labels_are_cut_until_the_table_fits(width: int) -> None:
    own = pd.DataFrame({"item": ["A-1", "A-2"]})
    labels = {
        "brand": ["acme", ""],
        **{f"a long name {k}": ["x" * 60, "y" * (k + 1)] for k in range(6)},
    }
    table, left_out = fitted(own, labels, width)
    sizes = [max(map(len, (name, *table[name]))) for name in table]
    assert sum(sizes) + GAP * (len(sizes) - 1) <= width + 6  # names that are cut to the same
    assert len(table.columns) + len(left_out) == 1 + len(labels)
    assert min(sizes[1:]) >= min(SHORTEST, 5)
    whole, none = fitted(own, {"brand": labels["brand"]}, width)
    assert whole["brand"].tolist() == ["acme", ""]
    assert none == []
