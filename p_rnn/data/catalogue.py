"""What a checkpoint knows of the items: their raw ids, support, features and properties.

With it, a checkpoint can be used where the data that it was trained on are not. All of it is stored
as tensors, without a copy of features that are larger than memory.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from p_rnn.data.dataset import Dataset, Sessions
from p_rnn.data.features import BagFeature, DenseFeature, Feature, Fitted
from p_rnn.data.features.new_items import check_values, extended, features_of_new
from p_rnn.data.features.sources import properties
from p_rnn.data.frame_columns import check_frame
from p_rnn.data.item_table import read_property
from p_rnn.data.raw_ids import as_integer, as_text, integers, listed
from p_rnn.data.texts import Texts
from p_rnn.settings.errors import UserError

Array = NDArray[Any]
Property = Array | Texts  # float64 [N], NaN = missing; or texts, "" = missing
LONGEST = 100  # characters of a property
VOCABULARY = "vocabulary"  # of the state of a feature; stored as `Texts`


@dataclass(frozen=True)
class Catalogue:
    """N items in the order of their indices.

    Attributes:
        ids: the raw ids, int64 [N] or text.
        support: int64 [N], events of each item in the sessions that were trained on.
        features: those that the model reads, of all N items.
        properties: what can be shown of the items, by name.
    """

    ids: Array | Texts
    support: Array
    features: dict[str, Feature]
    properties: dict[str, Property]

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        features: Mapping[str, Feature],
        with_validation: bool = False,
        table: Path | None = None,
    ) -> Catalogue:
        """The items of a prepared data set.

        Args:
            with_validation: the model was trained on the validation sessions, too.
            table: folder of item properties (`item_table_folder`), or None.
        """
        sessions, _ = dataset.training_sessions(with_validation)
        ids = dataset.item_ids
        shown = {
            name: _shown(read_property(table, name))
            for name, kind in properties(table).items()
            if kind != "vector" and table is not None
        }
        return cls(
            np.asarray(ids, dtype=np.int64) if ids.dtype.kind in "iu" else Texts.of(ids.tolist()),
            sessions.support(dataset.num_items),
            dict(features),
            shown,
        )

    def __len__(self) -> int:
        return len(self.support)

    # --- raw ids and item indices ---------------------------------------------------------------

    def index(self, raw_ids: Any) -> Array:
        """int64 [M]: the item index of each raw id, -1 if there is no such item.

        Ids are compared as text: "123" is the item 123, "0123" is not.
        """
        if isinstance(self.ids, Texts):
            texts = [as_text(value) for value in listed(raw_ids)]
            found = self._lookup.get_indexer(pd.Index(texts, dtype=object))
        else:
            numbers, is_id = integers(raw_ids)
            found = np.where(is_id, self._lookup.get_indexer(pd.Index(numbers)), -1)
        return np.asarray(found, dtype=np.int64)

    def ids_of(self, indices: Sequence[int] | Array) -> list[Any]:
        """The raw ids of items, as Python integers or text."""
        if isinstance(self.ids, Texts):
            return self.ids.take(indices)
        raw: list[Any] = self.ids[np.asarray(indices, dtype=np.int64)].tolist()
        return raw

    def raw_ids(self) -> Array:
        """[N]: all raw ids, int64 or object (text)."""
        return self._lookup.to_numpy()

    def labels(self, indices: Sequence[int] | Array) -> dict[str, list[Any]]:
        """{property: values} of some items; None = missing."""
        at = np.asarray(indices, dtype=np.int64)
        return {name: _values(own, at) for name, own in self.properties.items()}

    def label(self, index: int) -> dict[str, Any]:
        """{property: value} of an item; None = missing."""
        return {name: values[0] for name, values in self.labels([index]).items()}

    @cached_property
    def _lookup(self) -> pd.Index[Any]:
        lookup: pd.Index[Any]
        if isinstance(self.ids, Texts):
            lookup = pd.Index(self.ids.all(), dtype=object)
        else:
            lookup = pd.Index(self.ids)
        lookup.get_indexer(lookup[:1])  # builds its hash table, so that the first id is no slower
        return lookup

    # --- items that come later ------------------------------------------------------------------

    def add(
        self,
        frame: pd.DataFrame,
        item: str = "item",
        separators: Mapping[str, str | None] | None = None,
    ) -> Catalogue:
        """These items and, after them, the new ones among the rows of `frame`.

        Rows of items that are known already are left out.

        Args:
            frame: one row per item: a column of ids, and those that features and properties come
                from; a missing column is one of missing values.
            item: the column of ids.
            separators: of columns of lists, see `separators_of`.

        Raises:
            UserError: no column of ids or none for the features; an id that occurs twice or does
                not fit the others; values that a feature cannot take.
        """
        check_frame(frame, "items")
        if item not in frame:
            raise UserError(f"items: column '{item}' of the ids is missing; give item=")
        ids = self._new_ids(frame[item])
        frame = frame[self.index(ids) < 0].reset_index(drop=True)
        ids = self._new_ids(frame[item])
        check_values(self.features, frame, item)
        features = {
            name: extended(feature, features_of_new(feature, frame, separators, ids))
            for name, feature in self.features.items()
        }
        return Catalogue(
            self.ids.then(Texts.of(ids))
            if isinstance(self.ids, Texts)
            else np.concatenate([self.ids, np.array(ids, dtype=np.int64)]),
            np.concatenate([self.support, np.zeros(len(ids), dtype=np.int64)]),
            features,
            {name: _longer(own, frame, name) for name, own in self.properties.items()},
        )

    def _new_ids(self, column: pd.Series[Any]) -> list[Any]:
        """The ids of a frame in the type of the catalogue."""
        convert = as_text if isinstance(self.ids, Texts) else as_integer
        ids = [convert(value) for value in column.tolist()]
        if None in ids:
            bad = column.iloc[ids.index(None)]
            what = "text" if isinstance(self.ids, Texts) else "integers"
            raise UserError(f"items: {bad!r} is no id; those of the other items are {what}")
        if len(set(ids)) < len(ids):
            twice = pd.Series(ids, dtype=object)
            raise UserError(f"items: '{twice[twice.duplicated()].iloc[0]}' has more than one row")
        return ids

    # --- stored ---------------------------------------------------------------------------------

    def pack(self) -> dict[str, Any]:
        """As tensors and plain Python objects; arrays are not copied."""
        return {
            "ids": _packed(self.ids),
            "support": as_tensor(self.support),
            "features": {name: _pack_feature(f) for name, f in self.features.items()},
            "properties": {name: _packed(values) for name, values in self.properties.items()},
        }

    @classmethod
    def unpack(cls, packed: Mapping[str, Any]) -> Catalogue:
        """The inverse of `pack`; the arrays are those of the tensors."""
        return cls(
            _unpacked(packed["ids"]),
            packed["support"].numpy(),
            {name: _unpack_feature(name, f) for name, f in packed["features"].items()},
            {name: _unpacked(values) for name, values in packed["properties"].items()},
        )


def as_tensor(array: Array) -> Tensor:
    """The array as a tensor that shares its memory, also if it is read-only."""
    with warnings.catch_warnings():  # that nobody may write to it
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(array)


def pack_sessions(sessions: Sessions) -> dict[str, Tensor]:
    """Sessions as tensors; `Sessions` takes their arrays again."""
    return {part: as_tensor(getattr(sessions, part)) for part in ("items", "offsets", "times")}


def _packed(values: Array | Texts) -> Tensor | dict[str, Tensor]:
    if isinstance(values, Texts):
        return {"data": as_tensor(values.data), "offsets": as_tensor(values.offsets)}
    return as_tensor(values)


def _unpacked(packed: Tensor | Mapping[str, Tensor]) -> Any:
    if isinstance(packed, Tensor):
        return packed.numpy()
    return Texts(packed["data"].numpy(), packed["offsets"].numpy())


def _pack_feature(feature: Feature) -> dict[str, Any]:
    packed: dict[str, Any] = {"fingerprint": feature.fingerprint, "fitted": None}
    if feature.fitted is not None:
        packed["fitted"] = fitted = feature.fitted.plain()
        if VOCABULARY in fitted["state"]:
            words = Texts.of(fitted["state"][VOCABULARY])
            fitted["state"] = {**fitted["state"], VOCABULARY: _packed(words)}
    if isinstance(feature, DenseFeature):
        return {**packed, "values": as_tensor(feature.values)}
    return {
        **packed,
        "offsets": as_tensor(feature.offsets),
        "tokens": as_tensor(feature.tokens),
        "weights": None if feature.weights is None else as_tensor(feature.weights),
        "num_tokens": feature.num_tokens,
    }


def _unpack_feature(name: str, packed: Mapping[str, Any]) -> Feature:
    fitted = None
    if packed["fitted"] is not None:
        fitted = Fitted(**packed["fitted"])
        if VOCABULARY in fitted.state:
            words = _unpacked(fitted.state[VOCABULARY]).all()
            fitted = replace(fitted, state={**fitted.state, VOCABULARY: words})
    fingerprint = str(packed["fingerprint"])
    if "values" in packed:
        return DenseFeature(name, fingerprint, packed["values"].numpy(), fitted)
    weights = None if packed["weights"] is None else packed["weights"].numpy()
    offsets, tokens = packed["offsets"].numpy(), packed["tokens"].numpy()
    return BagFeature(name, fingerprint, offsets, tokens, weights, packed["num_tokens"], fitted)


# --- properties ---------------------------------------------------------------------------------


def _shown(values: Array | list[Any]) -> Property:
    if isinstance(values, list):
        return Texts.of(_cut(value) for value in values)
    return np.array(values, dtype=np.float64)


def _cut(value: Any) -> str:
    """A value as text, lists joined by commas, shortened."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, (list, tuple, set, np.ndarray)):
        value = ", ".join(map(str, value))
    text = str(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _values(own: Property, at: Array) -> list[Any]:
    if isinstance(own, Texts):
        return [text or None for text in own.take(at)]
    numbers = own[at].tolist()
    return [None if x != x else int(x) if x.is_integer() else x for x in numbers]


def _longer(own: Property, frame: pd.DataFrame, name: str) -> Property:
    """A property with the values of a column of new items."""
    column = frame[name] if name in frame else pd.Series([None] * len(frame), dtype=object)
    if isinstance(own, Texts):
        return own.then(Texts.of(_cut(value) for value in column.tolist()))
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    return np.concatenate([own, numbers])
