"""Item features: declared, fitted once, and opened as memory-mapped arrays by item index.

Each feature has a folder `features/<name>-<fingerprint>/` inside the prepared data set whose
training items it was fitted to. The fingerprint covers the settings of its kind and the source of
its values, so that a change re-fits this feature and nothing else.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p_rnn.data.dataset import Dataset
from p_rnn.data.features.kinds import KINDS
from p_rnn.data.features.sources import (
    file_source,
    item_table_source,
    kind_of,
    kind_of_file,
    named,
    properties,
    warn_of_text,
)
from p_rnn.data.features.values import Items
from p_rnn.data.prepare import fingerprint_of, item_table_folder, new_folder
from p_rnn.data.readers.files import one_line
from p_rnn.settings.components import check_parameters
from p_rnn.settings.errors import Uninformative, UserError
from p_rnn.settings.registry import lookup, suggest
from p_rnn.settings.sections import DatasetConfig, FeatureConfig, PathsConfig
from p_rnn.settings.tree import check_ranges

Array = NDArray[Any]
log = logging.getLogger(__name__)
FORMAT = "p_rnn feature"
VERSION = 1  # to be increased when the same values and settings give another result
VOCABULARY = "vocabulary.json"  # the tokens in order of their numbers
# Names that networks use for something else: ids, shared matrices, GRUs over several inputs.
RESERVED = ("id", "shared", "concat", "features")


@dataclass(frozen=True)
class DenseFeature:
    """values: float16 or float32 [N, D], memory-mapped; zero where an item has no value."""

    name: str
    fingerprint: str
    values: Array


@dataclass(frozen=True)
class BagFeature:
    """Item i has the tokens tokens[offsets[i]:offsets[i + 1]], each at most once.

    Attributes:
        offsets: int64 [N+1], memory-mapped as all are.
        tokens: int32 [nnz], 0 <= token < num_tokens.
        weights: float32 [nnz], or None where all are 1.
        num_tokens: V, the size of the vocabulary or the number of hash buckets.
    """

    name: str
    fingerprint: str
    offsets: Array
    tokens: Array
    weights: Array | None
    num_tokens: int


Feature = DenseFeature | BagFeature


def prepare_features(
    dataset: DatasetConfig, paths: PathsConfig, prepared: Dataset, selected: list[str] | None
) -> dict[str, Feature]:
    """The selected features in this order (None: all, as declared); fitted now unless they exist.

    If no feature is declared, every item property is one, and uninformative ones are skipped.

    Raises:
        UserError: an unknown name, a setting without effect, missing or bad values, a damaged
            folder. Nothing half-written is left on disk.
    """
    table = item_table_folder(dataset, paths, prepared)
    declared = _declared(dataset, table)
    names = list(declared) if selected is None else selected
    if not declared:
        raise UserError(
            f"dataset {dataset.name} has no item features; declare dataset.features or take "
            "model=id_only"
        )
    for name in names:
        if name not in declared:
            known = suggest(name, declared)
            raise UserError(f"dataset {dataset.name} has no feature '{name}'{known}")
    if len(set(names)) < len(names):
        raise UserError(f"selected_features={names} names a feature twice")
    for name in dataset.features or names:
        _check(name, declared[name], list(declared))
    found: dict[str, Feature] = {}
    for name in names:
        try:
            found[name] = _prepare_one(name, declared[name], paths, prepared, table)
            if selected is None and not dataset.features:
                _refuse_constant(found[name])
        except Uninformative as error:
            found.pop(name, None)
            if selected is not None or dataset.features:
                raise UserError(f"{error} ({_without(name, list(declared), dataset)})") from error
            log.warning("feature %s is skipped: %s", name, error)
    if not found:
        raise UserError(
            f"dataset {dataset.name} has no informative item features; declare "
            "dataset.features or use model=id_only"
        )
    return found


def _refuse_constant(feature: Feature) -> None:
    """Refuse a bag of one token that every item has."""
    if isinstance(feature, DenseFeature) or feature.num_tokens > 1:
        return
    if np.diff(feature.offsets).min() > 0:
        raise Uninformative("all items have the same value, so it carries no information")


def _without(name: str, declared: list[str], dataset: DatasetConfig) -> str:
    """The settings that leave a feature out."""
    others = ",".join(other for other in declared if other != name)
    if not others:
        return "model=id_only"
    if dataset.features:
        return f"selected_features=[{others}]"
    return f"selected_features=[{others}], or dataset.item_table.columns=[{others}]"


def has_features(dataset: DatasetConfig, paths: PathsConfig, prepared: Dataset) -> bool:
    """Whether the data set has any item feature."""
    return bool(_declared(dataset, item_table_folder(dataset, paths, prepared)))


def _declared(dataset: DatasetConfig, table: Path | None) -> dict[str, FeatureConfig]:
    return dataset.features or {name: FeatureConfig() for name in properties(table)}


def _prepare_one(
    name: str, config: FeatureConfig, paths: PathsConfig, prepared: Dataset, table: Path | None
) -> Feature:
    prefix = f"dataset.features.{name}"
    items = Items(prepared.item_ids, prepared.num_train_items)
    if config.file is None:
        source = item_table_source(name, config, table, items)
        kind = config.kind or kind_of(table, source.key["properties"][0][0])
    else:
        source = file_source(name, config, paths, items)
        kind = config.kind or kind_of_file(prefix, config.file)
    fit = lookup(f"{prefix}.kind", KINDS, kind)
    settings = check_parameters(prefix, f"kind={kind}", fit, config.parameters)
    key = {"feature": name, "kind": kind, "settings": settings, "source": source.key}
    fingerprint = fingerprint_of({"version": VERSION, **key})
    folder = prepared.folder / "features" / f"{name}-{fingerprint}"
    if not folder.exists():
        with new_folder(folder) as temporary, named(prefix):
            columns, counts = source.read()
            if config.kind is None and kind == "category":
                warn_of_text(prefix, columns[0])
            counts |= fit(columns, items, temporary, **settings)
            manifest = {
                "format": FORMAT,
                "version": VERSION,
                "fingerprint": fingerprint,
                "dataset": prepared.fingerprint,
                **key,
                "counts": counts,
                "arrays": _arrays(temporary),
                "vocabulary": (temporary / VOCABULARY).exists(),
            }
            (temporary / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
        log.info("%s", _describe(name, kind, counts))
    return open_feature(folder, name, fingerprint, prepared)


def open_feature(folder: Path, name: str, fingerprint: str, prepared: Dataset) -> Feature:
    """Open the folder of a feature after checking that it is complete and the expected one.

    Raises:
        UserError: the folder is damaged, incomplete or something else; says how to recover.
    """
    remedy = f"delete {folder} to have it fitted again"
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        if manifest["format"] != FORMAT:
            raise UserError(f"{folder} is not a feature of p_rnn; {remedy}")
        if (manifest["fingerprint"], manifest["dataset"]) != (fingerprint, prepared.fingerprint):
            raise UserError(f"{folder} belongs to other settings or another data set; {remedy}")
        # mode c (copy-on-write), because PyTorch warns about read-only arrays
        arrays = {n: np.load(folder / f"{n}.npy", mmap_mode="c") for n in manifest["arrays"]}
        words = (folder / VOCABULARY).exists()
        if (_arrays(folder), words) != (manifest["arrays"], manifest["vocabulary"]):
            raise UserError(f"{folder} does not match its manifest; {remedy}")
        if "values" in arrays:
            if len(arrays["values"]) != prepared.num_items:
                raise UserError(f"{folder}/values.npy has the wrong length; {remedy}")
            return DenseFeature(name, fingerprint, arrays["values"])
        bag = BagFeature(
            name,
            fingerprint,
            arrays["offsets"],
            arrays["tokens"],
            arrays.get("weights"),
            int(manifest["counts"]["num_tokens"]),
        )
        sizes = (len(bag.offsets) - 1, int(bag.offsets[-1]))
        if sizes != (prepared.num_items, len(bag.tokens)):
            raise UserError(f"{folder}/offsets.npy does not fit the other files; {remedy}")
        return bag
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{folder} is damaged ({type(error).__name__}: {one_line(error)}); {remedy}"
        ) from error


def _check(name: str, config: FeatureConfig, declared: list[str]) -> None:
    """Refuse invalid or reserved names, and values out of range."""
    others = ",".join(other for other in declared if other != name)
    fix = (
        f"declare it under another name, with columns: ['{name}'], or leave it out "
        f"(dataset.item_table.columns=[{others}])"
    )
    if not re.fullmatch(r"\w[\w\-]*", name):
        raise UserError(
            f"dataset.features: '{name}' names a folder and a setting, so use letters, digits, _ "
            f"and - only; {fix}"
        )
    if name in RESERVED:
        raise UserError(f"dataset.features: '{name}' is reserved for networks; {fix}")
    check_ranges(config, f"dataset.features.{name}.")
    if config.columns == []:
        raise UserError(
            f"dataset.features.{name}.columns is empty; name a column or set it to null"
        )


def _arrays(folder: Path) -> dict[str, Any]:
    """Shape and type of each array in `folder`."""
    arrays = {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}
    return {n: {"shape": list(a.shape), "dtype": str(a.dtype)} for n, a in arrays.items()}


def _describe(name: str, kind: str, counts: dict[str, int]) -> str:
    parts = [f"{counts['with_value']:,} items have a value, {counts['missing']:,} do not"]
    if "num_tokens" in counts:
        parts.append(f"{counts['num_tokens']:,} tokens")
    if "dropped_tokens" in counts:
        parts.append(f"{counts['dropped_tokens']:,} dropped (too rare, or not seen in training)")
    if "rows" in counts:
        parts.append(
            f"{counts['rows_of_other_items']:,} of {counts['rows']:,} rows are of other items"
        )
    return f"feature {name} ({kind}): {'; '.join(parts)}"
