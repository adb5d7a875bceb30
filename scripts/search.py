"""Random search: python scripts/search.py --space network --trials 20 --name first key=value ..."""

from __future__ import annotations

import argparse
from pathlib import Path

from p_rnn.runs.process import prepare_process

prepare_process()

from p_rnn import printing  # noqa: E402
from p_rnn.runs.search import search  # noqa: E402
from p_rnn.runs.sweeps import finish  # noqa: E402
from p_rnn.settings.config import Config  # noqa: E402
from p_rnn.settings.hydra_glue import run_to_exit  # noqa: E402


def main() -> None:
    """Run the trials one after the other; the same command again goes on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", required=True, help="a file of conf/space, or a path")
    parser.add_argument("--trials", type=int, required=True)
    parser.add_argument("--name", required=True, help="of the folder below multirun/")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("overrides", nargs="*", help="as of scripts/train.py, for all trials")
    given = parser.parse_intermixed_args()
    printing.log_to_terminal()
    folder = Path("multirun") / given.name

    def job() -> bool:
        search(given.space, given.trials, folder, given.seed, given.overrides)
        return finish(folder, "trials")

    run_to_exit(job, Config)


if __name__ == "__main__":
    main()
