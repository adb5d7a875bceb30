"""Steps on a GPU over a grid (gpu_check.sh): scripts/benchmark/gpu_grid.py [--out folder]."""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

sys.path[0] = str(Path(__file__).resolve().parents[1])  # so that this folder is a package

from benchmark.plain.serving import Spec  # noqa: E402
from benchmark.worker import TrainingWork  # noqa: E402

MODES = {"never": "plain", "always": "compiled", "graph": "graph"}
HEAD = (
    "model",
    "strategy",
    "items",
    "negatives",
    "B",
    "step",
    "mini-batches/s",
    "events/s",
    "GPU busy",
    "MiB",
)


def grid(device: str) -> Iterator[Spec]:
    """The most informative cells first, because time may run out."""
    base = Spec("training", 0.5, 20_000, device=device)
    sizes = [
        (128, 2048),
        (32, 2048),
        (512, 2048),
        (128, 0),
        (32, 0),
        (512, 0),
        (128, 8192),
        (32, 8192),
        (512, 8192),
    ]
    for items, (batch, negatives) in itertools.product((20_000, 1_000_000), sizes):
        for mode in MODES:
            yield replace(
                base, num_items=items, batch_size=batch, num_negatives=negatives, compile=mode
            )
    for strategy, mode in itertools.product(("simultaneous", "alternating", "interleaving"), MODES):
        yield replace(
            base,
            model="parallel",
            strategy=strategy,
            batch_size=128,
            num_negatives=2048,
            compile=mode,
        )


def measure(spec: Spec) -> list[Any]:
    """A row of the table."""
    made = TrainingWork(spec)
    torch.cuda.reset_peak_memory_stats()
    busy: list[int] = []
    answer = made.measure(spec.seconds)
    try:
        busy.append(torch.cuda.utilization())  # over the last second, if the driver reports it
    except Exception:  # the driver's library for that is missing
        busy = []
    events = answer["work"] / answer["seconds"]
    route = made.trainer.fast.route
    step = MODES[spec.compile] + ("" if route == spec.compile else f" (ran {route})")
    memory = torch.cuda.max_memory_allocated() / 2**20
    share = f"{busy[0]} %" if busy else "?"
    labels = [spec.model, spec.strategy, spec.num_items, spec.num_negatives, spec.batch_size, step]
    steps = events / spec.batch_size
    return [*labels, f"{steps:,.0f}", f"{events:,.0f}", share, f"{memory:,.0f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("outputs/gpu_check"))
    parser.add_argument("--seconds", type=float, default=300)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    name, started = torch.cuda.get_device_name(), time.monotonic()
    lines = [
        f"# {name}, PyTorch {torch.__version__}",
        "",
        f"| {' | '.join(HEAD)} |",
        "|" + " --- |" * len(HEAD),
    ]
    left_out = 0
    for spec in grid("cuda"):
        if time.monotonic() - started > arguments.seconds:
            left_out += 1
            continue
        try:
            row = measure(spec)
        except Exception as error:  # a cell that fails must not stop the others
            reason = (str(error).splitlines() or [type(error).__name__])[0][:80]
            row = [
                spec.model,
                spec.strategy,
                spec.num_items,
                spec.num_negatives,
                spec.batch_size,
                MODES[spec.compile],
                f"failed: {reason}",
                "",
                "",
                "",
            ]
        lines.append(f"| {' | '.join(map(str, row))} |")
        print(lines[-1], flush=True)
        # Written after each row, so that an interrupted run keeps its results.
        (arguments.out / "gpu_check.md").write_text("\n".join(lines) + "\n")
    if left_out:
        lines += ["", f"{left_out} cells were left out: time ran out."]
        (arguments.out / "gpu_check.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
