"""Tables, a CSV file and pictures of the measurements."""

from __future__ import annotations

import datetime
import importlib
import math
import os
import platform
import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.measure import Measurement
from p_rnn import printing

LABELS = (
    "model",
    "strategy",
    "output",
    "loss",
    "batch_size",
    "num_negatives",
    "hidden_size",
    "num_items",
    "events",
)
STATISTICS = ("median", "low", "high", "rounds")
TITLES = {
    "training": "Training step",
    "architectures": "Architectures and strategies",
    "outputs": "Rows of items from a bag of four tokens",
    "catalogue": "Size of the catalogue",
    "denormals": "Denormal numbers",
    "evaluation": "Evaluation",
    "preparation": "Preparation",
    "recommend": "Recommendations for live sessions",
}
# Metrics of the tables, and their titles.
METRICS = {
    "events_per_s": "Events/s",
    "targets_per_s": "Targets/s",
    "clicks_per_s": "Clicks with the best 20 items/s",
    "median_ms": "Time of a batch of clicks, median, ms",
    "p99_ms": "Time of a batch of clicks, 99th percentile, ms",
    "speed_to_textbook": "Speed, textbook = 1",
    "time_to_floor": "Time, matrix products alone = 1",
    "time_to_id_only": "Time of a mini-batch, id_only = 1",
    "speed_to_first_catalogue": "Speed, smallest catalogue = 1",
    "time_to_free": "Time of a mini-batch, free = 1",
    "time_to_ordinary": "Time, ordinary scores = 1",
    "recurrent_share": "Share of the recurrent part",
    "peak_mib": "Peak memory of the process, MiB",
    "grown_mib": "of which evaluation added, MiB",
}
# Okabe and Ito's colours, which colour-blind readers can distinguish; hatching is for print.
STYLES = [("#999999", ""), ("#E69F00", "//"), ("#0072B2", ""), ("#56B4E9", ".."), ("#009E73", "xx")]


def machine(about: dict[str, Any]) -> str:
    """One line about the machine that the figures were measured on, and the date.

    Args:
        about: versions and threads reported by a worker; empty if all failed.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = f"{about.get('threads', '?')} threads"
    others = [f"{name} {value}" for name, value in about.items() if name != "threads"]
    versions = f"Python {platform.python_version()}", platform.system()
    today = f"{datetime.date.today()}"
    return ", ".join([_cpu(), f"{cores} cores", threads, *others, *versions, today])


def _cpu() -> str:
    """The name of the processor, if the system reports it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def write_csv(rows: Iterable[Measurement], path: Path) -> None:
    """Write a line per contender and metric."""
    lines = [
        {
            "part": row.part,
            **{name: row.labels.get(name, "") for name in LABELS},
            "contender": row.contender,
            "metric": row.metric,
            **{name: f"{getattr(row, name):.6g}" for name in STATISTICS},
        }
        for row in rows
    ]
    pd.DataFrame(lines).to_csv(path, index=False)


def markdown(rows: Sequence[Measurement], header: str) -> str:
    """A section per part with a table per metric."""
    texts = [f"{header}\n"]
    for part in dict.fromkeys(row.part for row in rows):
        texts.append(f"## {TITLES[part]}\n\nMedian of the rounds (lowest to highest).\n")
        for metric in METRICS:
            found = [row for row in rows if (row.part, row.metric) == (part, metric)]
            if found:
                texts.append(f"{METRICS[metric]}:\n\n{table(found)}\n")
        if part == "training":
            texts += [f"{line}\n" for line in summary(rows)]
    return "\n".join(texts)


def lines_of(rows: Sequence[Measurement]) -> Iterator[str]:
    """Figures for a log: a line per contender."""
    for key, contender in dict.fromkeys((_key(row), row.contender) for row in rows):
        own = [row for row in rows if (_key(row), row.contender) == (key, contender)]
        labels = " ".join(f"{name}={value}" for name, value in key)
        figures = [f"{row.metric} {_cell(row)}" for row in own if row.metric in METRICS]
        yield f"{labels} {contender}: {'; '.join(figures)}"


def table(rows: Sequence[Measurement]) -> str:
    """A line per combination of labels, a column per contender."""
    names = [name for name in LABELS if any(name in row.labels for row in rows)]
    contenders = list(dict.fromkeys(row.contender for row in rows))
    cells = {(_key(row), row.contender): _cell(row) for row in rows}
    lines = []
    for key in dict.fromkeys(_key(row) for row in rows):
        labels = dict(key)
        lines.append(
            [_plain(labels.get(name, "")) for name in names]
            + [cells.get((key, contender), "–") for contender in contenders]
        )
    return printing.as_markdown(printing.table([*names, *contenders], lines))


def _key(row: Measurement) -> tuple[tuple[str, str | int], ...]:
    return tuple(row.labels.items())


def _plain(value: str | int) -> str:
    return f"{value:,}" if isinstance(value, int) else value


def _cell(row: Measurement) -> str:
    """The median with at least three digits, and the range with as many decimals."""
    digits = 0 if row.median >= 100 else 1 if row.median >= 10 else 2 if row.median >= 1 else 3
    median, low, high = (f"{x:,.{digits}f}" for x in (row.median, row.low, row.high))
    return median if row.rounds == 1 else f"{median} ({low}–{high})"


def summary(rows: Sequence[Measurement]) -> list[str]:
    """The training step: geometric mean speed over the textbook, and time relative to the floor."""
    lines = []
    mine = [row for row in rows if row.part == "training" and row.contender.startswith("p_rnn")]
    for contender in dict.fromkeys(row.contender for row in mine):
        for text, sampled in (("with", True), ("without", False)):
            speeds = [
                row.median
                for row in mine
                if (row.contender, row.metric) == (contender, "speed_to_textbook")
                and bool(row.labels["num_negatives"]) == sampled
            ]
            if speeds:
                mean = math.exp(statistics.fmean(map(math.log, speeds)))
                what = f"{contender} / textbook, {text} negatives"
                lines.append(f"{what}: {mean:.2f} (geometric mean of {len(speeds)})")
        times = [
            f"{row.median:.2f}"
            for row in mine
            if (row.contender, row.metric) == (contender, "time_to_floor")
        ]
        if times:
            lines.append(f"{contender}, time / floor by row: {', '.join(times)}")
    return lines


def draw(rows: Sequence[Measurement], folder: Path) -> list[Path]:
    """A picture per part with bars of events/s; none without matplotlib (extra `report`)."""
    try:
        matplotlib = importlib.import_module("matplotlib")
        matplotlib.use("Agg")
        pyplot = importlib.import_module("matplotlib.pyplot")
    except ImportError:
        return []
    written = []
    for part in dict.fromkeys(row.part for row in rows):
        found = [r for r in rows if r.part == part and r.metric.endswith("_per_s")]
        losses = list(dict.fromkeys(row.labels.get("loss", "") for row in found))
        figure, panels = pyplot.subplots(
            len(losses), squeeze=False, figsize=(8, 3.2 * len(losses)), layout="constrained"
        )
        for (panel,), loss in zip(panels, losses, strict=True):
            chosen = [row for row in found if row.labels.get("loss", "") == loss]
            _bars(panel, chosen)
            panel.set_ylabel(METRICS[chosen[0].metric])
            panel.set_title(str(loss), fontsize=10)
        figure.legend(
            *panels[0][0].get_legend_handles_labels(),
            loc="outside upper center",
            ncols=5,
            frameon=False,
        )
        path = folder / f"{part}.png"
        figure.savefig(path, dpi=200)
        pyplot.close(figure)
        written.append(path)
    return written


def _bars(panel: Any, rows: Sequence[Measurement]) -> None:
    """Bars grouped by the labels that vary, one per contender; lines span lowest to highest."""
    keys = list(dict.fromkeys(_key(row) for row in rows))
    contenders = list(dict.fromkeys(row.contender for row in rows))
    varying = [n for n in LABELS if len({dict(key).get(n) for key in keys}) > 1]
    width = 0.8 / len(contenders)
    for k, contender in enumerate(contenders):
        color, hatch = STYLES[k % len(STYLES)]
        own = [row for row in rows if row.contender == contender]
        places = [keys.index(_key(row)) + (k - (len(contenders) - 1) / 2) * width for row in own]
        heights = [row.median for row in own]
        spread = [[r.median - r.low for r in own], [r.high - r.median for r in own]]
        panel.bar(
            places,
            heights,
            width,
            yerr=spread,
            label=contender,
            color=color,
            hatch=hatch,
            edgecolor="black",
            linewidth=0.5,
            capsize=2,
        )
    panel.set_yscale("log")
    panel.set_ylim(bottom=10 ** math.floor(math.log10(min(row.low for row in rows) / 2)))
    words = ["\n".join(f"{n} {_plain(dict(key).get(n, ''))}" for n in varying) for key in keys]
    panel.set_xticks(range(len(keys)), words, fontsize=8)
    panel.grid(axis="y", which="both", linewidth=0.3)
    panel.set_axisbelow(True)
