"""Where the values of a feature come from: a property of the item table, or a file."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from p_rnn.data.features.files import FORMATS, source_files
from p_rnn.data.features.kinds import KINDS
from p_rnn.data.features.values import Column, Items, Objects, Rows, objects
from p_rnn.data.item_table import (
    open_item_table,
    property_hash,
    read_property,
    undamaged_table,
)
from p_rnn.data.raw_files import RawFiles
from p_rnn.data.readers.files import Member
from p_rnn.settings.components import check_parameters
from p_rnn.settings.errors import UserError
from p_rnn.settings.registry import lookup, suggest
from p_rnn.settings.sections import FeatureConfig, PathsConfig

log = logging.getLogger(__name__)
# Settings that select the values of a table or file, and describe its format.
SOURCE = ("columns", "item", "ids", "column_separator", "quoting", "encoding")


@dataclass(frozen=True)
class Source:
    """Where the values of a feature come from.

    Attributes:
        key: goes into the fingerprint of the feature.
        columns: names of the properties, columns or tensors; the feature's own for a .npy.
        refuse_changed: to be called after reading; refuses files that changed meanwhile.
    """

    key: dict[str, Any]
    columns: list[str]
    read: Callable[[], tuple[list[Column], dict[str, int]]]
    refuse_changed: Callable[[], None] = lambda: None


def item_table_source(name: str, config: FeatureConfig, table: Path | None, items: Items) -> Source:
    """Properties of the item table in the folder `table`.

    Raises:
        UserError: no such property, or a setting that is for files only.
    """

    def read(*, columns: list[str]) -> tuple[list[Column], dict[str, int]]:
        assert table is not None
        return [_property(table, column, items) for column in columns], {}

    prefix = f"dataset.features.{name}"
    settings = check_parameters(prefix, "the item table", read, _where(config, [name]))
    known = properties(table)
    for column in settings["columns"]:
        if column not in known:
            if table is None:
                raise UserError(f"{prefix}: the data set has no item table; set {prefix}.file")
            raise UserError(
                f"{prefix}: the item table has no property '{column}'{suggest(column, known)} "
                f"(set {prefix}.columns or file)"
            )
    assert table is not None
    # The values themselves, so that a change elsewhere in the table does not re-fit this feature.
    with undamaged_table(table):
        content = [[column, property_hash(table, column)] for column in settings["columns"]]
    return Source({"properties": content}, settings["columns"], partial(read, **settings))


def file_source(name: str, config: FeatureConfig, paths: PathsConfig, items: Items) -> Source:
    """Columns of `config.file`.

    Raises:
        UserError: a missing file, an unknown format, or a setting without effect on this format.
    """
    prefix, raw = f"dataset.features.{name}", Path(paths.raw)
    assert config.file is not None
    read = lookup(f"format of {prefix}.file", FORMATS, Member(Path(config.file)).suffix)
    settings = check_parameters(prefix, config.file, read, _where(config, None))

    def values() -> tuple[list[Column], dict[str, int]]:
        columns, index = read(raw / str(config.file), raw, name, items, **settings)
        return columns, {"rows": len(index), "rows_of_other_items": int((index < 0).sum())}

    with named(prefix):
        files = RawFiles(partial(source_files, raw, config.file, config.ids), paths)
    # Settings that older versions did not have count only if given, so fingerprints stay the same.
    later = {f.name for f in fields(FeatureConfig) if f.metadata.get("later")}
    given = _where(config, None)
    key = {name: v for name, v in settings.items() if name not in later or given.get(name)}
    columns = settings.get("columns") or [name]
    return Source({"files": files.hashes, **key}, columns, values, files.refuse_changed)


def _where(config: FeatureConfig, columns: list[str] | None) -> dict[str, Any]:
    """Only the settings in `SOURCE`."""
    given = {name: getattr(config, name) for name in SOURCE}
    return given | {"columns": config.columns or columns}


def properties(table: Path | None) -> dict[str, str]:
    """The kind of each property according to `write_item_table`: number, vector or text."""
    if table is None:
        return {}
    return {name: about["kind"] for name, about in open_item_table(table)["properties"].items()}


def _property(table: Path, name: str, items: Items) -> Column:
    label = f"item property '{name}'"
    with undamaged_table(table):
        values = read_property(table, name)
        if len(values) != len(items):
            raise ValueError(f"'{name}' has {len(values)} values for {len(items)} items")
    if isinstance(values, list):
        return objects(label, values)
    rows = values.reshape(len(values), -1)
    everyone = Rows(label, rows, np.arange(len(items)), numbered=False)
    index = np.full(len(items), -1)
    for _, at, block in everyone.blocks():
        index[at] = np.where(np.isnan(block).all(axis=1), -1, at)
    return replace(everyone, items=index)


def kind_of(table: Path | None, column: str) -> str:
    """The default kind of a feature made from a property, by the values of that property."""
    assert table is not None
    stored = properties(table)[column]
    if stored != "text":
        return stored
    with undamaged_table(table), (table / f"{column}.jsonl").open(encoding="utf-8") as file:
        values = (json.loads(line) for line in file)
        first = next((value for value in values if value is not None), None)
    return "tags" if isinstance(first, list) else "category"


def kind_of_file(prefix: str, file: str) -> str:
    """The default kind of a feature from a file: arrays are vectors, others must say their kind."""
    if Path(file).suffix in (".npy", ".safetensors"):
        return "vector"
    raise UserError(f"{prefix}.kind is null, but {file} needs one of {', '.join(KINDS)}")


def warn_of_text(prefix: str, column: Column) -> None:
    """Warn about a category whose values are mostly unique to one item."""
    if isinstance(column, Objects):
        times = Counter(value for value in column.values if isinstance(value, str))
        if 2 * sum(n == 1 for n in times.values()) > times.total():
            log.warning(
                "%s: more than half of the items that have a value share it with no other: it "
                "looks like text; set %s.kind=text",
                column.label,
                prefix,
            )


@contextmanager
def named(prefix: str) -> Iterator[None]:
    """Prefixes the message of a `UserError` with the setting of the feature."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"{prefix}: {error}") from error
