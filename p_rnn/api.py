"""What a notebook needs: compose settings, run a job, read a checkpoint."""

from __future__ import annotations

from p_rnn.recommend import Recommender, load
from p_rnn.runs.experiment import train
from p_rnn.settings.config import Config
from p_rnn.settings.errors import UserError
from p_rnn.settings.hydra_glue import load_config
from p_rnn.settings.resolve import resolve
from p_rnn.settings.sections import component
from p_rnn.training.checkpoint import load_checkpoint

__all__ = [
    "Config",
    "Recommender",
    "UserError",
    "component",
    "load",
    "load_checkpoint",
    "load_config",
    "resolve",
    "train",
]
