"""Training on: a network that starts from a checkpoint, on data with other items and tokens.

Rows of items go by raw id and rows of tokens by the vocabulary, wherever they lie now. All other
parameters are copied. Rows of new items:

- an item's own row beside its features (model.output=both) and its bias start at zero, so that the
  item is scored by its features alone;
- in a plain table, the mean of the rows of the known items most similar by features;
- as initialised, where the model reads no features or the item has none that others have.
"""

from __future__ import annotations

import logging
from collections.abc import Container
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from p_rnn.baselines.ranker import TIE_BREAK
from p_rnn.baselines.similar import most_similar
from p_rnn.data.dataset import Dataset
from p_rnn.data.features import BagFeature, DenseFeature, Feature
from p_rnn.models.inputs import PooledRows
from p_rnn.models.merges import Merge
from p_rnn.models.network import PRNN
from p_rnn.models.outputs import FeatureTable
from p_rnn.models.tables import Table
from p_rnn.runs.runtime import checkpoint_at
from p_rnn.runs.stored_items import catalogue_of, prepared_of
from p_rnn.settings.config import Settings
from p_rnn.settings.declare import About
from p_rnn.settings.errors import UserError
from p_rnn.settings.stored import differences_of
from p_rnn.training.checkpoint import load_checkpoint

Array = NDArray[Any]
SIMILAR = 10  # known items whose rows a new one starts from
log = logging.getLogger(__name__)


def check_warm_start(config: Settings) -> None:
    """Check, before anything takes time, that a run can start from its checkpoint.

    Raises:
        UserError: no checkpoint, one of another architecture, or one that needs data that are gone.
    """
    _opened(config)


def warm_start(
    config: Settings, network: PRNN, ids: Array, features: dict[str, Feature], support: Array
) -> None:
    """Start a network from the checkpoint config.warm_start.

    Args:
        network: as initialised.
        ids: raw ids [N] of the items, of which the first n occur in training.
        features: those that the network reads.
        support: int64 [n], training events of each item.

    Raises:
        UserError: as `check_warm_start`; or parameters or features of another size.
    """
    what = f"warm_start={config.warm_start}"
    content, dataset = _opened(config)
    then = catalogue_of(content, dataset)
    there = then.index(ids[: network.num_items])
    there[there >= content["num_items"]] = -1  # known to the data, but never trained
    tokens = {name: _tokens(what, name, then.features[name], features[name]) for name in features}
    by_token = _token_tables(network, tokens)
    by_item = _item_tables(network, by_token)
    _copy(what, network, content["model"], {**dict.fromkeys(by_item, there), **by_token})
    started = _start_new(network, by_item, there >= 0, list(features.values()), support)
    log.info("%s", _told(config, there, started, tokens, features))


def _opened(config: Settings) -> tuple[dict[str, Any], Dataset | None]:
    """The content of the checkpoint, and the data set that it needs."""
    assert config.warm_start is not None
    path = checkpoint_at(config.warm_start)
    stored, content = load_checkpoint(path, mmap=True)
    differs = list(differences_of(stored, config, _of_architecture))
    if differs:
        # Other settings of the model may only follow from what is chosen by name.
        key, then, now = min(differs, key=lambda each: not each[0].startswith(("model.", "cell.n")))
        raise UserError(
            f"warm_start={path} was trained with {key}={then}, not {now}: give the same, or start "
            "without it"
        )
    return content, prepared_of(path, stored, content, config.paths.prepared, "paths.prepared")


def _of_architecture(known: About) -> bool:
    return known["role"] == "model" and not known.get("learning")


def _tokens(what: str, name: str, then: Feature, now: Feature) -> Array | None:
    """int64 [V]: the number in the checkpoint of each token now, or -1; None for a dense feature.

    Raises:
        UserError: the two cannot be told to be the same.
    """
    if isinstance(now, DenseFeature):
        if not isinstance(then, DenseFeature):
            raise UserError(f"{what}: the feature '{name}' had tokens there, and has numbers now")
        if then.values.shape[1] != now.values.shape[1]:
            widths = f"{then.values.shape[1]} columns there, and {now.values.shape[1]} now"
            raise UserError(f"{what}: the feature '{name}' had {widths}")
        return None
    if not isinstance(then, BagFeature):
        raise UserError(f"{what}: the feature '{name}' had numbers there, and has tokens now")
    old, new = (_vocabulary(feature) for feature in (then, now))
    if old is not None and new is not None:
        number = {token: k for k, token in enumerate(old)}
        return np.array([number.get(token, -1) for token in new], dtype=np.int64)
    if then.num_tokens != now.num_tokens:
        raise UserError(
            f"{what}: the feature '{name}' had {then.num_tokens} tokens without names there, and "
            f"has {now.num_tokens} now; give the same dataset.features.{name}.num_buckets"
        )
    return np.arange(now.num_tokens)


def _vocabulary(feature: Feature) -> list[str] | None:
    """The tokens in order of their numbers, if they have names."""
    state = {} if feature.fitted is None else feature.fitted.state
    return state.get("vocabulary")


def _token_tables(network: PRNN, tokens: dict[str, Array | None]) -> dict[nn.Parameter, Array]:
    """{table: int64 [V + 1]}: where each row of the tables of tokens is in the checkpoint."""
    tables: dict[nn.Parameter, Array] = {}
    for module in network.modules():
        if isinstance(module, PooledRows):
            known = tokens[module.bags.name]
            assert known is not None
            tables[module.table.weight] = np.append(known, -1)  # the padding stays zero
    return tables


def _item_tables(network: PRNN, others: Container[nn.Parameter]) -> list[nn.Parameter]:
    """The tables with a row per item, each once; the bias is one of them."""
    tables = [m for m in network.modules() if isinstance(m, Table)]
    found = [t.weight for t in tables if t.num_items == network.num_items]
    return list(dict.fromkeys(weight for weight in found if weight not in others))


@torch.no_grad()
def _copy(
    what: str, network: PRNN, state: dict[str, Tensor], maps: dict[nn.Parameter, Array]
) -> None:
    """Copy the known rows of tables, and everything else.

    Raises:
        UserError: the checkpoint lacks a parameter, or has one more or one of another shape.
    """
    own = network.state_dict(keep_vars=True)
    for key in {**own, **state}:
        shapes = [
            None if node is None else list(node.shape[1:] if own.get(key) in maps else node.shape)
            for node in (state.get(key), own.get(key))
        ]
        if shapes[0] != shapes[1]:
            sizes = " and ".join("missing" if s is None else str(s) for s in shapes)
            raise UserError(f"{what} is of another network: {key} is {sizes}, there and here")
    for key, now in own.items():
        if now not in maps:
            now.copy_(state[key])
            continue
        at = torch.from_numpy(maps[now])
        known = at >= 0
        now[known.to(now.device)] = state[key][at[known]].to(now.device)


# --- new items ----------------------------------------------------------------------------------


@torch.no_grad()
def _start_new(
    network: PRNN,
    tables: list[nn.Parameter],
    known: Array,
    features: list[Feature],
    support: Array,
) -> int:
    """Set the rows of new items; returns how many of them start from their features.

    Args:
        tables: those with a row per item. `known`: bool [n], the items of the checkpoint.
    """
    new = np.flatnonzero(~known)
    if not features or not len(new):
        return 0
    beside = _beside_features(network)
    plain = [table for table in tables if table not in beside]
    described = new[np.any([_has_value(feature, new) for feature in features], axis=0)]
    for table in beside:
        table[torch.from_numpy(described).to(table.device)] = 0.0
    if plain:
        popularity = TIE_BREAK * support / (support.max() + 1)
        similar = most_similar(features, popularity, described, SIMILAR, among=known)
        found = np.diff(similar.offsets) > 0
        with_similar = described[found]
        if not beside:
            described = with_similar
        for table in plain:
            columns, offsets, at = (
                torch.from_numpy(x).to(table.device)
                for x in (similar.columns, similar.offsets[:-1][found], with_similar)
            )
            table[at] = F.embedding_bag(columns, table, offsets, mode="mean")
    return len(described)


def _beside_features(network: PRNN) -> set[nn.Parameter]:
    """The tables of items that only add to what is made of features, and the bias beside them."""
    made = [module for module in network.modules() if isinstance(module, FeatureTable)]
    beside = {table.free.weight for table in made if table.free is not None}
    merge = network.merge
    if isinstance(merge, Merge) and merge.bias is not None and set(merge.tables) & set(made):
        beside.add(merge.bias.weight)
    return beside


def _has_value(feature: Feature, items: Array) -> Array:
    """bool [M]: which of the items have a value of the feature."""
    if isinstance(feature, BagFeature):
        return np.asarray(feature.offsets[items + 1] > feature.offsets[items])
    return np.asarray((feature.values[items] != 0).any(axis=1))


def _told(
    config: Settings,
    there: Array,
    started: int,
    tokens: dict[str, Array | None],
    features: dict[str, Feature],
) -> str:
    """What a user is told of the items and tokens."""
    new = int((there < 0).sum())
    line = f"warm start from {config.warm_start}: "
    line += f"{len(there) - new:,} of {len(there):,} items keep their rows"
    if started:
        line += f", {started:,} new ones start from their features"
    if new - started:
        line += f", {new - started:,} new ones as initialised"
    named = {n: k for n, k in tokens.items() if k is not None and _vocabulary(features[n])}
    known = [f"{(k >= 0).sum():,} of {len(k):,} tokens of {n}" for n, k in named.items()]
    return "; ".join([line, *known])
