"""PRNN = recurrent subnets side by side + a merge of their states into one score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from p_rnn.models.ahead import Ahead
from p_rnn.models.gru import GRU
from p_rnn.models.mean import Mean
from p_rnn.models.merges import Candidates, Learners, Merge, learns
from p_rnn.models.table import Items, Table

State = tuple[Tensor, ...]


class Subnet(nn.Module):
    """Views of the items and the GRU that reads them: a = sum_i w_i a_i.

    Several inputs are the paper's concatenation: [w_1 e; w_2 phi] W = w_1 e W_1 + w_2 phi W_2 (P).
    """

    def __init__(
        self, inputs: Sequence[nn.Module], weights: Sequence[float], gru: GRU | Mean
    ) -> None:
        super().__init__()
        self.inputs = nn.ModuleList(inputs)
        self.weights = list(weights)
        self.gru = gru

    def _gate_inputs(self, items: Tensor, repeat: Tensor | None) -> Tensor:
        total: Tensor | None = None
        for weight, read in zip(self.weights, self.inputs, strict=True):
            a = read(items, repeat)
            a = a if weight == 1 else weight * a
            total = a if total is None else total + a
        assert total is not None
        return total

    def forward(self, items: Tensor, state: State) -> State:
        """The layers' states after one more item [B]."""
        new: State = self.gru(self._gate_inputs(items, None), state)
        return new

    def scan(self, items: Tensor, repeat: Tensor, widths: Sequence[int]) -> Tensor:
        """The top layer's output [P, H] at all places of packed sequences (`GRU.scan`)."""
        return self.gru.scan(self._gate_inputs(items, repeat), widths)


class PRNN(nn.Module):
    """K subnets and a merge.

    It is a `Ranker` (p_rnn.evaluation.ranking): `begin`, `step` and `scores`. Its state is the
    tuple of all layers' hidden states [B, H_k], subnet after subnet. `learners` says which subnets
    learn: the others run without gradients and without dropout, and nothing that they own gets a
    gradient.
    """

    def __init__(self, num_items: int, subnets: Mapping[str, Subnet], merge: Merge) -> None:
        super().__init__()
        self.num_items = num_items
        self.names = tuple(subnets)
        self.subnets = nn.ModuleList(subnets.values())
        self.merge = merge
        self.in_score = len(self.names)

    def use(self, in_score: int) -> None:
        """Have only the first `in_score` subnets run and count (a stage of `residual`)."""
        assert 1 <= in_score <= len(self.names)
        self.in_score = in_score

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def tables(self) -> dict[str, Table]:
        """Every table once, by name (an embedding that serves input and output is one table)."""
        return {n: m for n, m in self.named_modules() if isinstance(m, Table)}

    def ahead(self, learners: Learners = None) -> list[Ahead]:
        """The modules of the subnets that run for which numbers are to be made ahead of a step."""
        return [
            module
            for k, subnet, _ in self._active()
            for module in subnet.modules()
            if isinstance(module, Ahead) and module.wanted(learns(k, learners))
        ]

    def owners(self) -> dict[str, int | None]:
        """Parameter name -> number of the subnet that owns it, or None where it is shared.

        What serves a subnet and the merge at once, as the matrix of model.input=shared, is shared.
        In an update in which that subnet rests, such a matrix learns from its part in the scores
        alone, because nothing is propagated back through a subnet that rests (R).
        """
        owner: dict[nn.Parameter, int | None] = {}
        for k, subnet in enumerate(self.subnets):
            owner.update(dict.fromkeys(subnet.parameters(), k))
        for p, its_owner in self.merge.owned().items():
            owner[p] = None if p in owner else its_owner
        return {name: owner.get(p) for name, p in self.named_parameters()}

    def _active(self) -> list[tuple[int, Subnet, slice]]:
        """The subnets that run: number, module, and where its layers stand in the state."""
        found, at = [], 0
        for k in range(self.in_score):
            subnet = self.subnets[k]
            assert isinstance(subnet, Subnet)
            found.append((k, subnet, slice(at, at + len(subnet.gru.layers))))
            at += len(subnet.gru.layers)
        return found

    def begin(self, batch: int) -> State:
        """Zero states for `batch` sessions."""
        like = next(self.parameters())
        return tuple(
            like.new_zeros(batch, subnet.gru.hidden_size)
            for _, subnet, _ in self._active()
            for _ in subnet.gru.layers
        )

    def advance(self, items: Tensor, state: State, learners: Learners = None) -> State:
        """The state after one more item [B] in every session."""
        grad = torch.is_grad_enabled()
        new: list[Tensor] = []
        for k, subnet, at in self._active():
            with torch.set_grad_enabled(grad and learns(k, learners)):
                new += subnet(items, state[at])
        return tuple(new)

    def read(
        self, items: Tensor, widths: Sequence[int], picks: Tensor, learners: Learners = None
    ) -> list[Tensor]:
        """Hidden states h_k [M, H_k] at `picks` [M] of packed sequences that start from zero.

        Args:
            items: [P], step after step, longest sequence first; `widths`: as in `GRU.scan`.
        """
        grad = torch.is_grad_enabled()
        distinct, repeat = torch.unique(items, return_inverse=True)  # the CPU waits for the GPU
        hidden = []
        for k, subnet, _ in self._active():
            with torch.set_grad_enabled(grad and learns(k, learners)):
                hidden.append(subnet.scan(distinct, repeat, widths).index_select(0, picks))
        return hidden

    def step(self, items: Tensor, state: State, active: Tensor) -> State:
        """`advance` where `active` (bool [B]); the other sessions keep their state."""
        new = self.advance(torch.where(active, items, 0), state)
        keep = ~active[:, None]
        return tuple(torch.where(keep, old, h) for old, h in zip(state, new, strict=True))

    def hidden(self, state: State) -> list[Tensor]:
        """h_k [B, H_k]: the top layer's state of each subnet."""
        return [state[at.stop - 1] for _, _, at in self._active()]

    def merged(self, hidden: Sequence[Tensor], items: Items, learners: Learners = None) -> Tensor:
        """Scores [B, C] of candidate items from the subnets' hidden states."""
        scores: Tensor = self.merge(hidden, items, learners)
        return scores

    def candidates(
        self, hidden: Sequence[Tensor], items: Items, learners: Learners = None
    ) -> Candidates:
        """What `merged` makes scores of."""
        assert isinstance(self.merge, Merge)
        return self.merge.candidates(hidden, items, learners)

    def scores(self, state: State, items: Items) -> Tensor:
        """Scores [B, C] of candidate items: a slice, [C], or [B, C]."""
        return self.merged(self.hidden(state), items)

    def select(self, state: State, other: State, subnets: Learners) -> State:
        """`state`, but the layers of these subnets from `other`."""
        mixed = list(state)
        for k, _, at in self._active():
            if learns(k, subnets):
                mixed[at] = other[at]
        return tuple(mixed)
