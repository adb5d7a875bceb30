"""A person clicks through a session in the terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from p_rnn.recommend import Recommender, load
from p_rnn.recommend.terminal import Terminal
from p_rnn.runs.experiment import train
from p_rnn.settings.hydra_glue import load_config
from tests.commands.conftest import COLD, Run, rows_of
from tests.conftest import TINY, random_log


class Person:
    """Types lines, and remembers what is shown."""

    def __init__(self, model: Recommender, lines: list[str]) -> None:
        self.lines, self.shown = iter(lines), list[str]()
        self.terminal = Terminal(model, {"k": 3}, self.shown.append)
        self.terminal.run(self.ask)

    def ask(self, _: str) -> str:
        line = next(self.lines, None)
        if line is None:
            raise EOFError
        return line


def test_a_person_clicks_through_a_session(shop: Path) -> None:
    model = load(shop / "network.pt", "cpu")
    first = model.recommend([], 3).ids
    second = model.recommend(first[1:2], 3).ids
    lines = ["2", "", "nope", COLD, "=002", "back", "1", "?"]
    person = Person(model, lines)
    assert person.terminal._session.history == [first[1], second[0]]
    lists = [rows_of(text) for text in person.shown if text.startswith("rank")]
    clicked = [[], first[1:2], [first[1], "002"], first[1:2], [first[1], second[0]]]
    expected = [model.recommend(session, 3).ids for session in clicked]
    assert [[row[1] for row in rows] for rows in lists] == expected
    said = "\n".join(person.shown)
    assert "the item 'nope' is unknown" in said
    assert f"the item '{COLD}' is known, but the model cannot read it" in said
    assert said.count("undo the last click") == 2
    again = Person(model, ["1", "new", "back", "q", "1"])
    assert again.terminal._session.history == []
    assert "there is no click to undo" in again.shown


def test_numbers_are_of_the_list_unless_they_are_marked(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    random_log(seed=1).to_csv(tmp_path / "raw" / "tiny.csv", index=False)
    paths = (f"paths.raw={tmp_path / 'raw'}", f"paths.prepared={tmp_path / 'prepared'}")
    train(load_config(*TINY, *paths), tmp_path / "run")
    model = load(tmp_path / "run" / "checkpoints" / "best.pt", "cpu")
    first = model.recommend([], 3).ids
    person = Person(model, ["3", "=3", "29"])
    assert person.terminal._session.history == [first[2], 3, 29]


def test_input_that_is_piped_and_ctrl_c(
    shop: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(_: str) -> str:
        raise KeyboardInterrupt

    words = (f"checkpoint={shop / 'network.pt'}", "interactive=true", "k=2")
    lines = iter(["1", "q"])
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    status, out, err = run(*words)
    assert (status, err) == (0, "")
    assert out.count("rank  item") == 2
    monkeypatch.setattr("builtins.input", pressed)
    status, _, err = run(*words)
    assert (status, err) == (130, "\ninterrupted\n")
