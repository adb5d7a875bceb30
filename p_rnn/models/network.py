"""PRNN: parallel recurrent subnets, and a merge of their hidden states into one score."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from p_rnn.batches import Batch
from p_rnn.models.cells import State
from p_rnn.models.layers import Layers
from p_rnn.models.merges import Merge, scores_of
from p_rnn.models.outputs import all_rows
from p_rnn.models.tables import ItemIndex, Table

Learners = Collection[int] | None  # numbers of the subnets that learn; None = all


class Subnet(nn.Module):
    """Inputs, and the recurrent layers that read their weighted sum a = sum_i w_i a_i.

    With several inputs this is the paper's concatenation:
    [w_1 e; w_2 phi] W = w_1 e W_1 + w_2 phi W_2 (P).
    A subnet in evaluation mode is frozen: no gradients and no dropout.
    """

    def __init__(
        self, inputs: Sequence[nn.Module], weights: Sequence[float], layers: Layers
    ) -> None:
        super().__init__()
        self.inputs = nn.ModuleList(inputs)
        self.weights = list(weights)
        self.layers = layers

    @property
    def num_readable(self) -> int:
        """The subnet reads the items 0..num_readable-1: those that any of its inputs can read."""
        views = [getattr(read, "view", read) for read in self.inputs]
        return max(int(getattr(view, "num_items", 0)) for view in views)

    def gate_inputs(self, items: Tensor, repeat: Tensor | None = None) -> Tensor:
        total: Tensor | None = None
        for weight, read in zip(self.weights, self.inputs, strict=True):
            a = read(items, repeat)
            a = a if weight == 1 else weight * a
            total = a if total is None else total + a
        assert total is not None
        return total

    def forward(self, items: Tensor, state: State) -> State:
        """The state of the layers after one more item [B]."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.training):
            new: State = self.layers(self.gate_inputs(items), state)
        return new

    def scan(self, items: Tensor, repeat: Tensor, widths: Sequence[int]) -> Tensor:
        """The top layer's outputs [P, H] at all P positions of packed sequences (`Cell.scan`)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.training):
            return self.layers.scan(self.gate_inputs(items, repeat), widths)


class PRNN(nn.Module):
    """K subnets and a merge.

    Its state is the tuple of all layers' states [B, ...], subnet after subnet. `ranker()` makes a
    `Ranker` (p_rnn.evaluation.ranking) of it; it is one itself for the items it was trained on.

    Attributes:
        num_items: n, the items that occur in training.
        in_score: the score is that of the first `in_score` subnets; the others do not run (`use`).
        learners: the subnets that learn (`learn`).
    """

    def __init__(self, num_items: int, subnets: Mapping[str, Subnet], merge: Merge) -> None:
        super().__init__()
        self.num_items = num_items
        self.names = tuple(subnets)
        self.subnets = nn.ModuleList(subnets.values())
        self.merge = merge
        self.in_score = len(self.names)
        self.learners: Learners = None

    def forward(self, batch: Batch, state: State) -> tuple[Tensor, State]:
        """Scores [M, C] of the candidates of a mini-batch, and the state after its input items."""
        hidden, after = self.read(batch, state)
        scores: Tensor = self.merge(hidden, batch.candidates)
        return scores, after

    def read(self, batch: Batch, state: State) -> tuple[list[Tensor], State]:
        """Hidden states h_k [M, H_k] that predict the targets, and the state after the mini-batch.

        Windows always start from a zero state; for them the given state is returned unchanged.
        """
        if batch.repeat is None:
            after = self.advance(batch.inputs, state)
            return self.hidden(after), after
        assert batch.picks is not None
        outputs = [s.scan(batch.inputs, batch.repeat, batch.widths) for s, _ in self.active()]
        return [each.index_select(0, batch.picks) for each in outputs], state

    def advance(self, items: Tensor, state: State) -> State:
        """The state after one more item [B] in every session."""
        return tuple(h for subnet, at in self.active() for h in subnet(items, state[at]))

    def begin(self, batch: int) -> State:
        """Zero states for `batch` sessions."""
        like = next(self.parameters())
        widths = [width for subnet, _ in self.active() for width in subnet.layers.state_widths]
        return tuple(like.new_zeros(batch, width) for width in widths)

    def step(self, items: Tensor, state: State, active: Tensor) -> State:
        """The state after one more item [B] where `active` (bool [B]); others keep their state.

        An item that occurs in no training event is read by the subnets that read features of it;
        the others keep their state.
        """
        new: list[Tensor] = []
        for subnet, at in self.active():
            reads = active & (items < subnet.num_readable)
            after = subnet(torch.where(reads, items, 0), state[at])
            keep = ~reads[:, None]
            new += [torch.where(keep, old, h) for old, h in zip(state[at], after, strict=True)]
        return tuple(new)

    def hidden(self, state: State) -> list[Tensor]:
        """h_k [B, H_k]: the top layer's output of each subnet."""
        return [state[at.start + subnet.layers.top] for subnet, at in self.active()]

    def scores(self, state: State, items: ItemIndex) -> Tensor:
        """Scores [B, C] of candidate items: a slice, [C], or [B, C]."""
        scores: Tensor = self.merge(self.hidden(state), items)
        return scores

    def ranker(self) -> NetworkRanker:
        """The network as it is now, as a `Ranker` of all items that it can score."""
        return NetworkRanker(self)

    def active(self) -> list[tuple[Subnet, slice]]:
        """The subnets that run, and the slice of the state that belongs to each."""
        found, at = [], 0
        for subnet in self.subnets[: self.in_score]:
            assert isinstance(subnet, Subnet)
            found.append((subnet, slice(at, at + len(subnet.layers.state_widths))))
            at += len(subnet.layers.state_widths)
        return found

    # --- what learns ----------------------------------------------------------------------------

    def use(self, in_score: int) -> None:
        """Run and score with only the first `in_score` subnets (a stage of `residual`)."""
        assert 1 <= in_score <= len(self.names)
        self.in_score = in_score

    def learn(self, learners: Learners) -> None:
        """Let only these subnets and the shared parameters learn; freeze the other subnets.

        A parameter used by both a subnet and the merge, such as the matrix of model.input=shared,
        is shared. In an update in which that subnet is frozen, the matrix gets gradients only as
        the output matrix, because nothing is propagated back through a frozen subnet (R).
        """
        if self.training and learners == self.learners:
            return
        self.learners = learners
        owners = self.owners()
        for name, p in self.named_parameters():
            p.requires_grad_(learners is None or owners[name] is None or owners[name] in learners)
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Set training mode; frozen subnets stay in evaluation mode."""
        super().train(mode)
        for k, subnet in enumerate(self.subnets):
            subnet.train(mode and (self.learners is None or k in self.learners))
        return self

    def owners(self) -> dict[str, int | None]:
        """Parameter name -> index of the subnet that owns it; None if it is shared."""
        owner: dict[nn.Parameter, int | None] = {}
        for k, subnet in enumerate(self.subnets):
            owner.update(dict.fromkeys(subnet.parameters(), k))
        for p, its_owner in self.merge.owned().items():
            owner[p] = None if p in owner else its_owner
        return {name: owner.get(p) for name, p in self.named_parameters()}

    def select(self, state: State, other: State, subnets: Learners) -> State:
        """`state` with the parts of these subnets replaced by those of `other`."""
        mixed = list(state)
        for k, (_, at) in enumerate(self.active()):
            if subnets is None or k in subnets:
                mixed[at] = other[at]
        return tuple(mixed)

    def dense_gradients(self) -> Self:
        """Make tables produce dense gradients [N, D], for tools that do not support sparse ones."""
        for module in self.modules():
            if isinstance(module, Table):
                module.sparse = False
        return self

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device


class NetworkRanker:
    """A network in evaluation mode as a `Ranker`, with the rows of all items computed once.

    Weights that change later have no effect on rows that are computed from features.

    Attributes:
        num_items: it scores the items 0..num_items-1: those that occur in training, or with
            model.output=features and both all that have features.
        num_readable: it reads the items 0..num_readable-1 as input.
    """

    def __init__(self, network: PRNN) -> None:
        self.network = network.eval()
        merge = network.merge
        assert isinstance(merge, Merge)
        queries = self._queries(network.begin(1))
        self.rows = [all_rows(table) for table in merge.tables[: len(queries)]]
        self.num_items = min(len(rows) for rows in self.rows)
        subnets = [subnet for subnet, _ in network.active()]
        self.num_readable = max(subnet.num_readable for subnet in subnets)
        self.bias: Tensor | None = None
        if merge.bias is not None:
            trained = merge.bias.weight.detach().squeeze(1)
            self.bias = trained
            if self.num_items > len(trained):
                self.bias = torch.cat([trained, trained.new_zeros(self.num_items - len(trained))])

    @torch.no_grad()
    def begin(self, batch: int) -> State:
        """Zero states for `batch` sessions."""
        return self.network.begin(batch)

    @torch.no_grad()
    def step(self, items: Tensor, state: State, active: Tensor) -> State:
        """`PRNN.step`."""
        return self.network.step(items, state, active)

    @torch.no_grad()
    def scores(self, state: State, items: slice | Tensor) -> Tensor:
        """Scores [B, C] of candidate items: a slice or [C]."""
        bias = None if self.bias is None else self.bias[items]
        return scores_of(self._queries(state), [rows[items] for rows in self.rows], bias)

    def vectors(self) -> Tensor:
        """[N, D]: a vector per item; its product with a query is the item's score."""
        rows = list(self.rows)
        if self.bias is not None:
            rows.append(self.bias[:, None])
        return torch.cat([each[: self.num_items] for each in rows], dim=1)

    @torch.no_grad()
    def queries(self, state: State) -> Tensor:
        """[B, D]: a vector per session; 1 in the last column, that of the bias, if there is one."""
        queries = self._queries(state)
        if self.bias is not None:
            queries.append(queries[0].new_ones(len(queries[0]), 1))
        return torch.cat(queries, dim=1)

    def _queries(self, state: State) -> list[Tensor]:
        merge = self.network.merge
        assert isinstance(merge, Merge)
        return merge.queries(self.network.hidden(state))
