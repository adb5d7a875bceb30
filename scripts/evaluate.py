"""Evaluate a checkpoint again: python scripts/evaluate.py checkpoint=.../best.pt split=test."""

from __future__ import annotations

import logging
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from p_rnn.runs.process import prepare_process

prepare_process()

from p_rnn.evaluation.report import describe  # noqa: E402
from p_rnn.runs.comparison import evaluate_checkpoint  # noqa: E402
from p_rnn.runs.runtime import write_json  # noqa: E402
from p_rnn.settings.config import EvaluateConfig  # noqa: E402
from p_rnn.settings.hydra_glue import hydra_script  # noqa: E402

log = logging.getLogger(__name__)


@hydra_script("evaluate", EvaluateConfig)
def main(config: EvaluateConfig) -> None:
    """Measure a split with the protocol of the training run, or with the one given here."""
    results, settings = evaluate_checkpoint(config)
    stored = Path(HydraConfig.get().runtime.output_dir) / "evaluation.json"
    write_json(stored, {"checkpoint": config.checkpoint, "results": results})
    log.info("%s\n\nwritten: %s", describe(results, settings), stored)


if __name__ == "__main__":
    main()
