"""Measure speed and memory: python scripts/benchmark part=training [rounds=5] [seconds=1]."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import ExitStack
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # so that this folder is a package

# Environment of the workers. Only one runs at a time, so none has to spin less to spare the others
# (p_rnn/runs/process.py): this is OpenMP's default spin count. Large pages are as in a run of
# scripts/train.py.
ENVIRONMENT = dict(os.environ)
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(ENVIRONMENT):
    ENVIRONMENT["GOMP_SPINCOUNT"] = "300000"
ENVIRONMENT.setdefault("THP_MEM_ALLOC_ENABLE", "1")

from hydra.core.hydra_config import HydraConfig  # noqa: E402

from benchmark.config import BenchmarkConfig, check, chosen, grid_of  # noqa: E402
from benchmark.groups import GROUPS, Plan  # noqa: E402
from benchmark.measure import GroupResult, Measurement, measure  # noqa: E402
from benchmark.plain.serving import Spec  # noqa: E402
from benchmark.report import draw, lines_of, machine, markdown, summary, write_csv  # noqa: E402
from p_rnn.commands.script import hydra_script  # noqa: E402
from p_rnn.runs.runtime import use_device  # noqa: E402
from p_rnn.settings.errors import UserError  # noqa: E402

log = logging.getLogger(__name__)


@hydra_script("benchmark", BenchmarkConfig)
def main(config: BenchmarkConfig) -> None:
    """Print each figure as soon as it is measured; the files hold all figures so far."""
    check(config)
    folder = Path(HydraConfig.get().runtime.output_dir)
    device = use_device(config.device, config.threads).type
    base = Spec("training", config.seconds, num_items=0, device=device, threads=config.threads)
    rows: list[Measurement] = []
    with ExitStack() as stack:
        for part in chosen(config):
            for group in GROUPS[part](Plan(grid_of(config, part, device), base, stack)):
                measured = measure(group, config.rounds, ENVIRONMENT)
                rows += measured.rows()
                report(measured, rows, folder)
    if not rows:
        raise UserError("no contender could be measured")
    for line in summary(rows):
        log.info("%s", line)
    pictures = draw(rows, folder)
    if not pictures:
        log.info("no picture: it needs matplotlib (pip install -e '.[report]')")
    for path in (folder / "results.csv", folder / "results.md", *pictures):
        log.info("written: %s", path)


def report(measured: GroupResult, rows: list[Measurement], folder: Path) -> None:
    """Print the results of a group, and rewrite all files."""
    for line in lines_of(list(measured.rows())):
        log.info("%s", line)
    write_csv(rows, folder / "results.csv")
    (folder / "results.md").write_text(markdown(rows, machine(measured.about)))
    if measured.traces:
        with (folder / "errors.txt").open("a") as file:
            file.write("\n".join(measured.traces))


if __name__ == "__main__":
    main()
