"""PRNN = subnets + merge, and the architectures as compositions of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from p_rnn.config import Config
from p_rnn.models.gru import GRU
from p_rnn.models.inputs import EmbeddingInput, OneHotInput, embedding_table
from p_rnn.models.merges import Output
from p_rnn.models.table import Items, Table, uniform_
from p_rnn.random import Streams
from p_rnn.registry import lookup

State = tuple[Tensor, ...]


class Subnet(nn.Module):
    """One view of the items and the GRU that reads it."""

    def __init__(self, inputs: nn.Module, gru: GRU) -> None:
        super().__init__()
        self.inputs = inputs
        self.gru = gru

    def forward(self, items: Tensor, state: State) -> State:
        new: State = self.gru(self.inputs(items), state)
        return new


class PRNN(nn.Module):
    """Recurrent subnets side by side and a merge of their hidden states into one score.

    It is a `Ranker` (p_rnn.evaluation.ranking): `begin`, `step` and `scores`. Its state is the
    tuple of all layers' hidden states, each [B, H].
    """

    def __init__(self, num_items: int, subnet: Subnet, merge: Output) -> None:
        super().__init__()
        self.num_items = num_items
        self.subnet = subnet
        self.merge = merge

    @property
    def device(self) -> torch.device:
        return self.merge.table.weight.device

    def tables(self) -> dict[str, Table]:
        """Every table once, by name (an embedding that serves input and output is one table)."""
        return {n: m for n, m in self.named_modules() if isinstance(m, Table)}

    def begin(self, batch: int) -> State:
        """Zero states for `batch` sessions."""
        gru = self.subnet.gru
        like = self.merge.table.weight
        return tuple(like.new_zeros(batch, gru.hidden_size) for _ in gru.layers)

    def advance(self, items: Tensor, state: State) -> State:
        """The state after one more item [B] in every session."""
        new: State = self.subnet(items, state)
        return new

    def step(self, items: Tensor, state: State, active: Tensor) -> State:
        """`advance` where `active` (bool [B]); the other sessions keep their state."""
        new = self.advance(torch.where(active, items, 0), state)
        keep = ~active[:, None]
        return tuple(torch.where(keep, old, h) for old, h in zip(state, new, strict=True))

    def scores(self, state: State, items: Items) -> Tensor:
        """Scores [B, C] of candidate items: a slice, [C], or [B, C]."""
        scores: Tensor = self.merge(state[-1], items)
        return scores


def id_only(config: Config, num_items: int, streams: Streams) -> PRNN:
    """GRU4Rec: item ids in, scores of all items out (Hidasi & Karatzoglou, CIKM 2018)."""
    assert config.hidden_size is not None
    assert config.num_layers is not None
    assert config.dropout_hidden is not None
    hidden = config.hidden_size
    if config.model.input == "shared":
        output = embedding_table(num_items, hidden, "shared", streams)
    else:
        output = Table(num_items, hidden)
        uniform_(output.weight, streams.initial("id/output"))
    inputs: nn.Module
    if config.model.input == "one_hot":
        inputs = OneHotInput(num_items, hidden, "id", streams)
    else:
        assert config.embedding_size is not None
        assert config.dropout_embedding is not None
        table = output
        if config.model.input == "embedding":
            table = embedding_table(num_items, config.embedding_size, "id", streams)
        inputs = EmbeddingInput(table, hidden, config.dropout_embedding, "id", streams)
    gru = GRU(hidden, config.num_layers, config.gru.reset, config.dropout_hidden, "id", streams)
    return PRNN(num_items, Subnet(inputs, gru), Output(output))


MODELS: dict[str, Callable[[Config, int, Streams], PRNN]] = {"id_only": id_only}


def build_network(config: Config, num_items: int, streams: Streams) -> PRNN:
    """The network of a resolved config, over the items that occur in training, on the device."""
    network = lookup("model", MODELS, config.model.name)(config, num_items, streams)
    return network.to(streams.device)
