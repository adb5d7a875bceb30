"""Evaluate a checkpoint again: p-rnn evaluate checkpoint=.../best.pt split=test."""

from __future__ import annotations

import logging
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from p_rnn.commands.script import hydra_script
from p_rnn.evaluation.report import describe
from p_rnn.runs.comparison import evaluate_checkpoint
from p_rnn.runs.runtime import write_json
from p_rnn.settings.commands import EvaluateConfig

log = logging.getLogger(__name__)


@hydra_script("evaluate", EvaluateConfig)
def main(config: EvaluateConfig) -> None:
    """Evaluate a split with the protocol of the training run, or with the one given here."""
    results, settings = evaluate_checkpoint(config)
    stored = Path(HydraConfig.get().runtime.output_dir) / "evaluation.json"
    write_json(stored, {"checkpoint": config.checkpoint, "results": results})
    log.info("%s\n\nwritten: %s", describe(results, settings), stored)
