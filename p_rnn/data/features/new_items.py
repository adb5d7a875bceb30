"""Features of items that were not there when the features were fitted, from a frame in memory."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from p_rnn.data.features.files import column_of
from p_rnn.data.features.fitted import Fitted
from p_rnn.data.features.folders import BagFeature, DenseFeature, Feature
from p_rnn.data.features.kinds import KINDS, takes_new_items
from p_rnn.data.features.new_values import frame_property, lists_of, numbers_of
from p_rnn.data.features.sources import named
from p_rnn.data.features.values import Array, Column, Items, Objects, objects
from p_rnn.data.readers.files import one_line
from p_rnn.settings.dataset_rules import reader_parameters
from p_rnn.settings.errors import UserError
from p_rnn.settings.registry import lookup
from p_rnn.settings.sections import DatasetConfig

log = logging.getLogger(__name__)


def check_values(features: Mapping[str, Feature], frame: pd.DataFrame, item: str) -> None:
    """Warn where the new items in the rows of `frame` have nothing that the features read.

    Args:
        item: the column of ids.

    Raises:
        UserError: no column of any feature.
    """
    read = [c for f in features.values() if f.fitted for c in f.fitted.columns]
    read = list(dict.fromkeys(read))
    there = [name for name in read if name in frame and name != item]
    if read and not there:
        raise UserError(f"items: no column for the features; they read {', '.join(read)}")
    if not there or not len(frame):
        return
    if len(there) < len(read):
        missing = ", ".join(f"'{name}'" for name in read if name not in there)
        log.warning("items: there is no column %s; its values count as missing", missing)
    empty = int(frame[there].map(_nothing).all(axis=1).sum())
    if empty:
        log.warning(
            "items: %d of %d new items have no value in %s: the model can tell nothing of them",
            empty,
            len(frame),
            ", ".join(there),
        )


def _nothing(value: Any) -> bool:
    """Whether a cell is missing, or an empty text or list."""
    return not len(value) if hasattr(value, "__len__") else bool(pd.isna(value))


def features_of_new(
    feature: Feature,
    frame: pd.DataFrame,
    separators: Mapping[str, str | None] | None = None,
    ids: Sequence[Any] | None = None,
) -> Feature:
    """The feature of the M items in the rows of `frame`, as fitted: nothing is learned from them.

    A value means what it means in an item table. A missing column is a column of missing values,
    for which the kind has a rule. Tokens that are not in the vocabulary are left out, with a
    warning that counts them.

    Args:
        feature: as fitted; its arrays are not read.
        frame: [M] columns named like those that the feature came from (`feature.fitted.columns`),
            and maybe others.
        separators: see `separators_of`.
        ids: [M] ids of the items, for messages; None = the index of `frame`.

    Raises:
        UserError: a kind that does not serve later items, a feature without its fitted state, or
            values that the kind refuses, as it does when it is fitted.
    """
    fitted = feature.fitted
    prefix = f"feature {feature.name}"
    if fitted is not None:
        kind = lookup("kind of feature", KINDS, fitted.kind)
    if fitted is None or not takes_new_items(kind):
        of = "" if fitted is None else f" of kind={fitted.kind}"
        raise UserError(
            f"{prefix}{of} cannot be computed for new items: it does not say what was fitted; see "
            "'A kind of feature' in docs/extending.md"
        )
    items = Items(np.asarray(frame.index if ids is None else ids), num_train=0)
    if not len(frame):
        return _with(feature, _none_of(feature))
    with named(prefix), _temporary() as place:
        columns = _columns(fitted, frame, separators or {}, items)
        state = dict(fitted.state)
        counts = kind(columns, items, place, state, **fitted.settings)
        arrays = {path.stem: np.load(path) for path in place.glob("*.npy")}
    if counts.get("dropped_tokens"):
        log.warning(
            "%s: %s tokens of the new items are not in its vocabulary and are left out",
            prefix,
            f"{counts['dropped_tokens']:,}",
        )
    return _with(feature, arrays)


def extended(feature: Feature, new: Feature) -> Feature:
    """The feature of the N items of `feature` and, after them, the M of `new`.

    Name, fingerprint and type of the values are those of `feature`; the arrays are in memory.
    """
    if isinstance(feature, DenseFeature):
        assert isinstance(new, DenseFeature)
        added = new.values.astype(feature.values.dtype, copy=False)
        return replace(feature, values=np.concatenate([feature.values, added]))
    assert isinstance(new, BagFeature)
    assert new.num_tokens == feature.num_tokens
    weights = None
    if feature.weights is not None or new.weights is not None:
        weights = np.concatenate([_weights(feature), _weights(new)])
    return replace(
        feature,
        offsets=np.concatenate([feature.offsets, feature.offsets[-1] + new.offsets[1:]]),
        tokens=np.concatenate([feature.tokens, new.tokens]),
        weights=weights,
    )


def separators_of(dataset: DatasetConfig) -> dict[str, str | None]:
    """{column: separator of its lists} of the item table; for `features_of_new`."""
    table = reader_parameters(dataset).get("item_table")
    return dict.fromkeys((table and table.list_columns) or (), table and table.list_separator)


def _columns(
    fitted: Fitted, frame: pd.DataFrame, separators: Mapping[str, str | None], items: Items
) -> list[Column]:
    columns: list[Column] = []
    for name, type_ in zip(fitted.columns, fitted.state["types"], strict=True):
        label = f"column '{name}'"
        if name not in frame:
            columns.append(objects(label, [None] * len(items)))
            continue
        values = frame[name]
        if values.ndim != 1:
            raise UserError(f"{label} occurs twice")
        columns.append(_column(label, frame_property(values), type_, separators.get(name), items))
    return columns


def _column(
    label: str, values: pd.Series, type_: str, separator: str | None, items: Items
) -> Column:
    """A column of new values as the column of that type (see `Fitted.state`) that was fitted."""
    if type_ == "lists":
        values = lists_of(values, separator)
    if type_ in ("text", "lists"):
        return objects(
            label, [None if gone else v for v, gone in zip(values, values.isna(), strict=True)]
        )
    column = column_of(label, numbers_of(values, np.dtype(type_)), np.arange(len(items)), items)
    if isinstance(column, Objects):
        return column
    values_ = column.values[:]
    if type_ in ("float16", "float32"):
        with np.errstate(over="ignore"):  # infinities are refused by the kinds
            values_ = values_.astype(type_)
    return replace(column, values=values_, numbered=False)


def _none_of(feature: Feature) -> dict[str, Array]:
    """The arrays of no item."""
    if isinstance(feature, DenseFeature):
        return {"values": feature.values[:0]}
    arrays = {"offsets": np.zeros(1, dtype=np.int64), "tokens": feature.tokens[:0]}
    return arrays if feature.weights is None else {**arrays, "weights": feature.weights[:0]}


def _with(feature: Feature, arrays: dict[str, Array]) -> Feature:
    """The feature with other arrays."""
    if isinstance(feature, DenseFeature):
        return replace(feature, values=arrays["values"])
    return replace(
        feature,
        offsets=arrays["offsets"],
        tokens=arrays["tokens"],
        weights=arrays.get("weights"),
    )


def _weights(bag: BagFeature) -> Array:
    return np.ones(len(bag.tokens), dtype=np.float32) if bag.weights is None else bag.weights


@contextmanager
def _temporary() -> Iterator[Path]:
    """A folder for the arrays that a kind writes."""
    try:
        with TemporaryDirectory(prefix="p_rnn-") as place:
            yield Path(place)
    except OSError as error:
        raise UserError(
            f"features of new items need a temporary folder ({one_line(error)}); set TMPDIR to one "
            "with some space"
        ) from error
