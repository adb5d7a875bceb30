"""Bags of tokens: the tokens of each item become a vocabulary and arrays on disk."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from p_rnn.data.features.values import Array, Column, Items, Objects, as_tokens, presence
from p_rnn.ragged import offsets_of, row_of_each
from p_rnn.settings.errors import UserError


def distinct_tokens(columns: list[Column], items: Items, separator: str | None) -> list[list[str]]:
    """The distinct tokens of each item over all columns, in order; texts are split.

    Raises:
        UserError: a separator without a text to split, or values that are not tokens.
    """
    if separator == "":
        raise UserError("separator is empty; set a character, or null to split at whitespace")
    # Items that come later may have lists, whatever the fitted ones had.
    if (
        items.num_train
        and separator is not None
        and all(
            isinstance(column, Objects)
            and all(isinstance(value, list) for value in column.values if value is not None)
            for column in columns
        )
    ):
        raise UserError("separator has no effect on lists; leave it out or set it to null")
    parts = [as_tokens(c, items, lambda t: t.split(separator), lists=True) for c in columns]
    return [list(dict.fromkeys(itertools.chain(*bags))) for bags in zip(*parts, strict=True)]


def write_vocabulary_bag(
    bags: list[list[str]],
    items: Items,
    folder: Path,
    fitted: dict[str, Any],
    min_df: int,
    max_tokens: int | None,
) -> dict[str, int]:
    """Number the tokens of the training items by descending frequency, and write the bag.

    If `fitted` has a "vocabulary" already, its numbers are taken.

    Raises:
        UserError: no training item has a value, or no token occurs in `min_df` of them.
    """
    counts = presence(np.array([bool(bag) for bag in bags]), items)
    item = row_of_each(np.array([len(bag) for bag in bags]))  # [tokens of all items]
    codes, names = pd.factorize(np.array([t for bag in bags for t in bag], dtype=object))
    if "vocabulary" not in fitted:
        df = np.bincount(codes[item < items.num_train], minlength=len(names))
        kept = np.flatnonzero(df >= min_df).tolist()
        order = sorted(kept, key=lambda code: (-df[code], names[code]))[:max_tokens]
        if not order:
            raise UserError(f"no token is left: none occurs in min_df={min_df} training items")
        fitted["vocabulary"] = names[order].tolist()
    words = pd.Index(fitted["vocabulary"], dtype=object)
    number_of = words.get_indexer(pd.Index(names, dtype=object))  # -1: not in the vocabulary
    tokens = number_of[codes]
    save_bag(folder, item[tokens >= 0], tokens[tokens >= 0], len(items))
    dropped = int((number_of < 0).sum())
    return {**counts, "dropped_tokens": dropped, "num_tokens": len(words)}


def save_bag(
    folder: Path, item: Array, tokens: Array, num_items: int, weights: Array | None = None
) -> None:
    """Write a bag from its (item, token, weight) entries, each [nnz], in the order of the items."""
    lengths = np.bincount(item, minlength=num_items)
    np.save(folder / "offsets.npy", offsets_of(lengths))
    np.save(folder / "tokens.npy", tokens.astype(np.int32))
    if weights is not None:
        np.save(folder / "weights.npy", weights.astype(np.float32))
