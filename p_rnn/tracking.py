"""TensorBoard event files and progress bars of a run."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import (
    HParamsPluginData,
    SessionEndInfo,
    SessionStartInfo,
)
from tqdm import tqdm

from p_rnn import distributed
from p_rnn.event_file import EventFile
from p_rnn.settings.config import Config, Settings
from p_rnn.settings.sections import TrackingConfig
from p_rnn.settings.tree import leaves

REDRAW_S = 0.5  # seconds between redraws of a bar
HParam = bool | str | float | int
# Settings that HParams shows of a single run, which varies none: as many as there is room for.
SHOWN = ("model", "strategy", "loss", "learning_rate", "num_layers")


class Tracker:
    """Writes TensorBoard events into the folder of one run.

    The file is created with the first point, so a job that is refused earlier leaves none.
    """

    def __init__(self, folder: Path, settings: TrackingConfig) -> None:
        self.folder = folder
        self.settings = settings
        self._writer: EventFile | None = None

    @property
    def writer(self) -> EventFile | None:
        """The event file, created on first use; None with tracking.tensorboard=false."""
        if self._writer is None and self.settings.tensorboard and distributed.writes():
            self._writer = EventFile(self.folder)
        return self._writer

    def scalar(self, name: str, value: float, step: int) -> None:
        """Add a point to a curve."""
        if self.writer is not None:
            point = Summary.Value(tag=name, simple_value=value)
            self.writer.add(Summary(value=[point]), step)

    def hyperparameters(
        self,
        config: Settings,
        metrics: Mapping[str, float],
        epochs: int,
        varied: Mapping[str, HParam] | None = None,
    ) -> None:
        """Write settings and final metrics for TensorBoard's HParams page.

        The page initially shows five settings, those marked as differing first, and the first five
        metrics. It takes the definition of the columns from any one job below --logdir, so all jobs
        of a sweep write the same definition.

        HParams reads a metric from the last point of a curve. The final metrics are therefore
        written as horizontal lines over the epochs of the run, which also shows in the learning
        curves where it ended; a single point would be an empty chart.

        Args:
            metrics: {"test/recall@20": value}, in the order of the columns.
            epochs: the last epoch of the run; 0 for models that only count.
            varied: the settings that the sweep varies, which become the only columns; for a single
                run all settings are columns, of which the most informative are shown.
        """
        if self.writer is None:
            return
        flat = flat_hyperparameters(config)
        columns = dict(varied) if varied else flat
        shown = columns if varied else SHOWN
        experiment = api_pb2.Experiment(
            hparam_infos=[
                api_pb2.HParamInfo(name=name, type=_type_of(value), differs=name in shown)
                for name, value in columns.items()
            ],
            metric_infos=[
                api_pb2.MetricInfo(
                    name=api_pb2.MetricName(tag=f"final/{name}"),
                    display_name=name.replace("/", " "),
                )
                for name in metrics
            ],
        )
        start = SessionStartInfo(group_name=trial_name(varied or {}, self.folder))
        for name, value in {**flat, **columns}.items():
            kind = {bool: "bool_value", str: "string_value"}.get(type(value), "number_value")
            setattr(start.hparams[name], kind, value)
        # Into the run's own file, because add_hparams would create a second run.
        for tag, content in (
            (metadata.EXPERIMENT_TAG, HParamsPluginData(experiment=experiment)),
            (metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=start)),
            (
                metadata.SESSION_END_INFO_TAG,
                HParamsPluginData(session_end_info=SessionEndInfo(status=api_pb2.STATUS_SUCCESS)),
            ),
        ):
            about = metadata.create_summary_metadata(content)
            self.writer.add(Summary(value=[Summary.Value(tag=tag, metadata=about)]))
        for name, value in metrics.items():
            for step in (0, max(epochs, 1)):
                self.scalar(f"final/{name}", value, step)

    @property
    def _shows_progress(self) -> bool:
        return self.settings.progress and redraws() and distributed.writes()

    def bar(self, total: int, unit: str, text: str) -> tqdm[Any]:
        """A progress bar; silent with tracking.progress=false, and in a log file."""
        off = not self._shows_progress
        return tqdm(
            total=total,
            unit=unit,
            desc=text,
            disable=off,
            mininterval=REDRAW_S,
            unit_scale=True,
            leave=False,
        )

    @contextlib.contextmanager
    def saying(self, text: str) -> Iterator[None]:
        """Show a text in the terminal, instead of a bar, during a long operation."""
        off = not self._shows_progress
        with tqdm(total=0, desc=text, bar_format="{desc}", disable=off, leave=False):
            yield

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def redraws() -> bool:
    """Whether lines of standard error can be redrawn: it is a terminal or a notebook, no file."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def flat_hyperparameters(config: Settings) -> dict[str, HParam]:
    """The settings that runs are compared by; null becomes the string "null"."""
    flat: dict[str, Any] = {"dataset": config.dataset.name, "model": config.model.name}
    for key, value, known in leaves(config):
        if known["role"] in ("model", "training") and key not in ("model.name", "strategy.name"):
            flat[key.removesuffix(".name")] = value
    flat["strategy"] = config.strategy.name
    return {key: _plain(value) for key, value in flat.items()}


def trial_name(varied: Mapping[str, HParam], folder: Path) -> str:
    """The name of a run in HParams: the varied values first, because the column truncates names.

    The folder makes names unique; runs of equal names would be averaged. Empty if nothing is
    varied, for which HParams shows the path of the run.
    """
    values = ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in varied.values())
    return f"{values} ({folder.parent.name}/{folder.name})" if varied else ""


def varied_hyperparameters(
    keys: Sequence[str], config: Settings, given: Config | Settings
) -> dict[str, HParam]:
    """The values of the settings that a sweep varies; a group such as `loss` by its name.

    Args:
        keys: as on the command line. Keys that are not settings, such as experiment, are left out,
            because it is not known what they set.
        config: the resolved settings; `given`: as given, for settings that only set others.
    """
    runs, before = ({key: value for key, value, _ in leaves(node)} for node in (config, given))
    found = {}
    for key in keys:
        for name in (key, f"{key}.name"):
            if name in runs or name in before:
                found[key] = _plain(before.get(name) if runs.get(name) is None else runs[name])
                break
    return found


def _plain(value: Any) -> HParam:
    # HParams fixes a column's type from one run: numbers stay numbers, null becomes a word.
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "null" if value is None else value if isinstance(value, HParam) else str(value)


def _type_of(value: HParam) -> Any:
    """HParams' data type of a column."""
    if isinstance(value, bool):
        return api_pb2.DATA_TYPE_BOOL
    return api_pb2.DATA_TYPE_STRING if isinstance(value, str) else api_pb2.DATA_TYPE_FLOAT64
