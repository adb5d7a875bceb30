"""Which errors of a command are one line, and which are bugs with a traceback."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from p_rnn.commands.script import plain_script
from p_rnn.settings.commands import RecommendConfig
from p_rnn.settings.errors import UserError
from tests.running import ROOT


def failing(error: Exception) -> Callable[[], None]:
    def main(config: RecommendConfig) -> None:
        raise error

    return plain_script("recommend", RecommendConfig)(main)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UserError("no such item"), "error: no such item"),
        (MemoryError(), "error: out of memory"),
        (RecursionError(), "error: the settings refer to themselves"),
    ],
)
def test_a_person_can_mend_them(
    error: Exception,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["p-rnn recommend", "checkpoint=best.pt"])
    with pytest.raises(SystemExit) as ended:
        failing(error)()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith(words)
    assert said.count("\n") == 1


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["p-rnn recommend", "checkpoint=best.pt"])
    with pytest.raises(ZeroDivisionError):
        failing(ZeroDivisionError())()


def test_a_reader_that_has_enough_is_no_error() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), "--cfg", "job"]
    piped = subprocess.PIPE
    with subprocess.Popen(command, stdout=piped, stderr=piped, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()  # as `| head` does, but surely before the first line
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 0
