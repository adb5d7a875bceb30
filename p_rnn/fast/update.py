"""A fast update on a CPU: subnet runners, the merge, a tail for the loss, and the optimizer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from p_rnn.batches import Batch
from p_rnn.fast.gradients import Gradients, Mover
from p_rnn.fast.native import serves
from p_rnn.fast.native.functions import times
from p_rnn.fast.native.tape import Tape, off_tape, recorded
from p_rnn.fast.subnets import AutogradRunner, SubnetRunner, runner_of
from p_rnn.fast.tails import NativeTail, ProductsTail
from p_rnn.models.cells import State
from p_rnn.models.merges import InteractionMerge, Merge, SharedMerge
from p_rnn.models.network import PRNN, Learners, Subnet
from p_rnn.training.step import Update, UpdateResult


def why_not(update: Update) -> str:
    """Why an update has no fast version; empty if it has one."""
    network = update.network
    if type(network) is not PRNN or any(type(s) is not Subnet for s in network.subnets):
        return "the network is not composed of p_rnn's subnets"
    if not isinstance(network.merge, Merge) or type(network.merge).forward is not Merge.forward:
        return f"{type(network.merge).__name__} computes scores in its own way"
    if not all(serves(p) for p in network.parameters()):
        return "not all parameters are float32"
    return ""


class FastUpdate:
    """An `Update` in fewer passes over memory; equal up to the order of summation.

    Updates on full mini-batches are recorded once for each set of learners, and then replayed.

    Args:
        native: compute scores and loss in C++, too.
    """

    def __init__(self, update: Update, native: bool) -> None:
        self.update, self.network = update, update.network
        self.tail = NativeTail(update) if native else ProductsTail(update)
        subnets = [s for s in self.network.subnets if isinstance(s, Subnet)]
        self.runners = {subnet: runner_of(subnet) for subnet in subnets}
        self.windows: dict[Subnet, SubnetRunner] = {s: AutogradRunner(s) for s in subnets}
        self.mover = Mover(update)
        self.tapes: dict[tuple[object, ...], tuple[Tape, UpdateResult] | None] = {}
        self.parameters = list(self.network.parameters())
        self.where: list[int] = []
        # Slots that were replaced are at other addresses.
        update.optimizer.register_load_state_dict_post_hook(lambda _: self.tapes.clear())

    @staticmethod
    def compiles(update: Update) -> bool:
        """Whether the loss is compiled."""
        return NativeTail.serves(update)

    @torch.no_grad()
    def __call__(
        self, batch: Batch, state: State, learners: Learners, measure: bool = False
    ) -> UpdateResult:
        """As `Update.__call__`; the state is overwritten by the next call for these learners."""
        if measure or not batch.full:
            return self._update(batch, state, learners, measure)
        key = (learners, self.network.in_score, batch.inputs.shape)
        where = [p.data_ptr() for p in self.parameters]
        if where != self.where:  # a parameter was moved to other memory
            self.where = where
            self.tapes.clear()
        if key not in self.tapes:
            return self._record(key, batch, state, learners)
        kept = self.tapes[key]
        if kept is None:
            return self._update(batch, state, learners, measure)
        tape, done = kept
        lr = float(self.update.optimizer.param_groups[0]["lr"])
        tape.replay(_inputs(batch, state), lr)
        return UpdateResult(done.loss.clone(), done.state)

    def _record(
        self, key: tuple[object, ...], batch: Batch, state: State, learners: Learners
    ) -> UpdateResult:
        tape = Tape()
        with recorded(tape):
            done = self._update(batch, state, learners, measure=False)
        if tape.whole:
            tape.close(_inputs(batch, state))
        self.tapes[key] = (tape, done) if tape.whole else None
        return UpdateResult(done.loss.clone(), done.state)

    def _update(
        self, batch: Batch, state: State, learners: Learners, measure: bool
    ) -> UpdateResult:
        network = self.network
        network.learn(learners)
        active, found = network.active(), Gradients()
        runners = self.runners if batch.repeat is None else self.windows
        hidden: list[Tensor] = []
        after: list[Tensor] = []
        for subnet, at in active:
            own, new = runners[subnet].forward(batch, state[at] if state else ())
            hidden.append(own)
            after += new
        assert isinstance(network.merge, Merge)
        merge = merge_of(network.merge)
        loss, of_queries = self.tail(merge.forward(hidden), batch, found)
        for (subnet, _), gradient in zip(active, merge.backward(of_queries), strict=True):
            if subnet.training:
                runners[subnet].backward(gradient, found)
        found.collect(network)
        if self.update.exchange is not None:
            loss = found.exchange(self.update.exchange, loss)
        norm = self.mover(found, measure)
        return UpdateResult(loss.view(()), tuple(after), norm)


def _inputs(batch: Batch, state: State) -> list[Tensor]:
    items = [] if batch.items is None else [batch.items]
    return [batch.inputs, batch.column, *items, *state]


class Merging:
    """Any merge, with autograd: queries forward, gradients of the hidden states backward."""

    def __init__(self, merge: Merge) -> None:
        self.merge, self.weights = merge, merge.weights

    def forward(self, hidden: Sequence[Tensor]) -> list[Tensor]:
        off_tape()
        self.leaves = [h.detach().requires_grad_() for h in hidden]
        with torch.enable_grad():
            self.queries = self.merge.queries(self.leaves)
        return [q.detach().contiguous() for q in self.queries]

    def backward(self, of_queries: Sequence[Tensor]) -> list[Tensor]:
        torch.autograd.backward(self.queries, list(of_queries))
        return [h.grad for h in self.leaves]  # type: ignore[misc]


class _Parallel(Merging):
    """q_k = w_k h_k"""

    def forward(self, hidden: Sequence[Tensor]) -> list[Tensor]:
        return [_scaled(h, w) for h, w in zip(hidden, self.weights, strict=False)]

    def backward(self, of_queries: Sequence[Tensor]) -> list[Tensor]:
        return [_scaled(g, w) for g, w in zip(of_queries, self.weights, strict=False)]


class _Shared(Merging):
    """q = sum_k w_k h_k"""

    def forward(self, hidden: Sequence[Tensor]) -> list[Tensor]:
        self.count = len(hidden)
        total = times(hidden[0], scale=self.weights[0])
        for h, w in zip(hidden[1:], self.weights[1:], strict=False):
            times(h, scale=w, to=total)
        return [total]

    def backward(self, of_queries: Sequence[Tensor]) -> list[Tensor]:
        return [_scaled(of_queries[0], w) for w in self.weights[: self.count]]


class _Interaction(Merging):
    """q_id = w_id h_id, q_f = w_f h_id * h_f"""

    def forward(self, hidden: Sequence[Tensor]) -> list[Tensor]:
        self.hidden, (first, *others) = list(hidden), hidden
        pairs = zip(others, self.weights[1:], strict=False)
        return [_scaled(first, self.weights[0]), *(times(first, h, w) for h, w in pairs)]

    def backward(self, of_queries: Sequence[Tensor]) -> list[Tensor]:
        first, *others = self.hidden
        of_first = times(of_queries[0], scale=self.weights[0])
        found = [of_first]
        for g, h, w in zip(of_queries[1:], others, self.weights[1:], strict=False):
            times(g, h, w, to=of_first)
            found.append(times(g, first, w))
        return found


def _scaled(x: Tensor, weight: float) -> Tensor:
    return x if weight == 1 else times(x, scale=weight)


def merge_of(merge: Merge) -> Merging:
    kinds = {Merge: _Parallel, SharedMerge: _Shared, InteractionMerge: _Interaction}
    return kinds.get(type(merge), Merging)(merge)
