"""Export a checkpoint for other programs: p-rnn export checkpoint=.../best.pt output=folder."""

from __future__ import annotations

import logging

from p_rnn.commands.script import hydra_script
from p_rnn.recommend import load
from p_rnn.recommend.export import check_export, export
from p_rnn.settings.config import ExportConfig
from p_rnn.settings.tree import check_ranges

log = logging.getLogger(__name__)


@hydra_script("export", ExportConfig)
def main(config: ExportConfig) -> None:
    """Write vectors, ONNX or the embedding projector to a folder."""
    check_ranges(config)
    how = (config.output, config.formats, config.max_items, config.overwrite)
    check_export(*how)
    model = load(config.checkpoint, "cpu", config.num_threads, config.prepared)
    folder = export(model, *how, checkpoint=config.checkpoint)
    log.info("\nexported: %s", folder)
