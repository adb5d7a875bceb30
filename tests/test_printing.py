"""Tables of text in a terminal, in Markdown and in LaTeX."""

from __future__ import annotations

import logging

import pytest

from p_rnn import printing

FRAME = printing.table(
    ["model", "note", "events", "share"],
    [["id_only", "", "1,234", "0.5 ± 0.1 +"], ["pop", "as it was", "7", "0.75"]],
)


def test_text() -> None:
    assert printing.as_text(FRAME).splitlines() == [
        "model    note       events        share",
        "id_only              1,234  0.5 ± 0.1 +",
        "pop      as it was       7         0.75",
    ]
    # Closer together where that is enough.
    assert max(map(len, printing.as_text(FRAME, 36).splitlines())) == 36


def test_a_wide_table_is_folded() -> None:
    header = ["model", *(f"measure{k}" for k in range(12))]
    frame = printing.table(header, [[name, *["1.0"] * 12] for name in ("a", "b")])
    text = printing.as_text(frame)
    assert max(map(len, text.splitlines())) <= 80
    blocks = [block.splitlines() for block in text.split("\n\n")]
    assert len(blocks) == 2
    assert all([line.split()[0] for line in block] == ["model", "a", "b"] for block in blocks)
    assert " ".join(block[0].replace("model", "") for block in blocks).split() == header[1:]


def test_labels_without_room_are_numbered_and_wrapped() -> None:
    words = ", ".join(f"setting{k}={k}" for k in range(9))
    header = ["model", "settings", "a", "b"]
    frame = printing.table(header, [["some_name", words, "1", "2" * 40], ["pop", "", "3", "4"]])
    lines = printing.as_text(frame).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["#", "model", "settings", "a"]
    assert [line.split()[0] for line in lines if line and line[0].isdigit()] == list("1212")
    assert " ".join(" ".join(lines).split()).count("setting8=8") == 1


def test_messages_fit_a_terminal_and_errors_are_one_line() -> None:
    words = " ".join(["word"] * 30)
    path = "/".join(["folder"] * 20)
    for level, lines in ((logging.INFO, 2), (logging.WARNING, 2), (logging.ERROR, 1)):
        record = logging.LogRecord("x", level, "", 0, "%s", (words,), None)
        text = printing.Formatter("%(message)s").format(record)
        assert len(text.splitlines()) == lines
        assert " ".join(text.split()) == words
    record = logging.LogRecord("x", logging.INFO, "", 0, "one\n%s", (path,), None)
    assert printing.Formatter("%(message)s").format(record).split() == ["one", path]


def test_markdown() -> None:
    assert printing.as_markdown(FRAME).splitlines() == [
        "| model | note | events | share |",
        "| --- | --- | ---: | ---: |",
        "| id_only |  | 1,234 | 0.5 ± 0.1 + |",
        "| pop | as it was | 7 | 0.75 |",
    ]


def test_latex() -> None:
    lines = printing.as_latex(FRAME, "a_b, p < 0.05", ["events", "share"]).splitlines()
    assert r"\caption{a\_b, p $<$ 0.05}" in lines
    assert r"\begin{tabular}{llrr}" in lines
    assert r"id\_only &  & \textbf{1,234} & 0.5 $\pm$ 0.1 + \\" in lines
    assert r"pop & as it was & 7 & \textbf{0.75} \\" in lines


@pytest.mark.parametrize(
    ("cells", "number"),
    [
        (["0.1", ""], True),
        (["1/2", "3"], True),
        (["12 %", "-4"], True),
        (["0.1 (0.0–0.2)"], True),
        (["", ""], False),
        (["2020-01-01"], False),
        (["1x", "2"], False),
    ],
)
def test_columns_of_numbers(cells: list[str], number: bool) -> None:
    assert printing.is_number(printing.table(["x"], [[cell] for cell in cells])["x"]) is number
