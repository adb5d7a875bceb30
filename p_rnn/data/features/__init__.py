"""Item features: declared, fitted once, and opened as memory-mapped arrays by item index.

Each feature has a folder `features/<name>-<fingerprint>/` inside the prepared data set whose
training items it was fitted to. The fingerprint covers the settings of its kind and the source of
its values, so that a change re-fits this feature and nothing else.
"""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from p_rnn.data.checksums import write_manifest
from p_rnn.data.dataset import Dataset
from p_rnn.data.features.fitted import FITTED, VOCABULARY, Fitted, StoredState
from p_rnn.data.features.folders import (
    FORMAT,
    VERSION,
    BagFeature,
    DenseFeature,
    Feature,
    add_state,
    arrays_in,
    open_feature,
)
from p_rnn.data.features.kinds import KINDS, fit_kind, takes_new_items
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
from p_rnn.settings.components import check_parameters
from p_rnn.settings.errors import Uninformative, UserError
from p_rnn.settings.registry import lookup, suggest
from p_rnn.settings.sections import DatasetConfig, FeatureConfig, PathsConfig
from p_rnn.settings.tree import check_ranges

__all__ = ["BagFeature", "DenseFeature", "Feature", "Fitted", "has_features", "prepare_features"]
log = logging.getLogger(__name__)
# Names that networks use for something else: ids, shared matrices, GRUs over several inputs.
RESERVED = ("id", "shared", "concat", "features")


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

    def fit_into(temporary: Path) -> dict[str, int]:
        columns, counts = source.read()
        if config.kind is None and kind == "category" and not folder.exists():
            warn_of_text(prefix, columns[0])
        counts |= fit_kind(kind, columns, items, temporary, settings)
        source.refuse_changed()
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "fingerprint": fingerprint,
            "dataset": prepared.fingerprint,
            **key,
            "counts": counts,
            "arrays": arrays_in(temporary),
            "vocabulary": (temporary / VOCABULARY).exists(),
        }
        write_manifest(temporary, manifest)
        return counts

    if not folder.exists():
        with new_folder(folder) as temporary, named(prefix):
            counts = fit_into(temporary)
        log.info("%s", _describe(name, kind, counts))
    feature = open_feature(folder, name, fingerprint, prepared)
    if takes_new_items(fit) and ((folder / FITTED).exists() or add_state(folder, fit_into)):
        fitted = Fitted(kind, settings, source.columns, StoredState(folder))
        return replace(feature, fitted=fitted)
    return feature


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
