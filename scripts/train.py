"""Train and evaluate a model: python scripts/train.py [group=choice] [key=value] [-m key=a,b]."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from p_rnn.cli import hydra_script
from p_rnn.config import Config
from p_rnn.errors import UserError
from p_rnn.experiment import train
from p_rnn.resolve import resolve
from p_rnn.stored import from_dict, refuse_difference

log = logging.getLogger(__name__)


@hydra_script("train", Config)
def main(config: Config) -> float:
    """Run one job; the metric that a sweeper optimises (higher is better)."""
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    stored = folder / "metrics.json"
    if config.sweep_name is not None and hydra.mode == RunMode.RUN:
        raise UserError("sweep_name has no effect without -m (a sweep); leave it out")
    if stored.exists():
        metrics = json.loads(stored.read_text())
        refuse_difference(str(stored), from_dict(metrics["config"]), resolve(config))
        log.info("finished before: %s", stored)
    else:
        log.info("run folder: %s", folder)
        last = folder / "checkpoints" / "last.pt"
        if last.exists() and config.resume is None:  # a job of a sweep that was interrupted
            config = replace(config, resume=str(last))
        metrics = train(config, folder)
        log.info("run folder: %s", folder)
    measured = metrics.get("valid", metrics["test"])
    metric = metrics["config"]["early_stopping"]["metric"]
    return float(measured[metric or next(iter(measured))])


if __name__ == "__main__":
    main()
