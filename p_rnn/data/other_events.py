"""Events from outside a data set, read with its settings and indexed by its items."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pandas as pd

from p_rnn.data.dataset import Dataset, Sessions
from p_rnn.data.events import collect
from p_rnn.data.readers import at_path, make_reader
from p_rnn.data.rules import apply_rules
from p_rnn.data.splits import Part
from p_rnn.ragged import offsets_of
from p_rnn.settings.errors import UserError
from p_rnn.settings.sections import DatasetConfig, PathsConfig

log = logging.getLogger(__name__)


def read_sessions(
    path: str, dataset: DatasetConfig, paths: PathsConfig, prepared: Dataset
) -> tuple[Sessions, int]:
    """The sessions in another log of the same format, and the number of items including new ones.

    All rules of the data set apply except those that define its training period and catalogue
    (`min_item_support`, `time_range`). Items that it does not have get the indices after its own.
    Targets are chosen as in its test split: the last event of each session, or every event after
    the first.

    Args:
        path: file, folder or zip, relative to `paths.raw`.

    Raises:
        UserError: unreadable events, or none of a known item.
    """
    reader = make_reader(at_path(dataset, path), paths)
    events = collect({"train": reader}, path)
    own = replace(dataset, name=path, min_item_support=None, time_range=None)
    kept, _ = apply_rules(replace(events, histories=False), own)
    offsets = kept.offsets()
    order = np.argsort(kept.time[offsets[:-1]], kind="stable")
    part = Part(offsets[:-1][order], offsets[1:][order])
    index = _item_index(kept.item_ids, prepared)
    items = index[kept.item[part.events()]]
    known = items < prepared.num_items
    if not known.any():
        raise UserError(
            f"{path}: none of its items (such as '{kept.item_ids[0]}') is an item of the data set "
            f"(such as '{prepared.item_ids[0]}')"
        )
    log.info(
        "%s: %d events in %d sessions; %d events are of items that the data set does not have",
        path,
        len(items),
        len(part.first),
        np.count_nonzero(~known),
    )
    last_only = dataset.split == "leave_one_out" or reader.histories
    sessions = Sessions(
        items.astype(np.int32),
        offsets_of(part.lengths),
        np.floor(kept.time[part.events()]).astype(np.int64),
        part.lengths - 1 if last_only else None,
    )
    return sessions, max(int(items.max()) + 1, prepared.num_items)


def _item_index(ids: np.ndarray, prepared: Dataset) -> np.ndarray:
    """The item index of each raw id; unknown items get the indices after the known ones."""
    both = [ids, np.asarray(prepared.item_ids)]
    if both[0].dtype.kind != both[1].dtype.kind:  # integers in one, text in the other
        both = [values.astype(str) for values in both]
    index = np.array(pd.Index(both[1]).get_indexer(pd.Index(both[0])), dtype=np.int64)
    unknown = index < 0
    index[unknown] = prepared.num_items + np.arange(np.count_nonzero(unknown))
    return index
