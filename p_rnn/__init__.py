"""Feature-rich session-based recommendation with parallel recurrent networks (p-RNN)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from p_rnn.api import (
        Config,
        Dataset,
        Recommender,
        Trained,
        UserError,
        component,
        load,
        load_checkpoint,
        load_config,
        resolve,
        train,
    )

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


def __getattr__(name: str) -> Any:
    """The public names, imported when first used: importing the package sets and costs nothing."""
    if name in __all__:
        return getattr(importlib.import_module("p_rnn.api"), name)
    raise AttributeError(f"module 'p_rnn' has no attribute '{name}'")
