"""Updates on a GPU: with the loss compiled by torch.compile, or captured in a CUDA graph.

A step of these networks spends most of its time there on kernel launches. Both routes serve full
mini-batches; those with fewer live slots, at the end of a pass, take the plain step. Neither route
has been run on a GPU yet (scripts/gpu_check.sh), so `compile=auto` takes the plain step there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import torch
from torch import Tensor

from p_rnn.batches import Batch
from p_rnn.models.cells import State
from p_rnn.models.dropout import Dropout
from p_rnn.models.network import Learners
from p_rnn.training.step import Update, UpdateResult

WARM_UP = 3  # updates before a capture, as the PyTorch documentation prescribes


def compiled_update(update: Update) -> Callable[..., UpdateResult]:
    """An update with the loss (forward and backward) compiled by torch.compile; the rest is plain.

    torch.compile does not support sparse gradients, so tables and optimizer stay outside.
    """
    made = replace(update, loss=torch.compile(update.loss, dynamic=False))

    def run(batch: Batch, state: State, learners: Learners, measure: bool = False) -> UpdateResult:
        return (made if batch.full else update)(batch, state, learners, measure)

    return run


class GraphUpdate:
    """Captures an update as a CUDA graph, once for each set of learners, and replays it.

    What changes between steps is copied into buffers: mini-batch, state and learning rate.
    """

    def __init__(self, update: Update) -> None:
        self.update = update
        self.graphs: dict[tuple[object, ...], Callable[[Batch, State], UpdateResult]] = {}
        update.optimizer.register_load_state_dict_post_hook(lambda _: self.graphs.clear())

    def __call__(
        self, batch: Batch, state: State, learners: Learners, measure: bool = False
    ) -> UpdateResult:
        """As `Update.__call__`."""
        if measure or not batch.full:
            return self.update(batch, state, learners, measure)
        key = (learners, self.update.network.in_score, batch.inputs.shape)
        if key not in self.graphs:
            self.graphs[key] = self._capture(batch, state, learners)
        return self.graphs[key](batch, state)

    def _capture(
        self, batch: Batch, state: State, learners: Learners
    ) -> Callable[[Batch, State], UpdateResult]:
        names = [f.name for f in fields(Batch) if isinstance(getattr(batch, f.name), Tensor)]
        buffers = {name: getattr(batch, name).clone() for name in names}
        static, before = replace(batch, **buffers), tuple(h.clone() for h in state)
        for group in self.update.optimizer.param_groups:
            if not isinstance(group["lr"], Tensor):
                group["lr"] = torch.tensor(group["lr"], device=self.update.network.device)
        self._warm_up(static, before, learners)
        graph = torch.cuda.CUDAGraph()
        for module in self.update.network.modules():
            if isinstance(module, Dropout):
                graph.register_generator_state(module.generator)
        with torch.cuda.graph(graph):
            done = self.update(static, before, learners)

        def run(batch: Batch, state: State) -> UpdateResult:
            for name, buffer in buffers.items():
                buffer.copy_(getattr(batch, name))
            for buffer, h in zip(before, state, strict=True):
                buffer.copy_(h)
            graph.replay()
            # The next replay overwrites these outputs.
            return UpdateResult(done.loss.clone(), tuple(h.clone() for h in done.state))

        return run

    def _warm_up(self, batch: Batch, state: State, learners: Learners) -> None:
        """Run a few updates on a side stream, then restore weights, slots and generators."""
        update = self.update
        kept = [(p, p.detach().cpu()) for p in update.network.parameters()]
        slots = {
            id(x): (x, x.cpu()) for own in update.optimizer.state.values() for x in own.values()
        }
        drops = [m for m in update.network.modules() if isinstance(m, Dropout)]
        states = [drop.generator.get_state() for drop in drops]
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                update(batch, state, learners)
        torch.cuda.current_stream().wait_stream(stream)
        with torch.no_grad():
            for p, value in kept:
                p.copy_(value)
            for own in update.optimizer.state.values():
                for x in own.values():  # new slots start at zero
                    x.copy_(slots[id(x)][1]) if id(x) in slots else x.zero_()
        for drop, numbers in zip(drops, states, strict=True):
            drop.generator.set_state(numbers)
