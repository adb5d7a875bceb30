"""Search in a space of settings, at random or by TPE; the best trial on validation wins."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from p_rnn import printing
from p_rnn.commands.script import run_to_exit
from p_rnn.runs import search, tpe
from p_rnn.runs.sweeps import finish
from p_rnn.settings.config import Config


def main() -> None:
    """Run the trials one after another; repeating the command continues an interrupted search."""
    parser = argparse.ArgumentParser(
        prog=sys.argv[0],
        description=__doc__,
        epilog=f"example: {sys.argv[0]} --space network --trials 20 --name first model=parallel",
    )
    parser.add_argument("--space", required=True, help="a file of conf/space, or a path")
    parser.add_argument("--trials", type=int, required=True)
    parser.add_argument("--name", required=True, help="name of the folder below multirun/")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draws")
    parser.add_argument(
        "--sampler",
        choices=["random", "tpe"],
        default="random",
        help="tpe: Optuna's (extra sweep), which learns from earlier trials and prunes bad ones",
    )
    parser.add_argument("--no-prune", action="store_true", help="tpe: run every trial to its end")
    parser.add_argument("overrides", nargs="*", help="overrides as for p-rnn train, for all trials")
    given = parser.parse_intermixed_args()
    printing.log_to_terminal()
    folder = Path("multirun") / given.name

    def job() -> bool:
        asked = (given.space, given.trials, folder, given.seed, given.overrides)
        if given.sampler == "tpe":
            tpe.search(*asked, prune=not given.no_prune)
        else:
            search.search(*asked)
        return finish(folder, "trials")

    run_to_exit(job, Config)
