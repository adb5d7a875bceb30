"""From raw files to a prepared data set: read, filter, split, index, write.

Two fingerprints decide what is prepared again: one of the event files and rules names the folder,
one of the item files names the folder of item properties inside it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p_rnn import printing
from p_rnn.data.checksums import undamaged, write_manifest
from p_rnn.data.codes import as_stored
from p_rnn.data.dataset import FORMAT, FORMAT_VERSION, Dataset, open_dataset
from p_rnn.data.events import EventLog, collect
from p_rnn.data.item_table import last_values, open_item_table, write_item_table
from p_rnn.data.raw_files import RawFiles
from p_rnn.data.readers import READERS, make_readers
from p_rnn.data.readers.base import Reader
from p_rnn.data.rules import apply_rules
from p_rnn.data.sanity_checks import long_sessions, missing_words, spans, suspicious_times
from p_rnn.data.splits import Part, day, split
from p_rnn.files import folder_written_whole
from p_rnn.ragged import offsets_of, save_in_blocks
from p_rnn.settings.components import parameters_of
from p_rnn.settings.dataset_rules import reader_parameters, resolve_dataset
from p_rnn.settings.errors import FullDisk, UserError
from p_rnn.settings.sections import DatasetConfig, PathsConfig

Array = NDArray[Any]
log = logging.getLogger(__name__)

# A fingerprint covers these settings of readers even where they are null: prepared data stay valid.
_ALWAYS = ("path", "columns", "separator", "time_unit", "synthetic")


def prepare(dataset: DatasetConfig, paths: PathsConfig) -> Dataset:
    """The prepared data set of these settings; prepared now unless it exists already.

    Raises:
        UserError: missing or bad raw files, rules that leave nothing, a damaged prepared folder,
            a full disk. Nothing half-written is left on disk.
    """
    dataset = resolve_dataset(dataset)
    readers = make_readers(dataset, paths)
    reader = readers["train"]
    raw = RawFiles(lambda: [path for each in readers.values() for path in each.sources()], paths)
    settings = settings_of_events(dataset)
    content = {"settings": settings, "sources": raw.hashes}
    fingerprint = fingerprint_of({**content, "reader": reader.version})
    folder = Path(paths.prepared) / f"{dataset.name}-{fingerprint}"
    if folder.exists():
        log.info("using the prepared data set %s", folder)
    else:
        log.info("preparing %s", folder)
        # Held by nobody here, so that the rules can free what they drop.
        events, report = apply_rules(_collected(readers, dataset, raw), dataset)
        manifest = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "name": dataset.name,
            "fingerprint": fingerprint,
            "replaces": [
                fingerprint_of({**content, "reader": version})
                for version in range(1, reader.version)
            ],
            "settings": settings,
            "sources": raw.hashes,
            "rules": report,
        }
        with new_folder(folder) as temporary:
            parts = split(events, dataset)
            manifest |= _write_events(events, parts, temporary)
            warnings = missing_words(events, dataset) + long_sessions(events, parts["train"])
            if all(each.timed for each in readers.values()):
                manifest["dates"] = spans(events, parts)
                warnings += suspicious_times(events, parts, dataset)
            manifest["warnings"] = warnings
            write_manifest(temporary, manifest)
    prepared = open_dataset(folder)
    with undamaged(folder, f"delete {folder} to have it prepared again"):
        log.info("%s", describe(prepared.manifest))
    for warning in prepared.manifest.get("warnings", ()):
        log.warning("warning: %s", warning)
    _prepare_items(reader, dataset, paths, prepared)
    return prepared


def _collected(readers: dict[str, Reader], dataset: DatasetConfig, raw: RawFiles) -> EventLog:
    """All events, if the files are still those that were read."""
    events = collect(readers, dataset.name)
    raw.refuse_changed()
    return events


def item_table_folder(dataset: DatasetConfig, paths: PathsConfig, prepared: Dataset) -> Path | None:
    """The folder of the item properties, written now unless it exists; None if there are none."""
    return _prepare_items(make_readers(dataset, paths)["train"], dataset, paths, prepared)


def _prepare_items(
    reader: Reader, dataset: DatasetConfig, paths: PathsConfig, prepared: Dataset
) -> Path | None:
    raw = RawFiles(reader.item_sources, paths)
    own = reader_parameters(dataset)
    table = fingerprinted(own["item_table"]) if "item_table" in own else None
    key: dict[str, Any] = {"reader": dataset.reader, "version": reader.items_version}
    key |= {"table": table, "sources": raw.hashes}
    if "properties" in own:
        key["properties"] = own["properties"]
    if "items" in own:  # the hash of a frame
        key["items"] = own["items"]
    folder = prepared.folder / f"items-{fingerprint_of(key)}"
    if folder.exists():
        open_item_table(folder)
        return folder
    items = reader.items()
    raw.refuse_changed()
    if items is None:
        return None
    if "time" in items:
        items = last_values(items, float(prepared.sessions("train").times.max()))
    with new_folder(folder) as temporary:
        manifest = write_item_table(items, prepared.item_ids, temporary)
        write_manifest(temporary, {**key, **manifest})
    log.info(
        "item table: %d of %d items have a row; properties (missing): %s",
        manifest["matched"],
        prepared.num_items,
        ", ".join(f"{k} ({v['missing']})" for k, v in manifest["properties"].items()) or "none",
    )
    return folder


def _write_events(events: EventLog, parts: dict[str, Part], folder: Path) -> dict[str, Any]:
    """Index the items, write every split, and return the counts for the manifest."""
    num_codes = len(events.item_ids)
    support = {name: part.support(events.item, num_codes) for name, part in parts.items()}
    zero = np.zeros(num_codes, dtype=np.int64)
    # By support in training; items without any by support in validation, then in the test split.
    keys = [support.get(name, zero) for name in ("test", "valid", "train")]
    by_support = np.lexsort([-key for key in keys])
    total = np.sum(keys, axis=0)
    order = by_support[: np.count_nonzero(total)]
    index = np.full(num_codes, -1, dtype=np.int32)
    index[order] = np.arange(len(order), dtype=np.int32)

    np.save(folder / "item_ids.npy", events.item_ids[order])
    for name, part in parts.items():
        (folder / name).mkdir()
        blocks = list(part.blocks())
        ids = as_stored(events.session_ids[:0]).dtype
        content: dict[str, tuple[Any, Callable[[Part], Array]]] = {
            "items": (index.dtype, lambda block: index[events.item[block.events()]]),
            "times": (np.dtype(np.int64), lambda block: np.floor(events.time[block.events()])),
            "session_ids": (ids, lambda block: events.session_ids[events.session[block.first]]),
        }
        for file, (dtype, values) in content.items():
            size = len(part.first) if file == "session_ids" else part.num_events
            save_in_blocks(folder / name / f"{file}.npy", dtype, size, map(values, blocks))
        np.save(folder / name / "offsets.npy", offsets_of(part.lengths))
        if part.context is not None:
            np.save(folder / name / "context.npy", part.context)
    if "valid" in parts:  # training sessions that a validation session continues
        both = np.isin(parts["train"].first, parts["valid"].first)
        np.save(folder / "train" / "validates.npy", both)
    seen = support["train"] + support.get("valid", zero)
    return {
        "num_items": len(order),
        "num_train_items": int(np.count_nonzero(support["train"])),
        "num_seen_items": int(np.count_nonzero(seen)),
        "splits": {
            name: {"events": part.num_events, "sessions": len(part.first)}
            for name, part in parts.items()
        },
    }


def describe(manifest: dict[str, Any]) -> str:
    """A table of what each rule dropped, and of the sizes and dates of the splits."""
    dates = manifest.get("dates", {})

    def line(name: str, *cells: str) -> list[str]:
        return [name, *cells, *(map(day, dates[name]) if name in dates else unknown)]

    unknown = ["", ""] if dates else []
    lines = []
    for row in manifest["rules"]:
        # Rules drop, so their rows count below zero; cutting a stream adds sessions.
        sign = 1 if row["rule"] in ("read", "left") else -1
        cells = [f"{sign * row[key]:,}" for key in ("events", "sessions", "items")]
        lines.append(line(row["rule"], *cells))
    for name, counts in manifest["splits"].items():
        items = f"{manifest['num_train_items']:,}" if name == "train" else ""
        lines.append(line(name, f"{counts['events']:,}", f"{counts['sessions']:,}", items))
    header = ["rule", "events", "sessions", "items", *(["from", "to"] if dates else [])]
    return printing.as_text(printing.table(header, lines))


def settings_of_events(dataset: DatasetConfig) -> dict[str, Any]:
    """The settings that decide what the prepared events are: the rules, and those of the reader."""
    rules = {
        f.name
        for f in fields(dataset)
        if f.name != "parameters" and not {"items", "role"} & set(f.metadata)
    }
    covered = {name: v for name, v in fingerprinted(dataset).items() if name in rules}
    known = fields(parameters_of(READERS[dataset.reader]))
    of_events = {f.name for f in known if not f.metadata.get("items")}
    given = {key: value for key, value in dataset.parameters.items() if key in of_events}
    given = {key: fingerprinted(v) if is_dataclass(v) else v for key, v in given.items()}
    return {**covered, **dict.fromkeys(_ALWAYS), **given}


def fingerprinted(settings: Any) -> dict[str, Any]:
    """The settings that a fingerprint covers: not those that are later than it and unused."""
    plain: dict[str, Any] = {}
    for f in fields(settings):
        value = getattr(settings, f.name)
        if f.metadata.get("later") and value == f.default:
            continue
        plain[f.name] = fingerprinted(value) if is_dataclass(value) else value
    return plain


def same_events(prepared: Dataset, fingerprint: str) -> bool:
    """Whether `fingerprint` names the same events as `prepared`.

    It may be that of an older version of the reader; then its folder must still exist, so that the
    two can be compared.
    """
    if fingerprint == prepared.fingerprint:
        return True
    folder = prepared.folder.with_name(f"{prepared.name}-{fingerprint}")
    if fingerprint not in prepared.manifest.get("replaces", ()) or not folder.exists():
        return False
    older = open_dataset(folder)
    return (
        older.manifest["splits"] == prepared.manifest["splits"]
        and np.array_equal(older.item_ids, prepared.item_ids)
        and all(
            np.array_equal(older.sessions(split).items, prepared.sessions(split).items)
            for split in prepared.splits
        )
    )


def fingerprint_of(value: dict[str, Any]) -> str:
    """Twelve hexadecimal digits that identify `value`."""
    text = json.dumps({"format_version": FORMAT_VERSION, **value}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """`folder_written_whole` for a folder below `paths.prepared`; explains what went wrong.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    try:
        with folder_written_whole(folder) as temporary:
            yield temporary
    except FullDisk as error:
        raise FullDisk(f"{error} or set paths.prepared to another disk") from error
    except OSError as error:
        if isinstance(error, PermissionError) or error.errno in (
            errno.EROFS,
            errno.ENOTDIR,
            errno.EEXIST,
        ):
            raise UserError(
                f"cannot write {folder} ({error.strerror}); set paths.prepared"
            ) from error
        raise
