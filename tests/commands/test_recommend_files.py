"""Recommending for all sessions of a file, whatever its format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from p_rnn.commands import recommend
from p_rnn.recommend import Recommender, load
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
