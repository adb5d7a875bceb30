"""Pictures of a report, readable in print and by the colour-blind (extra `report`)."""

from __future__ import annotations

import importlib
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from p_rnn.runs.report.rows import ReportRow
from p_rnn.settings.errors import UserError

# Okabe and Ito's colours, which colour-blind readers can distinguish; line styles are for print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
MOST = 8  # rows in a picture: the best on validation, or else on test
LABEL = 36  # characters in a line of a legend
TITLE = 80  # and of a title
WIDTH, HEIGHT = 8.4, 4.2  # inches
BESIDE = 0.06  # shift of error bars of neighbouring rows, in distances of groups


def draw_all(rows: Sequence[ReportRow], metric: str, folder: Path) -> list[Path]:
    """Draw all pictures that the rows have data for, as PNG files, a set for each data set.

    Raises:
        UserError: matplotlib is missing.
    """
    try:
        matplotlib = importlib.import_module("matplotlib")
    except ImportError:
        raise UserError("pictures need matplotlib: pip install matplotlib") from None
    matplotlib.use("Agg")
    plot = importlib.import_module("matplotlib.pyplot")
    written = []
    for dataset, own in _by_data(rows):
        for name, draw in PICTURES.items():
            figure, axes = plot.subplots(figsize=(WIDTH, HEIGHT), layout="constrained")
            if draw(axes, own, metric):
                protocol = textwrap.wrap(" ".join(own[0].protocol_words), TITLE)
                title = "\n".join([f"{dataset}: {axes.get_title()}", *protocol])
                axes.set_title(title, fontsize=10)
                path = folder / f"{dataset}_{name}.png"
                figure.savefig(path, dpi=150)
                written.append(path)
            plot.close(figure)
    return written


def _by_data(rows: Sequence[ReportRow]) -> Iterator[tuple[str, list[ReportRow]]]:
    """Rows grouped by protocol, each group with a unique name."""
    groups: dict[str, list[ReportRow]] = {}
    for row in rows:
        groups.setdefault(row.first.data, []).append(row)
    names: dict[str, int] = {}
    for group in groups.values():
        name = group[0].first.dataset
        names[name] = names.get(name, 0) + 1
        yield (name if names[name] == 1 else f"{name}-{names[name]}"), group


def _best(rows: Sequence[ReportRow], metric: str) -> list[ReportRow]:
    """The best MOST rows, in their original order."""

    def quality(row: ReportRow) -> float:
        valid = row.mean(metric, "valid")
        return row.mean(metric) if np.isnan(valid) else valid

    chosen = sorted(rows, key=quality, reverse=True)[:MOST]
    return [row for row in rows if row in chosen]


def _labels(rows: Sequence[ReportRow]) -> list[str]:
    """Legend labels: the words in which rows differ, wrapped; settings by the last part of the key.

    Words that all rows have in common are left out.
    """
    words = [
        [row.first.model, row.first.strategy]
        + [f"{k.split('.')[-1]}={v}" for k, v in row.varied.items() if v is not None]
        for row in rows
    ]
    common = set.intersection(*map(set, words)) if len(words) > 1 else set()
    kept = [[word for word in own if word and word not in common] for own in words]
    return [textwrap.fill(" ".join(own) or words[k][0], LABEL) for k, own in enumerate(kept)]


def _style(k: int) -> dict[str, Any]:
    return {
        "color": COLOURS[k % len(COLOURS)],
        "linestyle": LINES[k % len(LINES)],
        "marker": MARKERS[k % len(MARKERS)],
        "markersize": 4,
        "linewidth": 1.4,
    }


def _legend(axes: Any, rows: Sequence[ReportRow]) -> None:
    """A legend beside the picture; its title says if it shows only some of the rows."""
    axes.grid(alpha=0.3)
    title = f"the best {MOST} of {len(rows)}" if len(rows) > MOST else None
    axes.legend(
        title=title,
        title_fontsize=8,
        fontsize=8,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0,
    )


def learning_curves(axes: Any, rows: Sequence[ReportRow], metric: str) -> bool:
    """The metric on validation by epoch; bands span the lowest and highest seed."""
    drawn = [row for row in rows if len(_curve(row, metric)[0]) > 1]
    chosen = _best(drawn, metric)
    for k, (row, label) in enumerate(zip(chosen, _labels(chosen), strict=True)):
        epochs, mean, low, high = _curve(row, metric)
        axes.plot(epochs, mean, label=label, **_style(k))
        if len(row.runs) > 1:
            axes.fill_between(epochs, low, high, color=COLOURS[k % len(COLOURS)], alpha=0.15)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="epoch", ylabel=f"{metric} (validation)", title="learning curves")
    if drawn:
        _legend(axes, drawn)
    return bool(drawn)


def _curve(row: ReportRow, metric: str) -> tuple[Any, Any, Any, Any]:
    """Epochs that all seeds have, and the mean, lowest and highest value in each."""
    curves = [
        {e["epoch"]: e["valid"][metric] for e in run.metrics["history"] if "valid" in e}
        for run in row.runs
        if metric in run.metrics.get("valid", {})
    ]
    if not curves:
        return [], [], [], []
    epochs = sorted(set.intersection(*map(set, curves)))
    values = np.array([[curve[e] for e in epochs] for curve in curves])
    return epochs, values.mean(axis=0), values.min(axis=0), values.max(axis=0)


def heat_map(axes: Any, rows: Sequence[ReportRow], metric: str) -> bool:
    """The metric by the two settings that vary most; each cell is the best over the others."""
    values: dict[str, set[Any]] = {}
    for row in rows:
        for key, value in row.varied.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                values.setdefault(key, set()).add(value)
    several = [key for key in values if len(values[key]) > 1]
    several.sort(key=lambda key: -len(values[key]))
    # Settings that always change together count as one.
    keys = several[:1] + [key for key in several[1:] if not _together(rows, several[0], key)][:1]
    full = [row for row in rows if all(row.varied.get(key) is not None for key in keys)]
    if len(keys) < 2 or not full:
        return False
    across, down = (sorted(values[key]) for key in keys)
    cells = np.full((len(down), len(across)), np.nan)
    split = "valid" if "valid" in rows[0].first.metrics else "test"
    for row in full:
        at = down.index(row.varied[keys[1]]), across.index(row.varied[keys[0]])
        cells[at] = np.fmax(cells[at], row.mean(metric, split))
    image = axes.imshow(cells, cmap="cividis", aspect="auto")
    middle = (np.nanmin(cells) + np.nanmax(cells)) / 2
    for (i, j), value in np.ndenumerate(cells):
        if not np.isnan(value):
            colour = "black" if value > middle else "white"
            axes.text(j, i, f"{value:.3f}", ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(range(len(across)), [f"{x:g}" for x in across])
    axes.set_yticks(range(len(down)), [f"{x:g}" for x in down])
    word = "validation" if split == "valid" else "test"
    axes.set(xlabel=keys[0], ylabel=keys[1], title=f"{metric} ({word})")
    axes.figure.colorbar(image, ax=axes, shrink=0.9)
    return True


def _together(rows: Sequence[ReportRow], a: str, b: str) -> bool:
    """Whether the values of two settings correspond one to one."""
    pairs = {(row.varied.get(a), row.varied.get(b)) for row in rows}
    return len(pairs) == len({x for x, _ in pairs}) == len({y for _, y in pairs})


def _breakdown(kind: str, what: str) -> Callable[[Any, Sequence[ReportRow], str], bool]:
    def draw(axes: Any, rows: Sequence[ReportRow], metric: str) -> bool:
        chosen = _best(rows, metric)
        groups = {group["from"]: group for group in chosen[0].first.result("test")[kind]}
        if len(groups) < 2:
            return False
        places = {low: k for k, low in enumerate(groups)}
        targets = {low: group["targets"] for low, group in groups.items()}
        for k, (row, label) in enumerate(zip(chosen, _labels(chosen), strict=True)):
            found: dict[int, list[float]] = {}
            for run in row.runs:
                for group in run.result("test")[kind]:
                    found.setdefault(group["from"], []).append(group[metric])
            lows = [low for low in places if low in found]
            aside = BESIDE * (k - (len(chosen) - 1) / 2)  # so that error bars do not overlap
            means = np.array([np.mean(found[low]) for low in lows])
            axes.errorbar(
                [places[low] + aside for low in lows],
                means,
                yerr=standard_error(means, np.array([targets[low] for low in lows])),
                label=label,
                elinewidth=0.8,
                capsize=2,
                **_style(k),
            )
        ticks = [f"{_span(g)}\n{g['targets']:,}" for g in groups.values()]
        axes.set_xticks(range(len(ticks)), ticks, fontsize=8)
        axes.set(
            xlabel=f"{what} (below: targets)",
            ylabel=f"{metric} (test)",
            title=f"by {what} (bars: standard error)",
        )
        _legend(axes, rows)
        return True

    return draw


def standard_error(share: Any, targets: Any) -> Any:
    """The binomial standard error of a share of `targets`: sqrt(p (1 - p) / n).

    More seeds do not reduce it, because they are tested on the same targets. For metrics such as
    MRR, which are not shares but lie between 0 and 1, it is an upper bound.
    """
    return np.sqrt(share * (1 - share) / targets)


def _span(group: dict[str, Any]) -> str:
    if group["to"] is None:
        return f"{group['from']:,}+"
    return f"{group['from']}" if group["to"] == group["from"] else f"{group['from']}–{group['to']}"


def against_time(axes: Any, rows: Sequence[ReportRow], metric: str) -> bool:
    """Quality by training time."""
    chosen = _best(rows, metric)
    for k, (row, label) in enumerate(zip(chosen, _labels(chosen), strict=True)):
        seconds = np.mean([run.metrics["seconds"]["train"] for run in row.runs])
        style = {**_style(k), "linestyle": "", "markersize": 8}
        axes.plot([max(seconds, 0.01)], [row.mean(metric)], label=label, **style)
    axes.set_xscale("log", subs=[2, 5])
    for formatter in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        formatter("{x:g}")
    axes.set(xlabel="seconds of training", ylabel=f"{metric} (test)", title="quality and time")
    _legend(axes, rows)
    return len(chosen) > 1


PICTURES: dict[str, Callable[[Any, Sequence[ReportRow], str], bool]] = {
    "learning_curves": learning_curves,
    "heat_map": heat_map,
    "by_support": _breakdown("by_support", "support of the target"),
    "by_position": _breakdown("by_position", "events before the target"),
    "against_time": against_time,
}
