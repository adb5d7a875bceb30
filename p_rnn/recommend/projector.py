"""The vectors of items for TensorBoard's embedding projector, with labels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p_rnn.recommend.recommender import Recommender

CONFIG = """embeddings {
  tensor_name: "items"
  tensor_path: "tensors.tsv"
  metadata_path: "metadata.tsv"
}
"""
BREAKS = re.compile(r"[\t\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+")  # of columns or lines


def write_projector(
    folder: Path, model: Recommender, vectors: NDArray[np.float32], max_items: int
) -> None:
    """tensors.tsv, metadata.tsv and the file that TensorBoard finds them by.

    Args:
        vectors: [N, D], of the items 0..N-1 of the catalogue, without the bias.
        max_items: only the items with the most training events, the most popular one first.
    """
    support = model.catalogue.support[: len(vectors)]
    at = np.argsort(-support, kind="stable")[:max_items]
    folder.mkdir()
    np.savetxt(folder / "tensors.tsv", vectors[at], fmt="%.6g", delimiter="\t")
    ids = model.catalogue.ids_of(at)
    columns: dict[str, list[Any]] = {"item": ids, "training events": support[at].tolist()}
    for name, values in model.catalogue.labels(at).items():
        columns[name + "_" * (name in columns)] = values
    lines = [columns.keys(), *zip(*columns.values(), strict=True)]
    text = "".join("\t".join(map(_cell, line)) + "\n" for line in lines)
    (folder / "metadata.tsv").write_text(text, encoding="utf-8", errors="replace", newline="")
    (folder / "projector_config.pbtxt").write_text(CONFIG, encoding="utf-8")


def _cell(value: Any) -> str:
    """As text without tabs and line breaks; missing values are empty."""
    return "" if value is None else BREAKS.sub(" ", str(value))
