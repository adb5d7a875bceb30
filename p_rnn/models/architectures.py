"""The architectures as compositions of inputs, recurrent layers and a merge.

(P) = as in the p-RNN paper (RecSys 2016); (R) = our reading where the paper leaves it open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from p_rnn.models.cells import Mean
from p_rnn.models.dropout import Dropout
from p_rnn.models.inputs import Direct, ItemRows
from p_rnn.models.layers import Layers
from p_rnn.models.merges import InteractionMerge, Merge, ProjectedMerge, SharedMerge
from p_rnn.models.network import PRNN, Subnet
from p_rnn.models.parts import ID, Features, Parts
from p_rnn.models.tables import torch_gru_, xavier_normal_
from p_rnn.settings.config import Settings
from p_rnn.settings.errors import UserError
from p_rnn.settings.registry import lookup, suggest
from p_rnn.settings.sections import SubnetConfig
from p_rnn.streams import Streams


def _single(parts: Parts, name: str, inputs: list[str]) -> PRNN:
    subnet = parts.subnet(name, inputs, weighted=True)
    table = parts.output(ID if parts.tied is not None else name, subnet.layers.hidden_size)
    owner = None if parts.tied is not None else 0
    return PRNN(parts.num_items, {name: subnet}, Merge([table], [owner], [1.0]))


def id_only(parts: Parts) -> PRNN:
    """GRU4Rec: item ids in, scores of all items out (Hidasi & Karatzoglou, CIKM 2018)."""
    return _single(parts, ID, [ID])


def feature_only(parts: Parts) -> PRNN:
    """One GRU over all features (P)."""
    return _single(parts, "features", list(parts.features))


def concat(parts: Parts) -> PRNN:
    """One GRU over the concatenation of ids and features (P)."""
    return _single(parts, "concat", [ID, *parts.features])


def _per_subnet(parts: Parts, merge: type[Merge]) -> PRNN:
    subnets = parts.parallel()
    tables = [parts.output(name, s.layers.hidden_size) for name, s in subnets.items()]
    owners = [None if table is parts.tied else k for k, table in enumerate(tables)]
    weights = [parts.weight(name) for name in subnets]
    return PRNN(parts.num_items, subnets, merge(tables, owners, weights))


def parallel(parts: Parts) -> PRNN:
    """A subnet per input, each with its own output matrix; their scores are summed (P)."""
    return _per_subnet(parts, Merge)


def parallel_interaction(parts: Parts) -> PRNN:
    """As `parallel`, but each feature's hidden state times that of the ids (R)."""
    return _per_subnet(parts, InteractionMerge)


def parallel_shared(parts: Parts) -> PRNN:
    """A subnet per input, and one output matrix for the sum of their hidden states (R)."""
    subnets = parts.parallel()
    hidden = parts.hidden_size(ID)
    table = parts.tied if parts.tied is not None else parts.output("shared", hidden)
    weights = [parts.weight(name) for name in subnets]
    return PRNN(parts.num_items, subnets, SharedMerge([table], [None], weights))


def gru4recf(parts: Parts) -> PRNN:
    """RecBole's GRU4RecF: a linear layer fuses two GRUs; the result is multiplied with E."""
    parts.init, parts.init_cell, parts.cell_bias = xavier_normal_, torch_gru_, False
    parts.feature_dropout = False
    subnets = {
        ID: parts.subnet(ID, [ID], False),
        "features": parts.subnet("features", list(parts.features), False),
    }
    assert parts.tied is not None
    sizes = [s.layers.hidden_size for s in subnets.values()]
    weights = [parts.weight(name) for name in subnets]
    merge = ProjectedMerge(parts.tied, sizes, weights, "projection", parts.streams, parts.init)
    return PRNN(parts.num_items, subnets, merge)


def bpr_mf(parts: Parts) -> PRNN:
    """Matrix factorisation: score_j = E_j . (mean of E_i over the session's items so far) + b_j.

    A baseline in the GRU4Rec papers (ICLR 2016, section 4). They do not say what represents the
    session during training; we use the same mean (R).
    """
    width = parts.config.hidden_size
    table = parts.item_table(width, "shared/embedding")
    layers = Layers([Mean(width)], [Dropout(0.0, parts.streams.running("none"))], [])
    subnet = Subnet([Direct(ItemRows(table))], [1.0], layers)
    return PRNN(parts.num_items, {ID: subnet}, Merge([table], [None], [1.0]))


@dataclass(frozen=True)
class Architecture:
    """How to build an architecture, and what it requires of the settings.

    Attributes:
        reads: which of model.input and model.feature_input it uses; the others must be null.
        single: one GRU reads all inputs, so `subnets` may set only their weights.
        equal_hidden: the merge adds or multiplies hidden states, so their sizes must be equal.
        projected: the merge projects the hidden states to the width of the embedding.
        recurrent: whether it has recurrent cells.
        own: its defaults where they differ from GRU4Rec's, in the form of the YAML files:
            hyper-parameters, `loss`, `optimizer`, `early_stopping`, `input`, `feature_input`.
    """

    build: Callable[[Parts], PRNN]
    reads: tuple[str, ...] = ("input", "feature_input")
    single: bool = False
    equal_hidden: bool = False
    projected: bool = False
    recurrent: bool = True
    own: Mapping[str, Any] = field(default_factory=dict)

    @property
    def defaults(self) -> dict[str, Any]:
        """All defaults of this architecture."""
        inputs = {key: value for key, value in READS.items() if key in self.reads}
        return {**inputs, **self.own}


# Defaults of the paper's and GRU4Rec's networks, in addition to those of the declared settings.
READS = {"input": "shared", "feature_input": "direct"}
# RecBole's published settings of GRU4RecF.
RECBOLE = {
    "feature_input": "embedding",
    "learning_rate": 0.001,
    "hidden_size": 128,
    "embedding_size": 64,
    "dropout_embedding": 0.3,  # on item embeddings only
    "batching": "sequences",
    "batch_size": 2048,
    "stride": 10,
    "negatives": "full",
    "num_epochs": 300,
    "loss": {"name": "cross_entropy"},
    "optimizer": {"name": "adam"},
    "early_stopping": {"patience": 10},
}
FACTORS = {
    "learning_rate": 0.1,
    "batching": "sequences",
    "batch_size": 2048,
    "negatives": "uniform_one",
    "loss": {"name": "bpr", "output": "linear"},
}

MODELS: dict[str, Architecture] = {
    "id_only": Architecture(id_only, reads=("input",), single=True),
    "feature_only": Architecture(feature_only, reads=("feature_input",), single=True),
    "concat": Architecture(concat, single=True),
    "parallel": Architecture(parallel),
    "parallel_shared": Architecture(parallel_shared, equal_hidden=True),
    "parallel_interaction": Architecture(parallel_interaction, equal_hidden=True),
    "gru4recf": Architecture(gru4recf, projected=True, own=RECBOLE),
    "bpr_mf": Architecture(bpr_mf, reads=(), single=True, recurrent=False, own=FACTORS),
}


def check_model(config: Settings) -> None:
    """Check the settings of the model, as far as that is possible without the data set.

    Raises:
        UserError: unknown model, an input that it does not use, or sizes that do not match.
    """
    name, model = config.model.name, config.model
    kind = lookup("model", MODELS, name)
    for key in READS:
        if getattr(model, key) is not None and key not in kind.reads:
            raise UserError(f"model.{key} has no effect on {name}; leave it out")
    if kind.projected and model.input != "shared":
        raise UserError(f"{name} scores with its item embedding: model.input must be shared")
    hidden = config.hidden_size if kind.single else config.hidden_size_of(ID)
    if model.input == "shared" and not kind.projected and config.embedding_size != hidden:
        raise UserError(
            f"model.input=shared has one matrix for input and output: embedding_size="
            f"{config.embedding_size} must equal the hidden_size={hidden} of the id subnet; "
            "leave it out, or set model.input=embedding"
        )
    for subnet, own in config.subnets.items():
        for f in fields(SubnetConfig):
            if kind.single and f.name != "weight" and getattr(own, f.name) is not None:
                raise UserError(
                    f"subnets.{subnet}.{f.name} has no effect: {name} has one GRU for all its "
                    "inputs; leave it out or set it to null"
                )


def _check_subnets(config: Settings, kind: Architecture, features: Features) -> None:
    """Refuse settings of subnets that the network does not have, and sizes that do not match."""
    ids = [ID] if "input" in kind.reads else []
    read = list(features) if "feature_input" in kind.reads else []
    names = [*ids, "features"] if kind.projected else [*ids, *read]
    for subnet in config.subnets:
        if subnet not in names:
            what = f"{config.model.name} has no subnet or input of that name"
            raise UserError(f"subnets.{subnet} has no effect: {what}{suggest(subnet, names)}")
    if kind.equal_hidden:
        own = {n: config.hidden_size_of(n) for n in names}
        if len(set(own.values())) > 1:
            sizes = ", ".join(f"{n} {size}" for n, size in own.items())
            raise UserError(
                f"{config.model.name} needs subnets of equal hidden_size, not {sizes}; "
                "use model=parallel for different sizes"
            )


def build_network(config: Settings, num_items: int, streams: Streams, features: Features) -> PRNN:
    """Build the network of a resolved config on its device.

    Args:
        num_items: N, the items that occur in training.
        features: those that the model reads, by name; empty if it reads none.

    Raises:
        UserError: settings for a subnet that it does not have, or unequal sizes.
    """
    return network_of(Parts(config, num_items, streams, features)).to(streams.device)


def network_of(parts: Parts) -> PRNN:
    """The network of these parts, as `build_network`."""
    config = parts.config
    check_model(config)
    kind = MODELS[config.model.name]
    _check_subnets(config, kind, parts.features)
    return kind.build(parts)
