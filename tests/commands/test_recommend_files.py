"""Recommending for all sessions of a file, whatever its format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from p_rnn.commands import recommend
from p_rnn.data.readers.options import ColumnsConfig
from p_rnn.recommend import Recommender, load
from p_rnn.recommend.session_file import SessionFile, read_session_file
from p_rnn.settings.commands import RecommendConfig
from p_rnn.settings.errors import UserError
from p_rnn.settings.sections import DatasetConfig
from tests.commands.conftest import Run

IN_TIME = {"c": ["001", "002", "009"], "a": ["005", "006"], "b": ["nope"]}
IN_FILE = {"c": ["002", "001", "009"], "a": ["005", "006"], "b": ["nope"]}
TEXT: dict[str, Any] = {"dtype": {"session": str, "item": str}}
READ: dict[str, Callable[[Path], pd.DataFrame]] = {
    "top.csv": lambda path: pd.read_csv(path, **TEXT),
    "top.tsv": lambda path: pd.read_csv(path, sep="\t", **TEXT),
    "top.jsonl": lambda path: pd.read_json(path, lines=True, **TEXT),
    "new/top.parquet": pd.read_parquet,
}


def assert_recommends(
    found: pd.DataFrame, model: Recommender, sessions: dict[str, list[str]], k: int = 3
) -> None:
    assert list(found) == ["session", "rank", "item", "score"]
    assert list(dict.fromkeys(found["session"])) == list(sessions)
    for name, session in sessions.items():
        own, top = found[found["session"] == name], model.recommend(session, k)
        assert own["rank"].tolist() == [1, 2, 3][: len(own)]
        assert own["item"].tolist() == top.ids
        assert own["score"].tolist() == pytest.approx(top.scores, rel=1e-5)


@pytest.mark.usefixtures("clicks")
@pytest.mark.parametrize("output", READ)
@pytest.mark.parametrize("name", ["network", "counts"])
def test_sessions_of_a_file(
    shop: Path, tmp_path: Path, run: Run, name: str, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if output.endswith("parquet"):
        pytest.importorskip("pyarrow")
    monkeypatch.setattr(recommend, "BLOCK", 2)
    path = shop / f"{name}.pt"
    status, said, err = run(f"checkpoint={path}", "sessions=clicks.csv", f"output={output}", "k=3")
    assert (status, err) == (0, "")
    assert_recommends(READ[output](tmp_path / output), load(path, "cpu"), IN_TIME)
    assert said.startswith(
        "3 sessions, 6 events; 1 events of 1 unknown ids skipped (nope); "
        f"9 rows written to {output} in "
    )
    assert {p.name for p in tmp_path.iterdir()} == {"clicks.csv", output.split("/")[0]}


# What is given, how the file is written, and the sessions in it.
FORMATS: dict[str, tuple[list[str], Callable[[pd.DataFrame], str], dict[str, list[str]]]] = {
    "columns": (
        ["columns.session=s", "columns.item=i", "columns.time=t"],
        lambda f: f.set_axis(["s", "i", "t"], axis=1).to_csv(index=False, sep=";"),
        IN_TIME,
    ),
    "no time": ([], lambda f: f.drop(columns="at").to_csv(index=False, sep=";"), IN_FILE),
    "time_unit": (
        ["time_unit=iso"],
        lambda f: f.assign(at=pd.to_datetime(f["at"], unit="s")).to_csv(index=False, sep=";"),
        IN_TIME,
    ),
    "separator as it is typed": (
        ["separator=|"],
        lambda f: f.to_csv(index=False, sep="|"),
        IN_TIME,
    ),
    "separator": (["separator='|'"], lambda f: f.to_csv(index=False, sep="|"), IN_TIME),
    "names": (
        ["names=[visit,sku,at]"],
        lambda f: f.to_csv(index=False, header=False, sep=";"),
        {**IN_TIME},
    ),
    "numbers of columns": (
        ["columns.session=0", "columns.item=1", "columns.time=2"],
        lambda f: f.to_csv(index=False, header=False, sep=";"),
        IN_TIME,
    ),
    "missing_ids": (
        ["missing_ids=drop"],
        lambda f: f.replace("nope", "").to_csv(index=False, sep=";"),
        {key: IN_TIME[key] for key in ("c", "a")},
    ),
    "quoting": (
        ["quoting=none"],
        lambda f: f.replace("b", '"b').to_csv(index=False, sep=";", quoting=3),
        {"c": IN_TIME["c"], "a": IN_TIME["a"], '"b': ["nope"]},
    ),
    "encoding": (
        ["encoding=utf-16"],
        lambda f: f.replace("b", "ß").to_csv(index=False, sep=";"),
        {"c": IN_TIME["c"], "a": IN_TIME["a"], "ß": ["nope"]},
    ),
    "several columns of a session": (
        ["columns.session=[visit,shop]"],
        lambda f: f.assign(shop="x").to_csv(index=False, sep=";"),
        {f"{key}|x": items for key, items in IN_TIME.items()},
    ),
}


@pytest.mark.parametrize("case", FORMATS)
def test_formats_of_the_file(
    shop: Path, tmp_path: Path, run: Run, clicks: pd.DataFrame, case: str
) -> None:
    words, write, sessions = FORMATS[case]
    encoding = "utf-16" if case == "encoding" else "utf-8"
    (tmp_path / "clicks.csv").write_text(write(clicks), encoding=encoding)
    path = shop / "network.pt"
    given = (f"checkpoint={path}", "sessions=clicks.csv", "output=top.csv", "k=3")
    status, _, err = run(*given, *words)
    assert (status, err) == (0, ""), err
    found = READ["top.csv"](tmp_path / "top.csv")
    assert_recommends(found, load(path, "cpu"), sessions)
    if words:  # each of them has an effect
        (tmp_path / "top.csv").unlink()
        assert run(*given)[0] == 2 or not found.equals(READ["top.csv"](tmp_path / "top.csv"))


def test_other_kinds_of_files_do_not_inherit_a_separator(
    shop: Path, tmp_path: Path, run: Run, clicks: pd.DataFrame
) -> None:
    clicks.to_csv(tmp_path / "clicks.tsv", index=False, sep="\t")
    clicks.to_json(tmp_path / "clicks.jsonl", orient="records", lines=True)
    for name in ("clicks.tsv", "clicks.jsonl"):
        path = shop / "network.pt"
        assert run(f"checkpoint={path}", f"sessions={name}", "output=top.csv", "k=3")[0] == 0
        assert_recommends(READ["top.csv"](tmp_path / "top.csv"), load(path, "cpu"), IN_TIME)


# --- what a data set says of the format ---------------------------------------------------------


def read(file: Path, **data: Any) -> SessionFile:
    dataset = DatasetConfig.of(name="x", reader="table", path="log.csv", **data)
    return read_session_file(RecommendConfig("best.pt", sessions=str(file)), dataset)


def test_events_of_other_types_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "clicks.csv"
    path.write_text("s,i,t,kind\nb,1,3,buy\na,2,2,view\nb,3,1,view\nc,4,1,buy\n")
    columns = ColumnsConfig("s", "i", "t", "kind")
    file = read(path, columns=columns, event_types=["view"])
    assert (file.ids.tolist(), list(file.sessions())) == (["b", "a"], [[3], [2]])
    assert (file.other_types, file.emptied) == (2, 1)
    file = read(path, columns=columns, event_types=["view", "cart"])  # a file need not have all
    assert (file.other_types, file.emptied) == (2, 1)
    with pytest.raises(UserError) as error:
        read(path, columns=columns, event_types=["cart"])
    assert "trained on events of type cart, and all events here are buy, view" in str(error.value)
    assert "dataset." not in str(error.value)
    path.write_text("s,i,t\nb,1,3\na,2,2\nb,3,1\n")
    file = read(path, columns=columns, event_types=["view"])
    assert (file.ids.tolist(), list(file.sessions())) == (["b", "a"], [[3, 1], [2]])


def test_rows_that_are_histories(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("before,i\n7 8,9\n,5\n")
    columns = ColumnsConfig("s", "i", None, history="before")
    file = read(path, columns=columns)
    assert (file.ids.tolist(), list(file.sessions())) == ([0, 1], [[7, 8, 9], [5]])


@pytest.mark.parametrize("header", ["", "s,i,t\n"])
def test_a_header_is_seen_though_training_had_none(tmp_path: Path, header: str) -> None:
    path = tmp_path / "clicks.csv"
    path.write_text(f"{header}a,1,2\na,2,1\n")
    columns = ColumnsConfig("s", "i", "t")
    file = read(path, columns=columns, names=["s", "i", "t"])
    assert list(file.sessions()) == [[2, 1]]


def test_a_reader_without_columns_leaves_session_item_and_time(tmp_path: Path) -> None:
    path = tmp_path / "clicks.csv"
    path.write_text("session,item,time\na,1,2\na,2,1\n")
    dataset = DatasetConfig.of(name="x", reader="retailrocket")
    file = read_session_file(RecommendConfig("best.pt", sessions=str(path)), dataset)
    assert list(file.sessions()) == [[2, 1]]
