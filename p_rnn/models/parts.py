"""Building blocks of networks: inputs by name, subnets, output matrices.

(P) = as in the p-RNN paper (RecSys 2016) or GRU4Rec.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import nn

from p_rnn.data.features import BagFeature, Feature
from p_rnn.models.cells import CELLS, Initial, build_cell
from p_rnn.models.dropout import Dropout
from p_rnn.models.features import Bags, DenseRows, FeatureRows
from p_rnn.models.inputs import Direct, Embedded, ItemRows, PooledRows, Projection
from p_rnn.models.layers import Layers
from p_rnn.models.network import Subnet
from p_rnn.models.outputs import FeatureTable, ItemTable
from p_rnn.models.tables import Init, Table, new_table, uniform_
from p_rnn.settings.config import Settings
from p_rnn.settings.registry import lookup
from p_rnn.streams import Streams

Features = Mapping[str, Feature]
ID = "id"  # name of the subnet that reads item ids; the others are named after their features


@dataclass
class Parts:
    """Builds the parts of a network; each draws initial weights from a stream of its own name."""

    config: Settings
    num_items: int
    streams: Streams
    features: Features
    init: Init = uniform_  # initialises embeddings
    init_cell: Init = uniform_
    cell_bias: bool = True
    feature_dropout: bool = True  # dropout_embedding applies to feature embeddings too
    tied: ItemTable | None = field(default=None, init=False)  # E, if input and output share it
    read: dict[str, FeatureRows] = field(default_factory=dict, init=False)

    @property
    def gates(self) -> int:
        """Number of gates of the cell; gate inputs have gates * H columns."""
        return lookup("cell", CELLS, self.config.cell.name).gates

    def weight(self, name: str) -> float:
        return self.config.subnet(name).weight

    def hidden_size(self, name: str) -> int:
        return self.config.hidden_size_of(name)

    def id_input(self, hidden: int) -> nn.Module:
        """The input that reads item ids, chosen by model.input."""
        return lookup("model.input", ID_INPUTS, self.config.model.input)(self, hidden)

    def feature_input(self, name: str, hidden: int) -> nn.Module:
        """The input that reads a feature, chosen by model.feature_input."""
        how = lookup("model.feature_input", FEATURE_INPUTS, self.config.model.feature_input)
        return how(self, name, hidden)

    def embedded(self, view: nn.Module, name: str, hidden: int, dropped: bool) -> nn.Module:
        """Project a view of `embedding_size` columns to gate inputs; `dropped`: after dropout."""
        width, dropout = self.config.embedding_size, self.config.dropout_embedding
        return self.projected(view, width, name, hidden, dropout if dropped else 0.0)

    def projected(
        self, view: nn.Module, width: int, name: str, hidden: int, dropout: float = 0.0
    ) -> Projection:
        """Project a view [B, width] to the gate inputs [B, gates H] by a new matrix W."""
        initial = Initial(name, self.streams, self.init_cell)
        weight = initial.matrix(width, self.gates * hidden, "input", self.gates)
        generator = self.streams.running(f"{name}/dropout_embedding")
        return Projection(view, weight, Dropout(dropout, generator))

    def feature(self, name: str) -> FeatureRows:
        """A feature on the device of the network; one object for all that read it."""
        if name not in self.read:
            feature, device = self.features[name], self.streams.device
            self.read[name] = (
                Bags(feature, self.config.pooling_mode, device)
                if isinstance(feature, BagFeature)
                else DenseRows(feature, device)
            )
        return self.read[name]

    def view(self, name: str, width: int, key: str, gates: int = 1) -> PooledRows | Embedded:
        """A feature in `width` columns: pooled rows of a new table [V + 1, width], or phi E."""
        feature = self.feature(name)
        if isinstance(feature, DenseRows):
            return Embedded(feature, width, key, self.streams, self.init)
        table = self.table(feature.num_tokens, width, key, gates, padding=1)
        return PooledRows(feature, table, self.config.pooling_mode)

    def table(self, rows: int, width: int, key: str, gates: int = 1, padding: int = 0) -> Table:
        return new_table(rows, width, key, self.streams, self.init, gates, padding)

    def item_table(self, width: int, key: str) -> ItemTable:
        """Rows [N, width] of the items, as model.output says (p_rnn/models/outputs.py)."""
        output = self.config.model.output
        free = None if output == "features" else self.table(self.num_items, width, key)
        if output == "free":
            assert free is not None
            return free
        parts = {name: self.view(name, width, f"{key}/{name}") for name in self.features}
        return FeatureTable(self.num_items, width, free, parts)

    def subnet(self, name: str, inputs: list[str], weighted: bool) -> Subnet:
        """Recurrent layers over one or more inputs; `weighted`: scaled by their weights."""
        hidden = self.hidden_size(name)
        made = [
            self.id_input(hidden) if each == ID else self.feature_input(each, hidden)
            for each in inputs
        ]
        weights = [self.weight(each) if weighted else 1.0 for each in inputs]
        return Subnet(made, weights, self.layers(name, hidden))

    def layers(self, name: str, hidden: int) -> Layers:
        """The recurrent layers of a subnet."""
        config = self.config
        num_layers = config.subnet(name).num_layers or config.num_layers
        initials = [
            Initial(f"{name}/{config.cell.name}{k}", self.streams, self.init_cell, self.cell_bias)
            for k in range(num_layers)
        ]
        cells = [build_cell(config.cell, hidden, each) for each in initials]
        above = [] if cells[0].residual else initials[1:]
        return Layers(
            cells,
            [
                Dropout(config.dropout_hidden, self.streams.running(f"{each.name}/dropout_hidden"))
                for each in initials
            ],
            [each.matrix(hidden, self.gates * hidden, "input", self.gates) for each in above],
        )

    def parallel(self) -> dict[str, Subnet]:
        """One subnet for item ids and one for each feature."""
        return {name: self.subnet(name, [name], False) for name in (ID, *self.features)}

    def output(self, name: str, hidden: int) -> ItemTable:
        """Output matrix W [N, H]; for the id subnet it is the shared embedding, if there is one."""
        if self.tied is not None and name == ID:
            return self.tied
        return self.item_table(hidden, f"{name}/output")


def one_hot(parts: Parts, hidden: int) -> nn.Module:
    """A row of W [N, gates H] per item: the paper's 1-of-N vector times W (P)."""
    return Direct(
        ItemRows(parts.table(parts.num_items, parts.gates * hidden, "id/one_hot", parts.gates))
    )


def embedding(parts: Parts, hidden: int) -> nn.Module:
    """E_i W, where the embedding E is used by the input only."""
    table = parts.table(parts.num_items, parts.config.embedding_size, "id/embedding")
    return parts.embedded(ItemRows(table), ID, hidden, dropped=True)


def shared(parts: Parts, hidden: int) -> nn.Module:
    """E_i W, where E is also the output matrix: GRU4Rec's constrained embedding (P)."""
    parts.tied = parts.item_table(parts.config.embedding_size, "shared/embedding")
    return parts.embedded(ItemRows(parts.tied), ID, hidden, dropped=True)


ID_INPUTS: dict[str, Callable[[Parts, int], nn.Module]] = {
    "one_hot": one_hot,
    "embedding": embedding,
    "shared": shared,
}


def direct_feature(parts: Parts, name: str, hidden: int) -> nn.Module:
    """W phi: for a bag, pooled rows of W [V, gates H]; otherwise the dense vector times W."""
    feature = parts.feature(name)
    if isinstance(feature, DenseRows):
        return parts.projected(feature, feature.width, name, hidden)
    return Direct(parts.view(name, parts.gates * hidden, f"{name}/direct", parts.gates))


def embedded_feature(parts: Parts, name: str, hidden: int) -> nn.Module:
    """As `direct_feature`, through `embedding_size` dimensions: pool(E[tokens]) W, or phi E W."""
    view = parts.view(name, parts.config.embedding_size, f"{name}/embedding")
    return parts.embedded(view, name, hidden, dropped=parts.feature_dropout)


FEATURE_INPUTS: dict[str, Callable[[Parts, str, int], nn.Module]] = {
    "direct": direct_feature,
    "embedding": embedded_feature,
}
