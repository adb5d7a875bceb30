"""Export a checkpoint for other programs: p-rnn export checkpoint=.../best.pt output=folder."""

from __future__ import annotations

from p_rnn.commands.script import plain_script
from p_rnn.recommend import load
from p_rnn.recommend.export import check_export, export
from p_rnn.settings.commands import ExportConfig

PATHS = ("checkpoint", "output", "prepared")


@plain_script("export", ExportConfig, paths=PATHS)
def main(config: ExportConfig) -> None:
    """Write vectors, ONNX or the embedding projector to a folder."""
    how = (config.output, config.formats, config.max_items, config.overwrite)
    check_export(*how)
    model = load(config.checkpoint, "cpu", config.num_threads, config.prepared)
    folder = export(model, *how, checkpoint=config.checkpoint)
    print(f"\nexported: {folder}")
