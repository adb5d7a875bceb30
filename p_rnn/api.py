"""What a notebook needs: a data set, training, what was trained; composed settings, checkpoints."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, overload

from p_rnn.data.frames import Dataset
from p_rnn.recommend import Recommender, load
from p_rnn.runs.experiment import run
from p_rnn.runs.locks import locked
from p_rnn.runs.trained import Trained
from p_rnn.settings.config import Config, Settings
from p_rnn.settings.errors import UserError
from p_rnn.settings.hydra_glue import load_config
from p_rnn.settings.resolve import resolve
from p_rnn.settings.sections import Component, component
from p_rnn.training.checkpoint import load_checkpoint

__all__ = [
    "Config",
    "Dataset",
    "Recommender",
    "Trained",
    "UserError",
    "component",
    "load",
    "load_checkpoint",
    "load_config",
    "resolve",
    "train",
]


@overload
def train(
    data: Dataset,
    model: str | Component = ...,
    *overrides: str,
    folder: Path | str | None = ...,
    **settings: Any,
) -> Trained: ...


@overload
def train(
    data: Config | Settings, place: Path | str | None = ..., /, *, folder: Path | str | None = ...
) -> Trained: ...


def train(
    data: Dataset | Config | Settings,
    model: Any = None,
    *overrides: str,
    folder: Path | str | None = None,
    **settings: Any,
) -> Trained:
    """Train a model on a data set, choose the best epoch on validation, and test it.

    Args:
        data: a `Dataset`; or all settings, made by `load_config`, and then the next argument is
            the folder of the run.
        model: an architecture or baseline ("id_only" if not given), or `component("parallel",
            feature_input="embedding")`.
        overrides: settings as on the command line, such as "loss.bpreg=0.5".
        folder: of the run: metrics.json, checkpoints, TensorBoard data. None: a new one,
            outputs/<dataset>/<model>-<strategy>/<time>.
        settings: all others under their own names (docs/settings.md): hidden_size=50,
            loss="bpr_max", strategy="residual", evaluation={"cutoffs": [20]}; see `load_config`.

    Raises:
        UserError: an unknown setting, one without effect, or data that do not fit.

    >>> from p_rnn import Dataset, train
    >>> world = {"num_events": 3000, "num_items": 200}
    >>> data = Dataset.from_name("synthetic", "paths.prepared=prepared", synthetic=world)
    >>> trained = train(
    ...     data,
    ...     "parallel",
    ...     selected_features=["category"],
    ...     hidden_size=16,
    ...     num_negatives=32,
    ...     num_epochs=2,
    ...     evaluation={"cutoffs": [20]},
    ...     tracking={"progress": False},
    ...     folder="outputs/doctest",
    ... )
    >>> 0 < trained.metrics["test"]["recall@20"] < 1
    True
    >>> trained.history["epoch"].tolist()
    [1, 2]
    >>> trained.hidden_states([data.item_ids[:3], data.item_ids[5:6]])["category"].shape
    (2, 16)
    >>> trained.checkpoint.as_posix()
    'outputs/doctest/checkpoints/best.pt'
    """
    config: Config | Settings
    if isinstance(data, Dataset):
        config = _config(data, model, overrides, settings)
    elif isinstance(data, Config | Settings):
        if overrides or settings or (folder is not None and model is not None):
            raise UserError(
                "settings beside a Config have no effect: give them to load_config, or train a "
                "Dataset"
            )
        config, folder = data, folder if model is None else model
    else:
        raise UserError(
            f"the first argument must be a Dataset or a Config, not {type(data).__name__}: see "
            "Dataset.from_frame and Dataset.from_name"
        )
    place = Path(folder) if folder is not None else _new_folder(config)
    with locked(place):
        return Trained(run(config, place), data)


def _config(
    data: Dataset, model: Any, overrides: tuple[str, ...], settings: dict[str, Any]
) -> Config:
    """All settings of a run on a data set that is there."""
    given = [*settings, *(word.lstrip("+~").partition("=")[0] for word in overrides)]
    for key in given:
        if key.partition(".")[0] in ("dataset", "paths"):
            raise UserError(
                f"{key} has no effect beside a Dataset; give it to from_frame or from_name"
            )
    named = {"model": "id_only" if model is None else model}
    config = load_config(*overrides, **named, **settings)
    config.dataset, config.paths = data.config, data.paths
    return config


def _new_folder(config: Config | Settings) -> Path:
    model = f"{config.model.name}-{config.strategy.name}"
    now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    return Path("outputs") / config.dataset.name / model / now
