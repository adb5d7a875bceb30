"""The settings of scripts/benchmark, and the default grid of each part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Optional

from p_rnn.settings.declare import choice, number
from p_rnn.settings.errors import UserError
from p_rnn.settings.registry import lookup, suggest
from p_rnn.settings.tree import check_ranges

# ruff: noqa: UP045  (as in p_rnn/settings/config.py)


@dataclass
class Grid:
    """Every combination is measured; null: the default of the part."""

    batch_sizes: Optional[list[int]] = None
    num_negatives: Optional[list[int]] = None
    hidden_sizes: Optional[list[int]] = None
    num_items: Optional[list[int]] = None
    losses: Optional[list[str]] = None
    compile: Optional[list[str]] = None  # never, always, products, graph, auto
    events: Optional[list[int]] = None  # in the memory test of evaluation, and in preparation


@dataclass
class BenchmarkConfig(Grid):
    """scripts/benchmark"""

    part: str = choice(
        "training",
        "training",
        "architectures",
        "outputs",
        "catalogue",
        "denormals",
        "evaluation",
        "preparation",
        "recommend",
        "all",
    )
    rounds: int = number(5, low=1)
    seconds: float = number(1.0, above=0)  # approximate time of a measurement
    threads: Optional[int] = number(None, low=1)  # null: PyTorch's default
    device: str = "auto"
    out: str = "outputs/benchmark"  # folder


LOSSES = ("cross_entropy", "bpr_max", "top1", "top1_max", "bpr")
MODES = {
    "never": "plain",
    "always": "fast",
    "products": "products",
    "graph": "graph",
    "auto": "auto",
}
LOWEST = {"num_negatives": 0, "num_items": 10, "events": 10_000}  # of the others 1
STEP: dict[str, list[Any]] = {
    "batch_sizes": [128],
    "num_negatives": [2048],
    "hidden_sizes": [100],
    "num_items": [20_000],
    "losses": ["cross_entropy", "bpr_max"],
    "compile": ["never", "always"],
}
PARTS: dict[str, dict[str, list[Any]]] = {
    "training": {**STEP, "batch_sizes": [32, 128, 512], "num_negatives": [0, 2048]},
    "architectures": {**STEP, "losses": ["bpr_max"]},
    "outputs": {
        **STEP,
        "batch_sizes": [64, 256],
        "num_negatives": [0, 2048],
        "compile": ["always"],
    },
    "catalogue": {**STEP, "num_items": [20_000, 200_000, 1_000_000]},
    "denormals": {**STEP, "batch_sizes": [512], "losses": ["cross_entropy"]},
    "evaluation": {
        "hidden_sizes": [100],
        "num_items": [20_000, 200_000, 1_000_000],
        "events": [10_000, 1_000_000],
    },
    "preparation": {"num_items": [50_000], "events": [2_000_000]},
    "recommend": {"batch_sizes": [1, 256], "hidden_sizes": [100], "num_items": [100_000]},
}


def check(config: BenchmarkConfig) -> None:
    """Refuse values out of range, and lists that no chosen part reads.

    Raises:
        UserError: the first offending key.
    """
    check_ranges(config)
    parts = chosen(config)
    for f in fields(Grid):
        values = getattr(config, f.name)
        if values is None:
            continue
        if not any(f.name in PARTS[part] for part in parts):
            raise UserError(f"{f.name} has no effect with part={config.part}; leave it out")
        if not values or len(set(values)) < len(values):
            raise UserError(f"{f.name}={values} must name one value or more, each once")
        for value in values:
            if f.name == "losses":
                lookup("loss", dict.fromkeys(LOSSES, 0), value)
            elif f.name == "compile":
                if value not in MODES:
                    raise UserError(f"compile='{value}' is not a choice{suggest(value, MODES)}")
            elif value < LOWEST.get(f.name, 1):
                raise UserError(f"{f.name}={value} must be at least {LOWEST.get(f.name, 1)}")


def chosen(config: BenchmarkConfig) -> list[str]:
    return list(PARTS) if config.part == "all" else [config.part]


def grid_of(config: BenchmarkConfig, part: str, device: str) -> Mapping[str, list[Any]]:
    """The grid of a part: its defaults where no values are given."""
    own = dict(PARTS[part])
    if "compile" in own and device == "cuda":
        own["compile"] = ["never", "graph", "always"]
    given = {key: getattr(config, key) for key in own if getattr(config, key) is not None}
    return {**own, **given}
