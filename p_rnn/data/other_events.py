"""Events from outside a data set, read with its settings and indexed by its items."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from p_rnn.data.dataset import Sessions
from p_rnn.data.events import collect
from p_rnn.data.readers import at_path, make_reader
from p_rnn.data.rules import apply_rules
from p_rnn.data.splits import Part
from p_rnn.ragged import offsets_of
from p_rnn.settings.errors import UserError
from p_rnn.settings.sections import DatasetConfig, PathsConfig

Array = NDArray[Any]
log = logging.getLogger(__name__)


def read_sessions(
    path: str, dataset: DatasetConfig, paths: PathsConfig, ids: Array, keep_cold: bool
) -> tuple[Sessions, int]:
    """The sessions in another log of the same format, and the number of items including new ones.

    All rules of the data set apply except those that define its training period and catalogue
    (`min_item_support`, `time_range`). Items that are unknown get the indices after the known ones.
    Targets are chosen as in its test split: the last event of each session, or every event after
    the first.

    Args:
        path: file, folder or zip, relative to `paths.raw`.
        ids: [N] raw ids of the items that the model knows.
        keep_cold: whether events of unknown items count, for the message about them.

    Raises:
        UserError: unreadable events, or none of a known item.
    """
    raw = Path(paths.raw)
    if not (raw / path).exists() and Path(path).exists():
        raise UserError(
            f"events={path} is relative to {raw.absolute()} (paths.raw), where it is missing; it "
            f"exists in the current folder: give events={Path(path).absolute()}"
        )
    reader = make_reader(at_path(dataset, path), paths)
    events = collect({"train": reader}, path)
    own = replace(dataset, name=path, min_item_support=None, time_range=None)
    kept, _ = apply_rules(replace(events, histories=False), own)
    offsets = kept.offsets()
    order = np.argsort(kept.time[offsets[:-1]], kind="stable")
    part = Part(offsets[:-1][order], offsets[1:][order])
    index = _item_index(kept.item_ids, ids)
    items = index[kept.item[part.events()]]
    unknown = items[items >= len(ids)]
    if len(unknown) == len(items):
        raise UserError(
            f"{path}: none of its items (such as '{kept.item_ids[0]}') is an item of the model "
            f"(such as '{ids[0]}')"
        )
    log.info("%s: %d events in %d sessions", path, len(items), len(part.first))
    if len(unknown):
        log.warning(
            "%s: %d events are of %d items that the model does not know; they %s",
            path,
            len(unknown),
            len(np.unique(unknown)),
            "count as targets that are missed (see add_items in docs/recommend.md)"
            if keep_cold
            else "are left out",
        )
    last_only = dataset.split == "leave_one_out" or reader.histories
    sessions = Sessions(
        items.astype(np.int32),
        offsets_of(part.lengths),
        np.floor(kept.time[part.events()]).astype(np.int64),
        part.lengths - 1 if last_only else None,
    )
    return sessions, max(int(items.max()) + 1, len(ids))


def _item_index(ids: Array, known: Array) -> Array:
    """The item index of each raw id; unknown items get the indices after the known ones."""
    both = [ids, known]
    if both[0].dtype.kind != both[1].dtype.kind:  # integers in one, text in the other
        both = [values.astype(str) for values in both]
    index = np.array(pd.Index(both[1]).get_indexer(pd.Index(both[0])), dtype=np.int64)
    unknown = index < 0
    index[unknown] = len(known) + np.arange(np.count_nonzero(unknown))
    return index
