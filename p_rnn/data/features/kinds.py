"""The kinds of features: how raw values become arrays, fitted on the training items only.

A kind is a function `kind(columns, items, folder, **settings) -> counts` that writes the arrays
of a dense feature (`values.npy`) or of a bag (`offsets.npy`, `tokens.npy`, maybe `weights.npy`
and `vocabulary.json`) into `folder`. Its keyword-only parameters are the settings that
it takes. `KINDS` at the end names them.
"""

from __future__ import annotations

import importlib
import os
import zlib
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from p_rnn.data.features.bags import (
    distinct_tokens,
    save_bag,
    save_vocabulary,
    write_vocabulary_bag,
)
from p_rnn.data.features.values import (
    BLOCK_BYTES,
    Array,
    Column,
    Items,
    as_rows,
    as_texts,
    as_tokens,
    presence,
)
from p_rnn.ragged import row_of_each
from p_rnn.settings.declare import about
from p_rnn.settings.errors import Uninformative, UserError

Counts = dict[str, int]

Normalize = Annotated[bool, about("L2-normalise each vector")]
Log = Annotated[bool, about("log(1 + x) before scaling")]
MinDf = Annotated[int, about("drop tokens of fewer items", low=1)]
MaxDf = Annotated[float, about("drop tokens of a larger share of items", above=0, high=1)]
MaxTokens = Annotated[int | None, about("keep only the most frequent tokens", low=1)]
ValueSeparator = Annotated[
    str | None, about("separator of values in a text column; null: whitespace")
]
Ngrams = Annotated[int, about("longest n-gram, in words", low=1, high=3)]
StopWords = Annotated[bool, about("leave out common English words")]
NumBuckets = Annotated[int, about("number of hash buckets", low=2)]


def vector(
    columns: list[Column], items: Items, folder: Path, *, normalize: Normalize = False
) -> Counts:
    """Vectors of several columns side by side, [N, D]; a missing one is zero.

    float16 stays float16, anything else becomes float32. The array is never in memory as a whole.

    Raises:
        UserError: a number that is not finite, or an item with values in only some columns.
    """
    parts = [as_rows(column, items) for column in columns]
    half = all(part.values.dtype == np.float16 for part in parts)
    ends = np.cumsum([part.values.shape[1] for part in parts])
    out = _reserve(folder / "values.npy", (len(items), int(ends[-1])), "<f2" if half else "<f4")
    has = np.zeros((len(parts), len(items)), dtype=bool)
    for k, part in enumerate(parts):
        for rows, at, values in part.blocks():
            with np.errstate(over="ignore"):  # overflows are refused as infinities below
                block = values.astype(out.dtype, copy=False)
            finite = np.isfinite(block).all(axis=1)
            if not finite.all():
                bad = int(np.argmin(finite))
                where = part.where(int(rows[bad]), items.ids[at[bad]])
                raise UserError(f"{where} contains NaN or an infinite value; fix or remove it")
            out[at, ends[k] - block.shape[1] : ends[k]] = block
            has[k, at] = True
    partly = np.flatnonzero(has.any(axis=0) & ~has.all(axis=0))
    if len(partly):
        item = items.ids[partly[0]]
        labels = [parts[k].label for k in np.flatnonzero(~has[:, partly[0]])]
        raise UserError(
            f"item '{item}' has a value in some columns of its vector, but not in {labels[0]}; "
            "complete it, or make each column a feature of its own"
        )
    if normalize:
        step = max(1, BLOCK_BYTES // max(1, 4 * out.shape[1]))
        for low in range(0, len(out), step):
            out[low : low + step] = _unit(out[low : low + step])
    out.flush()
    return presence(has[0], items)


def number(columns: list[Column], items: Items, folder: Path, *, log: Log = False) -> Counts:
    """float32 [N, D]: each column standardised to mean 0 and standard deviation 1; missing = 0.

    Raises:
        UserError: infinite values, values <= -1 with `log`, or a constant column.
    """
    scaled = []
    for column in columns:
        part = as_rows(column, items)
        x = np.full((len(items), part.values.shape[1]), np.nan)
        for rows, at, values in part.blocks():
            bad = np.isinf(values) | (values <= -1 if log else False)
            if bad.any():
                row, d = (int(v[0]) for v in np.nonzero(bad))
                where = part.where(int(rows[row]), items.ids[at[row]])
                limit = "above -1 (log=true)" if log else "finite"
                raise UserError(f"{where} is {values[row, d]:g}; numbers must be {limit}")
            x[at] = values
        scaled.append(_scaled(np.log1p(x) if log else x, items.num_train, part.label))
    values = np.concatenate(scaled, axis=1)
    has = np.asarray(~np.isnan(values).all(axis=1))
    np.save(folder / "values.npy", np.nan_to_num(values))
    return presence(has, items)


def category(
    columns: list[Column],
    items: Items,
    folder: Path,
    *,
    min_df: MinDf = 1,
    max_tokens: MaxTokens = None,
) -> Counts:
    """A bag of one token.

    Raises:
        UserError: several columns, a list, or no token left.
    """
    if len(columns) > 1:
        labels = ", ".join(column.label for column in columns)
        raise UserError(f"kind=category takes one column, not {labels}; use kind=tags")
    tokens = as_tokens(columns[0], items, lambda text: [text], lists=False)
    return write_vocabulary_bag(tokens, items, folder, min_df, max_tokens)


def tags(
    columns: list[Column],
    items: Items,
    folder: Path,
    *,
    separator: ValueSeparator = None,
    min_df: MinDf = 1,
    max_tokens: MaxTokens = None,
) -> Counts:
    """A bag of the distinct tokens of an item.

    Raises:
        UserError: a separator without a text to split, or no token left.
    """
    tokens = distinct_tokens(columns, items, separator)
    return write_vocabulary_bag(tokens, items, folder, min_df, max_tokens)


def hashed(
    columns: list[Column],
    items: Items,
    folder: Path,
    *,
    num_buckets: NumBuckets,
    separator: ValueSeparator = None,
) -> Counts:
    """A bag of the distinct tokens numbered by crc32(token) mod `num_buckets`; weights add up."""
    tokens = distinct_tokens(columns, items, separator)
    item = row_of_each(np.array([len(t) for t in tokens]))  # [tokens of all items]
    hashes = [
        zlib.crc32(token.encode("utf-8", "surrogatepass")) % num_buckets
        for bag in tokens
        for token in bag
    ]
    cells = item * num_buckets + np.array(hashes, dtype=np.int64)
    cells, weights = np.unique(cells, return_counts=True)
    counts = presence(np.array([bool(bag) for bag in tokens]), items)
    save_bag(folder, cells // num_buckets, cells % num_buckets, len(items), weights)
    return {**counts, "num_tokens": num_buckets}


def text(
    columns: list[Column],
    items: Items,
    folder: Path,
    *,
    ngrams: Ngrams = 2,
    stop_words: StopWords = True,
    min_df: MinDf = 1,
    max_df: MaxDf = 1.0,
    max_tokens: MaxTokens = None,
) -> Counts:
    """A bag of word n-grams for n = 1..`ngrams`, weighted by tf-idf and L2-normalised.

    tf-idf = count * (1 + log((1 + n) / (1 + items with the token))), n being the number of training
    items with a text. The matrix is sparse throughout.

    Raises:
        UserError: no scikit-learn, or no token left.
    """
    parts = [as_texts(column, items) for column in columns]
    texts = ["\n".join(filter(None, row)) for row in zip(*parts, strict=True)]
    has = np.array([bool(t) for t in texts])
    counts = presence(has, items)
    fit, rest = np.flatnonzero(has[: items.num_train]), np.flatnonzero(has)
    rest = rest[len(fit) :]
    vectorizer = _tfidf(
        ngram_range=(1, ngrams),
        stop_words="english" if stop_words else None,
        min_df=min_df,
        max_df=float(max_df),  # scikit-learn would read an integer as a number of items
        max_features=max_tokens,
        dtype=np.float32,
    )
    try:
        bags = [vectorizer.fit_transform([texts[i] for i in fit])]
    except ValueError as error:
        raise UserError(
            f"no token is left ({' '.join(str(error).split())}); lower min_df, raise max_df or "
            "set stop_words=false"
        ) from None
    known, analyze = vectorizer.vocabulary_, vectorizer.build_analyzer()
    pruned = min_df > 1 or max_df < 1 or max_tokens is not None
    looked_at = (
        np.concatenate([fit, rest]) if pruned else rest
    )  # otherwise only these can have unknown tokens
    dropped = {token for i in looked_at for token in analyze(texts[i]) if token not in known}
    if len(rest):
        bags.append(vectorizer.transform([texts[i] for i in rest]))
    lengths = np.concatenate([np.diff(bag.indptr) for bag in bags])
    item = np.repeat(np.concatenate([fit, rest]), lengths)
    tokens = np.concatenate([bag.indices for bag in bags])
    weights = np.concatenate([bag.data for bag in bags])
    save_bag(folder, item, tokens, len(items), weights)
    save_vocabulary(folder, vectorizer.get_feature_names_out().tolist())
    return {**counts, "dropped_tokens": len(dropped), "num_tokens": len(known)}


KINDS: dict[str, Any] = {
    "vector": vector,
    "number": number,
    "category": category,
    "tags": tags,
    "text": text,
    "hashed": hashed,
}


def _tfidf(**settings: Any) -> Any:
    try:
        module = importlib.import_module("sklearn.feature_extraction.text")
    except ImportError:
        raise UserError("kind=text needs scikit-learn: pip install scikit-learn") from None
    return module.TfidfVectorizer(**settings)


def _reserve(path: Path, shape: tuple[int, int], dtype: str) -> np.memmap[Any, Any]:
    """A new array of zeros on disk, memory-mapped."""
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
    if hasattr(
        os, "posix_fallocate"
    ):  # so that a full disk is an error here and not a SIGBUS later
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return out


def _unit(values: Array) -> Array:
    """[b, D] rows divided by their length; zero rows stay zero.

    Denormal numbers count as zero, whether or not the process flushes them.
    """
    x = values.astype(np.float32)
    tiny = np.finfo(np.float32).tiny
    x[np.abs(x) < tiny] = 0
    x /= np.maximum(np.abs(x).max(axis=1, keepdims=True), tiny)
    length = np.sqrt(np.einsum("nd,nd->n", x, x))[:, None]  # 0, or between 1 and sqrt(D)
    return np.asarray(x / np.where(length > 0, length, 1))


def _scaled(x: Array, num_train: int, label: str) -> Array:
    """[N, D] with mean 0 and standard deviation 1 over the training items that have a value."""
    scaled = np.empty_like(x, dtype=np.float32)
    for d in range(x.shape[1]):
        train = x[:num_train, d]
        train = train[~np.isnan(train)]
        column = f"{label}, column {d + 1}," if x.shape[1] > 1 else label
        if len(train) == 0:
            raise Uninformative(f"{column} has no value for any training item; leave it out")
        if train.min() == train.max():
            raise Uninformative(
                f"{column} is constant ({train[0]:g}) over the training items that have it, so it "
                "carries no information; leave it out"
            )
        unit = np.abs(train).max()  # divided out first, so that no square overflows
        mean, std = (train / unit).mean(), (train / unit).std()
        with np.errstate(over="ignore"):  # overflows are refused as infinities below
            scaled[:, d] = (x[:, d] / unit - mean) / std
        if np.isinf(scaled[:, d]).any():
            raise UserError(
                f"{column} has a value too far from those of training items to be scaled; fix it"
            )
    return scaled
