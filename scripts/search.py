"""Random search: python scripts/search.py --space network --trials 20 --name first key=value ..."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from p_rnn.cli import MENDABLE, one_line
from p_rnn.config import Config
from p_rnn.search import search
from p_rnn.sweeps import finish


def main() -> None:
    """Run the trials one after the other; the same command again goes on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", required=True, help="a file of conf/space, or a path")
    parser.add_argument("--trials", type=int, required=True)
    parser.add_argument("--name", required=True, help="of the folder below multirun/")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("overrides", nargs="*", help="as of scripts/train.py, for all trials")
    given = parser.parse_intermixed_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        folder = Path("multirun") / given.name
        search(given.space, given.trials, folder, given.seed, given.overrides)
        failed = finish(folder, "trials")
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        sys.exit(130)
    except MENDABLE as error:
        print(f"error: {one_line(error, Config)}", file=sys.stderr)
        sys.exit(2)
    sys.exit(2 if failed else 0)


if __name__ == "__main__":
    main()
