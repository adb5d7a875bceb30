"""The whole table of a data set: python scripts/study.py retailrocket_week [key=value ...]."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from p_rnn.cli import MENDABLE, one_line
from p_rnn.study import StudyConfig, read_study, run_study


def main() -> None:
    """Tune and run every model; the same command again skips what is finished."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", help="a file of conf/study, or a path")
    parser.add_argument("--name", help="of the folder below multirun/ (the study's)")
    parser.add_argument("--rows", type=lambda text: text.split(","), help="only these, as a,b")
    parser.add_argument("--report", action="store_true", help="run nothing, report what there is")
    parser.add_argument("--against", help="test all rows against this one (the study's)")
    parser.add_argument("overrides", nargs="*", help="as of scripts/train.py, for all runs")
    given = parser.parse_intermixed_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        folder = Path("multirun") / (given.name or Path(given.study).stem)
        rows = [] if given.report else given.rows
        failed = run_study(read_study(given.study), folder, rows, given.against, given.overrides)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        sys.exit(130)
    except MENDABLE as error:
        print(f"error: {one_line(error, StudyConfig)}", file=sys.stderr)
        sys.exit(2)
    sys.exit(2 if failed else 0)


if __name__ == "__main__":
    main()
