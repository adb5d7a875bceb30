"""Train and evaluate a model: p-rnn train [group=choice] [key=value] [-m key=a,b]."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from p_rnn import distributed
from p_rnn.commands.script import hydra_script
from p_rnn.runs.gpus import device_of_job
from p_rnn.runs.sweeps import objective, run_job, threads_of_job, varied_by
from p_rnn.settings.config import Config
from p_rnn.settings.errors import UserError


@hydra_script("train", Config)
def main(config: Config) -> float:
    """Run one job; return the metric that a sweeper optimises (higher is better)."""
    hydra = HydraConfig.get()
    if config.sweep_name is not None and hydra.mode == RunMode.RUN:
        raise UserError("sweep_name has no effect without -m (a sweep); leave it out")
    if config.num_threads is None and hydra.mode == RunMode.MULTIRUN:
        config = replace(config, num_threads=threads_of_job(hydra.launcher))
    if hydra.mode == RunMode.MULTIRUN:
        device = device_of_job(config.device, hydra.launcher, hydra.job.num)
        config = replace(config, device=device)
    varied = varied_by(hydra.sweeper) if hydra.mode == RunMode.MULTIRUN else []
    distributed.join(config)
    metrics = run_job(config, Path(distributed.agree(hydra.runtime.output_dir)), varied)
    distributed.leave()
    return objective(metrics)
