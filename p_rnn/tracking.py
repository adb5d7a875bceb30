"""What a run leaves behind besides its result: TensorBoard events and progress bars."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams
from tqdm import tqdm

from p_rnn.settings.config import Settings, TrackingConfig
from p_rnn.settings.tree import leaves

# Seconds between redraws of a bar: in a terminal, and in a log file, where each is a line.
REDRAW_S = {True: 0.5, False: 30.0}


class Tracker:
    """Writes into the folder of one run, from the first point on.

    A job that is refused before it learns anything leaves no events file.
    """

    def __init__(self, folder: Path, settings: TrackingConfig) -> None:
        self.folder = folder
        self.settings = settings
        self._writer: SummaryWriter | None = None

    @property
    def writer(self) -> SummaryWriter | None:
        """None with tracking.tensorboard=false."""
        if self._writer is None and self.settings.tensorboard:
            self._writer = SummaryWriter(str(self.folder))
        return self._writer

    def scalar(self, name: str, value: float, step: int) -> None:
        """One point of a curve."""
        if self.writer is not None:
            self.writer.add_scalar(name, value, step)

    def hyperparameters(self, config: Settings, metrics: dict[str, float]) -> None:
        """Settings and final metrics for TensorBoard's HParams table.

        The three summaries go through the run's own writer (add_hparams would start a second
        run), with the same flat keys in every run, so that a sweep is one table.
        """
        if self.writer is None:
            return
        flat = flat_hyperparameters(config)
        writer = self.writer._get_file_writer()  # type: ignore[no-untyped-call]
        final = {f"final/{name}": value for name, value in metrics.items()}
        for summary in hparams(flat, final):  # type: ignore[no-untyped-call]
            writer.add_summary(summary)
        for name, value in final.items():
            self.writer.add_scalar(name, value, 0)

    def bar(self, total: int, unit: str, text: str) -> tqdm[Any]:
        """A progress bar; silent with tracking.progress=false."""
        redraw = REDRAW_S[sys.stderr.isatty()]
        off = not self.settings.progress
        return tqdm(
            total=total,
            unit=unit,
            desc=text,
            disable=off,
            mininterval=redraw,
            unit_scale=True,
            leave=False,
        )

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def flat_hyperparameters(config: Settings) -> dict[str, bool | str | float | int]:
    """The settings that runs are compared by; a null is written as the word."""
    flat: dict[str, Any] = {"dataset": config.dataset.name, "model": config.model.name}
    for key, value, known in leaves(config):
        if known["role"] in ("model", "training") and key not in ("model.name", "strategy.name"):
            flat[key.removesuffix(".name")] = value
    flat["strategy"] = config.strategy.name
    # HParams fixes a column's type from its first run: numbers stay numbers, null becomes "null".
    words = {key: ",".join(map(str, v)) if isinstance(v, list) else v for key, v in flat.items()}
    return {key: "null" if value is None else value for key, value in words.items()}
