"""Loads a checkpoint: alone where it is portable, otherwise with the prepared data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from p_rnn.baselines import make_baseline
from p_rnn.baselines.ranker import TrainingData
from p_rnn.data.catalogue import Catalogue, pack_sessions
from p_rnn.data.dataset import Dataset, Sessions
from p_rnn.models.architectures import build_network
from p_rnn.recommend.recommender import Recommender
from p_rnn.runs.runtime import checkpoint_at, use_device
from p_rnn.runs.saving import set_network
from p_rnn.runs.stored_items import catalogue_of, prepared_of
from p_rnn.settings.resolve import counts, load_plugins
from p_rnn.streams import Streams
from p_rnn.training.checkpoint import load_checkpoint

# The entries of a checkpoint about the data that its model was fitted to.
ORIGIN = ("dataset", "features", "num_items", "with_validation")


def load(
    path: Path | str,
    device: str = "auto",
    num_threads: int | None = None,
    prepared: Path | str | None = None,
) -> Recommender:
    """The recommender of a checkpoint, best.pt or final.pt of a run.

    Checkpoints of runs with portable=true, the default, need no other file. Others, last.pt and
    those of older versions need the prepared data set that they were trained on; nothing is read
    from raw files, and no file or folder is written.

    Args:
        path: of the file, or of the folder of a run: its final.pt, or else its best.pt.
        device: auto, cpu or cuda.
        num_threads: of the CPU; None: as they are.
        prepared: paths.prepared, where the data have moved since.

    Raises:
        UserError: no checkpoint, or the data that it needs are missing.
    """
    path = checkpoint_at(path)
    config, content = load_checkpoint(path, mmap=True)
    load_plugins(config.plugins or [])
    place = use_device(device, num_threads)
    dataset = prepared_of(path, config, content, prepared)
    catalogue = catalogue_of(content, dataset)
    origin = {key: content[key] for key in ORIGIN}
    if counts(config.model.name):
        training = _training(content, dataset, catalogue, place)
        origin["sessions"] = pack_sessions(training.sessions)
        return Recommender(config, catalogue, make_baseline(config, training), place, origin)
    streams = Streams(config.seed, place)
    network = build_network(config, content["num_items"], streams, catalogue.features)
    set_network(network, content)
    return Recommender(config, catalogue, network, place, origin)


def _training(
    content: dict[str, Any], dataset: Dataset | None, catalogue: Catalogue, device: torch.device
) -> TrainingData:
    """What a baseline counts again."""
    num_items = content["num_items"]
    if dataset is None:
        sessions = Sessions(**{part: x.numpy() for part, x in content["sessions"].items()})
    else:
        sessions, _ = dataset.training_sessions(content["with_validation"])
    support = catalogue.support[:num_items]
    return TrainingData(sessions, num_items, support, device, catalogue.features)
