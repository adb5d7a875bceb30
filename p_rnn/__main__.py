"""The command line: p-rnn <command> ..., python -m p_rnn <command> ..., scripts/<command>.py."""

from __future__ import annotations

import difflib
import importlib
import sys
from pathlib import Path

from p_rnn import __version__
from p_rnn.commands.one_speaks import one_speaks
from p_rnn.runs.process import prepare_process

COMMANDS = {
    "train": "train and evaluate a model, or a sweep of them with -m",
    "evaluate": "evaluate a checkpoint again",
    "recommend": "the best next items for sessions, by a checkpoint",
    "export": "vectors, ONNX or TensorBoard's projector, from a checkpoint",
    "prepare": "prepare a data set without training",
    "search": "random search over a space of settings",
    "study": "tune and run every model of a study",
    "report": "one table and pictures of many runs",
}


def main() -> None:
    """Run the command that the command line names, or list them."""
    program = _program()
    given = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if given in ("-h", "--help"):
        print(f"usage: {program} <command> ...\n\ncommands:")
        print(*(f"  {name:<11}{words}" for name, words in COMMANDS.items()), sep="\n")
        print(f"\n{program} <command> --help says what a command takes.")
    elif given in ("-V", "--version"):
        print(f"p-rnn {__version__}")
    elif given in COMMANDS:
        run(given, sys.argv[2:], f"{program} {given}")
    else:
        close = difflib.get_close_matches(given, COMMANDS, n=1, cutoff=0.5)
        hint = f"did you mean '{close[0]}'?" if close else f"{program} --help lists them"
        print(f"error: unknown command '{given}'; {hint}", file=sys.stderr)
        sys.exit(2)


def run_script(command: str) -> None:
    """Run a command from a script of its own, such as scripts/train.py."""
    run(command, sys.argv[1:], f"python {sys.argv[0]}")


def run(command: str, words: list[str], typed: str) -> None:
    """Run a command, the words that follow it, and the command as it was typed."""
    prepare_process()  # before PyTorch is imported, as the module of the command does
    with one_speaks(command, words) as words:
        sys.argv = [typed, *words]
        try:
            importlib.import_module(f"p_rnn.commands.{command}").main()
        except KeyboardInterrupt:  # before the command itself listens to it
            sys.exit(130)


def _program() -> str:
    """This program as it was typed."""
    name = Path(sys.argv[0]).name
    return "python -m p_rnn" if name == "__main__.py" else name.removesuffix(".exe")


if __name__ == "__main__":
    main()
