"""metrics.json, held against what a report reads of it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

from p_rnn.settings.errors import UserError

LARGEST = 2**26  # bytes of a metrics.json; those of long runs have less than a thousandth
NAME = re.compile(r"[^/\\\x00-\x1f]{1,150}")
KINDS = ("recall", "mrr", "ndcg")


class Foreign(ValueError):
    """What is not as in the metrics of a run."""


def read_metrics(path: Path) -> dict[str, Any]:
    """The content of a metrics.json, checked.

    Raises:
        UserError: it cannot be read, or is not the metrics of a run of this version.
    """
    try:
        if not path.is_file():
            raise Foreign("it is no file")
        if path.stat().st_size > LARGEST:
            raise Foreign(f"it has more than {LARGEST:,} bytes")
        text = path.read_text(encoding="utf-8")
        metrics = json.loads(text, parse_constant=_no_number, object_pairs_hook=_once)
        check_metrics(metrics)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else f"{error}"
        raise UserError(
            f"{path} is not the metrics of a run of this version ({' '.join(what.split())[:200]}); "
            "leave it out, or remove it and run that job again"
        ) from error
    return metrics  # type: ignore[no-any-return]


def _no_number(word: str) -> NoReturn:
    raise Foreign(f"it holds {word}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise Foreign("it has a key twice")
    return made


def check_metrics(metrics: Any) -> None:
    """Check what reports and sweeps read of the metrics of a run.

    Raises:
        Foreign, KeyError: the first thing that is missing or something else.
    """
    whole = _dict(metrics, "the file")
    config = _dict(whole["config"], "config")
    for section in ("dataset", "model", "strategy", "loss", "evaluation", "early_stopping"):
        _dict(config[section], f"config.{section}")
    for section in ("dataset", "model"):
        _name(config[section]["name"], f"config.{section}.name")
    for section in ("strategy", "loss"):
        if config[section]["name"] is not None:  # of models that count
            _name(config[section]["name"], f"config.{section}.name")
    _count(config["seed"], "config.seed")
    cutoffs = _list(config["evaluation"]["cutoffs"], "config.evaluation.cutoffs")
    if not cutoffs:
        raise Foreign("config.evaluation.cutoffs is empty")
    for k in cutoffs:
        _count(k, "config.evaluation.cutoffs")
    names = [f"{kind}@{k}" for k in cutoffs for kind in KINDS]
    _text(_dict(whole["dataset"], "dataset")["fingerprint"], "dataset.fingerprint")
    for key in ("parameters", "updates", "best_epoch"):
        _count(whole[key], key)
    for key in ("train", "total"):
        _number(_dict(whole["seconds"], "seconds")[key], f"seconds.{key}", math.inf)
    for name, value in _dict(whole["updates_of_subnets"], "updates_of_subnets").items():
        _count(value, f"updates_of_subnets.{name}")
    results = _dict(whole["results"], "results")
    for split in ("test", *(["valid"] if "valid" in whole or "valid" in results else [])):
        own = _dict(_dict(results[split], f"results.{split}")[config["model"]["name"]], "results")
        _result(own, names, f"results.{split}")
        _figures(whole[split], names, split)
        if whole[split] != own["metrics"]:
            raise Foreign(f"{split} and results.{split} differ")
    _history(whole["history"], names)


def _result(own: dict[str, Any], names: list[str], what: str) -> None:
    """The figures of a model on a split, with their breakdowns."""
    targets = _count(own["targets"], f"{what}.targets", least=1)
    _figures(own["metrics"], names, f"{what}.metrics")
    for kind in ("by_position", "by_support"):
        total = 0
        for group in _list(own.get(kind, []), f"{what}.{kind}"):
            _figures(group, names, f"{what}.{kind}")
            low = _count(group["from"], f"{what}.{kind}.from")
            if group["to"] is not None and _count(group["to"], f"{what}.{kind}.to") < low:
                raise Foreign(f"{what}.{kind}: a group ends before it begins")
            total += _count(group["targets"], f"{what}.{kind}.targets", least=1)
        if total not in (0, targets):
            raise Foreign(f"{what}.{kind} has {total} targets, not {targets}")
    for name, value in _dict(own.get("beyond_accuracy", {}), f"{what}.beyond_accuracy").items():
        _number(value, f"{what}.beyond_accuracy.{name}", math.inf)


def _history(rows: Any, names: list[str]) -> None:
    before = 0
    for row in _list(rows, "history"):
        epoch = _count(_dict(row, "history")["epoch"], "history.epoch")
        if epoch <= before:
            raise Foreign("the epochs of history are not in order")
        before = epoch
        if "valid" in row:
            _figures(row["valid"], names, "history.valid")
        _number(row["seconds"], "history.seconds", math.inf)


def _figures(node: Any, names: Iterable[str], what: str) -> None:
    figures = _dict(node, what)
    for name in names:
        _number(figures[name], f"{what}.{name}", 1)


def _kind(kind: type | tuple[type, ...], word: str) -> Callable[[Any, str], Any]:
    def check(node: Any, what: str) -> Any:
        if not isinstance(node, kind):
            raise Foreign(f"{what} is not {word}")
        return node

    return check


_dict, _list, _text = _kind(dict, "a mapping"), _kind(list, "a list"), _kind(str, "a text")


def _name(node: Any, what: str) -> None:
    """Of which names of files are made."""
    if not NAME.fullmatch(_text(node, what)):
        raise Foreign(f"{what} is {node[:40]!r}")


def _number(node: Any, what: str, most: float) -> float:
    """A finite number from 0 to `most`."""
    if isinstance(node, bool) or not isinstance(node, (int, float)) or not 0 <= node <= most:
        raise Foreign(f"{what} is {repr(node)[:40]}")
    if node > 1e300:
        raise Foreign(f"{what} is not finite")
    return float(node)


def _count(node: Any, what: str, least: int = 0) -> int:
    if isinstance(node, bool) or not isinstance(node, int) or not least <= node < 2**63:
        raise Foreign(f"{what} is {repr(node)[:40]}")
    return node
