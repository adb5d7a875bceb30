"""The items that a checkpoint knows: its own list, or that of the data it was trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from p_rnn.data.catalogue import Catalogue
from p_rnn.data.checksums import read_manifest, undamaged
from p_rnn.data.dataset import Dataset, open_dataset
from p_rnn.data.features import Feature, Fitted
from p_rnn.data.features.fitted import FITTED, StoredState
from p_rnn.data.features.folders import open_feature
from p_rnn.settings.config import Settings
from p_rnn.settings.errors import UserError


def prepared_of(
    path: Path,
    config: Settings,
    content: dict[str, Any],
    prepared: Path | str | None,
    key: str = "prepared",
) -> Dataset | None:
    """The data set that a checkpoint was trained on; None if it is portable and needs none.

    Args:
        config, content: of the checkpoint at `path`.
        prepared: the folder of prepared data; None: where it was. `key`: what sets it.

    Raises:
        UserError: it is missing.
    """
    if "items" in content:
        return None
    folder = Path(prepared or config.paths.prepared)
    folder /= f"{config.dataset.name}-{content['dataset']}"
    if not folder.is_dir():
        raise UserError(
            f"{path} needs the prepared data set {folder.absolute()}, which is missing; give "
            f"{key}=<the folder that it lies in>, or train again with portable=true and load "
            "best.pt or final.pt"
        )
    return open_dataset(folder)


def catalogue_of(content: dict[str, Any], dataset: Dataset | None) -> Catalogue:
    """The items of a checkpoint.

    Args:
        content: of the checkpoint; `dataset`: `prepared_of` it.

    Raises:
        UserError: the folder of a feature is missing or damaged.
    """
    if dataset is None:
        return Catalogue.unpack(content["items"])
    features = {name: _feature(dataset, name, print_) for name, print_ in content["features"]}
    tables = sorted(dataset.folder.glob("items-*"), key=lambda each: each.stat().st_mtime)
    table = tables[-1] if tables else None
    return Catalogue.of(dataset, features, content["with_validation"], table)


def _feature(dataset: Dataset, name: str, fingerprint: str) -> Feature:
    """A feature as it was prepared, with what it needs for items that come later."""
    folder = dataset.folder / "features" / f"{name}-{fingerprint}"
    if not folder.is_dir():
        raise UserError(f"the prepared feature {folder.absolute()} is missing; train again")
    feature = open_feature(folder, name, fingerprint, dataset)
    if not (folder / FITTED).exists():
        return feature
    with undamaged(folder, f"delete {folder} and train again"):
        manifest = read_manifest(folder)
        source = manifest["source"]
        columns = [column for column, _ in source.get("properties", ())]
        columns = columns or source.get("columns") or [name]
        fitted = Fitted(manifest["kind"], manifest["settings"], columns, StoredState(folder))
    return replace(feature, fitted=fitted)
