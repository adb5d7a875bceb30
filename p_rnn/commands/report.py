"""A table and pictures of many runs: text, Markdown, CSV, LaTeX, tests of significance."""

from __future__ import annotations

import argparse
import datetime
import sys
from pathlib import Path

from p_rnn import printing
from p_rnn.commands.script import run_to_exit
from p_rnn.runs.report.write import write_report
from p_rnn.settings.config import Config


def numbers(text: str) -> list[int]:
    """Parse a list such as 5,20."""
    try:
        return [int(word) for word in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not a list such as 5,20") from error


def main() -> None:
    """Print the table, and write it and the pictures into a folder."""
    now = f"{datetime.datetime.now():%Y-%m-%d_%H-%M-%S}"
    parser = argparse.ArgumentParser(prog=sys.argv[0], description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders, or folders above them")
    parser.add_argument("--against", help="test all rows against this one: words of its label")
    parser.add_argument(
        "--cutoffs", type=numbers, metavar="K,K", help="of the metrics, as 5,20 (the largest)"
    )
    choose = "for each model and strategy, the settings that are best on validation"
    parser.add_argument("--best", action="store_true", help=choose)
    parser.add_argument("--out", type=Path, default=Path("outputs/report") / now)
    given = parser.parse_args()
    printing.log_to_terminal()

    def job() -> bool:
        text = write_report(given.runs, given.out, given.against, given.cutoffs, given.best)
        print(f"{text}\n\nwritten:\n{given.out}")
        return False

    run_to_exit(job, Config)
