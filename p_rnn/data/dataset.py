"""The prepared data set on disk: memory-mapped arrays and a manifest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p_rnn.data.checksums import (
    FILES,
    MANIFEST,
    Damage,
    check_array,
    check_bounds,
    check_manifest,
    check_offsets,
    check_once,
    load_array,
    read_manifest,
    undamaged,
)
from p_rnn.ragged import counts_of, offsets_of, ranges
from p_rnn.settings.errors import UserError
from p_rnn.settings.registry import suggest

Array = NDArray[Any]
FORMAT = "p_rnn prepared data set"
FORMAT_VERSION = 1
PARTS = ("items", "offsets", "times", "session_ids")  # files of every split


@dataclass(frozen=True)
class Sessions:
    """S sessions with E events, in time order of their first event.

    Attributes:
        items: int32 [E] item indices.
        offsets: int64 [S+1]: session s is items[offsets[s]:offsets[s+1]].
        times: int64 [E], seconds since 1970.
        context: int64 [S], the events before the first target of each session; None: one.
    """

    items: Array
    offsets: Array
    times: Array
    context: Array | None = None

    @property
    def lengths(self) -> Array:
        return np.diff(self.offsets)

    @property
    def num_sessions(self) -> int:
        return len(self.offsets) - 1

    @property
    def num_events(self) -> int:
        return len(self.items)

    def support(self, num_items: int) -> Array:
        """int64 [num_items]: events per item."""
        return counts_of(self.items, num_items)

    def take(self, chosen: Array) -> Sessions:
        """The sessions `chosen` (int64 [S']) in this order, in memory and without `context`."""
        lengths = self.lengths[chosen]
        at = ranges(self.offsets[:-1][chosen], lengths)
        return Sessions(self.items[at], offsets_of(lengths), self.times[at])

    def then(self, later: Sessions) -> Sessions:
        """These sessions followed by later ones, in memory and without `context`."""
        return Sessions(
            np.concatenate([self.items, later.items]),
            np.concatenate([self.offsets, later.offsets[1:] + self.offsets[-1]]),
            np.concatenate([self.times, later.times]),
        )


@dataclass(frozen=True)
class Dataset:
    """An opened prepared data set.

    Items are indexed so that 0..num_train_items-1 occur in training, and 0..num_seen_items-1 in
    training or validation; the others occur only in the test split.
    """

    folder: Path
    manifest: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    @property
    def fingerprint(self) -> str:
        return str(self.manifest["fingerprint"])

    @property
    def num_items(self) -> int:
        return int(self.manifest["num_items"])

    @property
    def num_train_items(self) -> int:
        return int(self.manifest["num_train_items"])

    @property
    def num_seen_items(self) -> int:
        return int(self.manifest["num_seen_items"])

    @property
    def splits(self) -> list[str]:
        return list(self.manifest["splits"])

    @cached_property
    def item_ids(self) -> Array:
        """[N]: the raw id of each item index."""
        return self._load("item_ids")

    def sessions(self, split: str) -> Sessions:
        """The sessions of a split, memory-mapped.

        Raises:
            UserError: the data set has no such split.
        """
        if split not in self.splits:
            raise UserError(
                f"dataset {self.name} has no {split} split{suggest(split, self.splits)}"
            )
        parts = {part: self._load(f"{split}/{part}") for part in ("items", "offsets", "times")}
        sessions = Sessions(**parts)
        if (self.folder / split / "context.npy").exists():
            return replace(sessions, context=self._load(f"{split}/context"))
        if self.manifest["settings"]["split"] == "leave_one_out" and split != "train":
            return replace(sessions, context=sessions.lengths - 1)
        return sessions

    def training_sessions(self, with_validation: bool) -> tuple[Sessions, int]:
        """The sessions to train on, in time order, and the number of items that occur in them."""
        train = self.sessions("train")
        if not with_validation:
            return train, self.num_train_items
        valid = self.sessions("valid")
        continued = self._load("train/validates")
        if continued.any():
            # A validation session that continues a training session contains all of its events, so
            # only the other training sessions are added.
            valid = valid.then(train.take(np.flatnonzero(~continued)))
            order = np.argsort(valid.times[valid.offsets[:-1]], kind="stable")
            return valid.take(order), self.num_seen_items
        return train.then(valid), self.num_seen_items

    def _load(self, name: str) -> Array:
        return load_array(self.folder / f"{name}.npy")


def open_dataset(folder: Path, whole: bool = False) -> Dataset:
    """Open a prepared folder after checking that it is as it was written by p_rnn.

    The first time in a process, every file of at most `LARGE_BYTES` is compared with its checksum,
    and all indices and offsets with their bounds. Folders of older versions have no checksums.

    Args:
        whole: compare every file, and again.

    Raises:
        UserError: the folder is damaged, incomplete or something else, and how to recover; or the
            system does not let us read it.
    """
    remedy = f"delete {folder} to have it prepared again"
    with undamaged(folder, remedy):
        manifest = read_manifest(folder)
        if manifest["format"] != FORMAT:
            raise UserError(f"{folder} is not a prepared data set; {remedy}")
        if manifest["format_version"] != FORMAT_VERSION:
            raise UserError(
                f"{folder} has format version {manifest['format_version']}, but this p_rnn reads "
                f"version {FORMAT_VERSION}; {remedy}"
            )
        check_manifest(manifest)
        dataset = Dataset(folder, manifest)
        if folder.name != f"{dataset.name}-{dataset.fingerprint}":
            raise Damage(f"it holds {dataset.name}-{dataset.fingerprint}")
        names = [f"{split}/{part}.npy" for split in manifest["splits"] for part in PARTS]
        check_once(
            folder, manifest, ["item_ids.npy", *names], whole, partial(_check_arrays, dataset)
        )
    return dataset


def _check_arrays(dataset: Dataset) -> None:
    """Shapes, types, order and bounds, and that they are those of the manifest.

    Raises:
        Damage: the first that is not.
    """
    folder, num_items = dataset.folder, dataset.num_items
    check_array("item_ids.npy", dataset.item_ids, (num_items,), "i", "u", "U")
    highest: dict[str, int] = {}
    for split, counts in dataset.manifest["splits"].items():
        events, num = counts["events"], counts["sessions"]
        sessions = dataset.sessions(split)
        files = dataset.manifest.get(FILES)
        there = {f"{split}/{path.name}" for path in (folder / split).glob("*.npy")}
        if files and (added := there - {*files}):
            raise Damage(f"{min(added)} is not in {MANIFEST}")
        check_array(f"{split}/items.npy", sessions.items, (events,), "int32")
        check_array(f"{split}/times.npy", sessions.times, (events,), "int64")
        check_array(f"{split}/offsets.npy", sessions.offsets, (num + 1,), "int64")
        check_offsets(f"{split}/offsets.npy", sessions.offsets, events)
        check_bounds(f"{split}/items.npy", sessions.items, num_items)
        highest[split] = int(sessions.items.max()) + 1
        ids = dataset._load(f"{split}/session_ids")
        check_array(f"{split}/session_ids.npy", ids, (num,), "i", "u", "U")
        if sessions.context is not None:
            check_array(f"{split}/context.npy", sessions.context, (num,), "int64")
            if ((sessions.context < 0) | (sessions.context > sessions.lengths)).any():
                raise Damage(f"{split}/context.npy has a number outside its session")
    if "valid" in dataset.splits:
        num = dataset.manifest["splits"]["train"]["sessions"]
        check_array("train/validates.npy", dataset._load("train/validates"), (num,), "bool")
    # Items have their indices by where they first occur: in training, validation or test.
    seen_items = max(highest["train"], highest.get("valid", 0))
    counts = (dataset.num_train_items, dataset.num_seen_items, num_items)
    if counts != (highest["train"], seen_items, max(highest.values())):
        raise Damage(f"{MANIFEST} has other numbers of items than the splits")
