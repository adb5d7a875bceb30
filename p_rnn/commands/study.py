"""The whole table of a data set: tune every model with the same number of trials, then run it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from p_rnn import printing
from p_rnn.commands.script import run_to_exit
from p_rnn.runs.study import StudyConfig, read_study, run_study


def main() -> None:
    """Tune and run every model; repeating the command skips what is finished."""
    parser = argparse.ArgumentParser(
        prog=sys.argv[0],
        description=__doc__,
        epilog=f"example: {sys.argv[0]} retailrocket_week --name first num_threads=2",
    )
    parser.add_argument("study", help="a file of conf/study, or a path")
    parser.add_argument("--name", help="of the folder below multirun/ (default: the study's)")
    parser.add_argument("--rows", type=lambda text: text.split(","), help="only these, as a,b")
    parser.add_argument("--report", action="store_true", help="run nothing, only report")
    parser.add_argument("--against", help="test all rows against this (default: the study's)")
    parser.add_argument("overrides", nargs="*", help="overrides as for p-rnn train, for all runs")
    given = parser.parse_intermixed_args()
    printing.log_to_terminal()
    folder = Path("multirun") / (given.name or Path(given.study).stem)
    if given.report and (given.rows or given.overrides):
        parser.error("--report runs nothing: it takes neither --rows nor settings")
    rows = [] if given.report else given.rows

    def job() -> bool:
        study = read_study(given.study)
        return run_study(study, folder, rows, given.against, given.overrides)

    run_to_exit(job, StudyConfig)
