"""The kinds of features: how raw values become arrays, fitted on the training items only.

A kind is a function `kind(columns, items, folder, fitted, **settings) -> counts` that writes the
arrays of a dense feature (`values.npy`) or of a bag (`offsets.npy`, `tokens.npy`, maybe
`weights.npy`) into `folder`. Its keyword-only parameters are the settings that it takes. `KINDS`
at the end names them.

`fitted` is empty while the kind is fitted, and the kind fills it with what it has learned from the
training items, as plain values; "vocabulary" is the tokens in order of their numbers. For items
that come later the kind is called again, with what it had learned and with `items.num_train` = 0.
"""

from __future__ import annotations

import importlib
import inspect
import zlib
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from p_rnn.data.features.bags import distinct_tokens, save_bag, write_vocabulary_bag
from p_rnn.data.features.dense import number, vector
from p_rnn.data.features.fitted import save_state
from p_rnn.data.features.values import (
    Column,
    Counts,
    Items,
    State,
    as_texts,
    as_tokens,
    presence,
)
from p_rnn.ragged import row_of_each
from p_rnn.settings.declare import about
from p_rnn.settings.errors import UserError

MinDf = Annotated[int, about("drop tokens of fewer items", low=1)]
MaxDf = Annotated[float, about("drop tokens of a larger share of items", above=0, high=1)]
MaxTokens = Annotated[int | None, about("keep only the most frequent tokens", low=1)]
ValueSeparator = Annotated[
    str | None, about("separator of values in a text column; null: whitespace")
]
Ngrams = Annotated[int, about("longest n-gram, in words", low=1, high=3)]
StopWords = Annotated[bool, about("leave out common English words")]
NumBuckets = Annotated[int, about("number of hash buckets", low=2, high=2**31 - 1)]


def category(
    columns: list[Column],
    items: Items,
    folder: Path,
    fitted: State,
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
    return write_vocabulary_bag(tokens, items, folder, fitted, min_df, max_tokens)


def tags(
    columns: list[Column],
    items: Items,
    folder: Path,
    fitted: State,
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
    return write_vocabulary_bag(tokens, items, folder, fitted, min_df, max_tokens)


def hashed(
    columns: list[Column],
    items: Items,
    folder: Path,
    fitted: State,
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
    fitted: State,
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
    has = np.array([bool(t) for t in texts], dtype=bool)
    counts = presence(has, items)
    fit, rest = np.flatnonzero(has[: items.num_train]), np.flatnonzero(has)
    rest = rest[len(fit) :]
    words = fitted.get("vocabulary")
    vectorizer = _tfidf(
        ngram_range=(1, ngrams),
        stop_words="english" if stop_words else None,
        min_df=min_df,
        max_df=float(max_df),  # scikit-learn would read an integer as a number of items
        max_features=max_tokens,
        vocabulary=None if words is None else dict(zip(words, range(len(words)), strict=True)),
        dtype=np.float32,
    )
    bags = []
    if words is None:
        try:
            bags.append(vectorizer.fit_transform([texts[i] for i in fit]))
        except ValueError as error:
            raise UserError(
                f"no token is left ({' '.join(str(error).split())}); lower min_df, raise max_df or "
                "set stop_words=false"
            ) from None
        fitted["vocabulary"] = vectorizer.get_feature_names_out().tolist()
        fitted["idf"] = vectorizer.idf_.tolist()
    else:
        vectorizer.idf_ = np.array(fitted["idf"], dtype=np.float32)
    known, analyze = vectorizer.vocabulary_, vectorizer.build_analyzer()
    pruned = min_df > 1 or max_df < 1 or max_tokens is not None
    looked_at = (
        np.concatenate([fit, rest]) if pruned else rest
    )  # otherwise only these can have unknown tokens
    dropped = {token for i in looked_at for token in analyze(texts[i]) if token not in known}
    if len(rest):
        bags.append(vectorizer.transform([texts[i] for i in rest]))
    none = np.zeros(0, dtype=np.int32)  # if no item has a text
    lengths = np.concatenate([none, *(np.diff(bag.indptr) for bag in bags)])
    item = np.repeat(np.concatenate([fit, rest]), lengths)
    tokens = np.concatenate([none, *(bag.indices for bag in bags)])
    weights = np.concatenate([none.astype(np.float32), *(bag.data for bag in bags)])
    save_bag(folder, item, tokens, len(items), weights)
    return {**counts, "dropped_tokens": len(dropped), "num_tokens": len(known)}


KINDS: dict[str, Any] = {
    "vector": vector,
    "number": number,
    "category": category,
    "tags": tags,
    "text": text,
    "hashed": hashed,
}


def takes_new_items(kind: Any) -> bool:
    """Whether a kind (of a plugin, say) has the parameter `fitted`."""
    return "fitted" in inspect.signature(kind).parameters


def fit_kind(
    kind: str, columns: list[Column], items: Items, folder: Path, settings: dict[str, Any]
) -> Counts:
    """Fit a kind to the training items; writes the arrays, and what it has learned."""
    function = KINDS[kind]
    if not takes_new_items(function):
        return dict(function(columns, items, folder, **settings))
    fitted: State = {}
    counts = function(columns, items, folder, fitted, **settings)
    save_state(folder, kind, fitted, columns)
    return dict(counts)


def _tfidf(**settings: Any) -> Any:
    try:
        module = importlib.import_module("sklearn.feature_extraction.text")
    except ImportError:
        raise UserError("kind=text needs scikit-learn: pip install scikit-learn") from None
    return module.TfidfVectorizer(**settings)
