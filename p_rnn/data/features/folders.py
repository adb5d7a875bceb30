"""The folder in which a feature is kept: its arrays, its manifest and what its kind has learned."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from p_rnn.data.checksums import (
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
from p_rnn.data.dataset import Dataset
from p_rnn.data.features.fitted import FITTED, VOCABULARY, Fitted
from p_rnn.data.features.values import Array
from p_rnn.settings.errors import UserError

log = logging.getLogger(__name__)
FORMAT = "p_rnn feature"
VERSION = 1  # to be increased when the same values and settings give another result


@dataclass(frozen=True)
class DenseFeature:
    """values: float16 or float32 [N, D], memory-mapped; zero where an item has no value.

    `fitted` is what `features_of_new` needs; None if the kind, or whoever made the feature, does
    not say what it has learned.
    """

    name: str
    fingerprint: str
    values: Array
    fitted: Fitted | None = None


@dataclass(frozen=True)
class BagFeature:
    """Item i has the tokens tokens[offsets[i]:offsets[i + 1]], each at most once.

    Attributes:
        offsets: int64 [N+1], memory-mapped as all are.
        tokens: int32 [nnz], 0 <= token < num_tokens.
        weights: float32 [nnz], or None where all are 1.
        num_tokens: V, the size of the vocabulary or the number of hash buckets.
        fitted: see `DenseFeature`.
    """

    name: str
    fingerprint: str
    offsets: Array
    tokens: Array
    weights: Array | None
    num_tokens: int
    fitted: Fitted | None = None


Feature = DenseFeature | BagFeature


def open_feature(
    folder: Path, name: str, fingerprint: str, prepared: Dataset, whole: bool = False
) -> Feature:
    """Open the folder of a feature after checking that it is whole and the expected one.

    Args:
        whole: see `open_dataset`.

    Raises:
        UserError: the folder is damaged, incomplete or something else, and how to recover; or the
            system does not let us read it.
    """
    remedy = f"delete {folder} to have it fitted again"
    with undamaged(folder, remedy):
        manifest = read_manifest(folder)
        if manifest["format"] != FORMAT:
            raise UserError(f"{folder} is not a feature of p_rnn; {remedy}")
        if (manifest["fingerprint"], manifest["dataset"]) != (fingerprint, prepared.fingerprint):
            raise UserError(f"{folder} belongs to other settings or another data set; {remedy}")
        check_manifest(manifest)
        # mode c (copy-on-write), because PyTorch warns about read-only arrays
        arrays = {n: load_array(folder / f"{n}.npy", "c") for n in manifest["arrays"]}
        words = (folder / VOCABULARY).exists()
        if (arrays_in(folder), words) != (manifest["arrays"], manifest["vocabulary"]):
            raise UserError(f"{folder} does not match its manifest; {remedy}")
        feature: Feature
        if "values" in arrays:
            feature = DenseFeature(name, fingerprint, arrays["values"])
        else:
            parts = (arrays["offsets"], arrays["tokens"], arrays.get("weights"))
            num_tokens = int(manifest["counts"]["num_tokens"])
            feature = BagFeature(name, fingerprint, *parts, num_tokens)
        content = partial(_check_arrays, feature, prepared.num_items)
        check_once(folder, manifest, [f"{n}.npy" for n in arrays], whole, content)
    return feature


def _check_arrays(feature: Feature, num_items: int) -> None:
    """Shapes, types, order and bounds.

    Raises:
        Damage: the first array in which they are wrong.
    """
    if isinstance(feature, DenseFeature):
        values = feature.values
        if len(values) != num_items:
            raise Damage("values.npy has the wrong length")
        check_array("values.npy", values, (num_items, *values.shape[1:2]), "float16", "float32")
        return
    count = len(feature.tokens)
    check_array("offsets.npy", feature.offsets, (num_items + 1,), "int64")
    check_array("tokens.npy", feature.tokens, (count,), "int32")
    check_offsets("offsets.npy", feature.offsets, count)
    check_bounds("tokens.npy", feature.tokens, feature.num_tokens)
    if feature.weights is not None:
        check_array("weights.npy", feature.weights, (count,), "float32")


def arrays_in(folder: Path) -> dict[str, Any]:
    """Shape and type of each array in `folder`."""
    arrays = {path.stem: load_array(path) for path in sorted(folder.glob("*.npy"))}
    return {n: {"shape": list(a.shape), "dtype": str(a.dtype)} for n, a in arrays.items()}


def add_state(folder: Path, fit: Callable[[Path], object]) -> bool:
    """Add what the kind learns to a folder of an older version, which lacks it; its arrays stay.

    Args:
        fit: fits the feature again and writes it into the folder that it is given.

    Returns:
        Whether it could be done; if not, a warning says why.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as place:
            temporary = Path(place)
            fit(temporary)
            if not _equal(temporary, folder):
                raise UserError(
                    "fitting gives something else now, perhaps because of another version of a "
                    f"library; delete {folder} to have it fitted again"
                )
            (temporary / FITTED).replace(folder / FITTED)
    except (OSError, UserError) as error:
        log.warning("%s cannot serve items that come later: %s", folder, error)
        return False
    log.info("%s was fitted by an older version; added what items that come later need", folder)
    return True


def _equal(one: Path, other: Path) -> bool:
    """Whether two folders have arrays of the same shapes and the same vocabulary."""
    words = [path / VOCABULARY for path in (one, other)]
    if arrays_in(one) != arrays_in(other) or words[0].exists() != words[1].exists():
        return False
    return not words[0].exists() or words[0].read_bytes() == words[1].read_bytes()
