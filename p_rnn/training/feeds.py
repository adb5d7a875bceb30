"""Feeds: the mini-batches of a pass on the device, and how hidden states come from them.

A feed knows how sessions become steps; the trainer knows what to learn from a step. Everything that
depends on items or on chance alone is made for many steps at once: indices, negatives, dropout, and
the plans by which gradients of rows are summed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from p_rnn.config import Config
from p_rnn.data.batches import Block, session_parallel
from p_rnn.data.dataset import Sessions
from p_rnn.data.negatives import NegativeSampler
from p_rnn.data.sequences import Windows, sequence_batches
from p_rnn.errors import UserError
from p_rnn.models.ahead import Ahead, prepared
from p_rnn.models.merges import Learners
from p_rnn.models.network import PRNN, State
from p_rnn.models.plans import plan_rows
from p_rnn.random import Streams

# Numbers made ahead at a time: on a CPU so few that they stay in the cache, on a GPU so many that
# the launches of the operations do not count.
NUMBERS_PER_BLOCK = {"cpu": 2**19, "cuda": 2**23}
PER_CANDIDATE = 8  # its index, its part in one or two plans, and what making them takes
MAX_BLOCK_STEPS = 1024

Array = np.ndarray[Any, np.dtype[np.int64]]
Sources = tuple[str, ...]  # which indices of a step the reads of a table are of


class Layout:
    """What the tensors of a step are.

    Attributes:
        full: no slot is empty, so that shapes are those of all such steps.
        places: where each group stands in the tensors of a step.
    """

    def __init__(self, groups: Mapping[str, Sequence[Tensor]], full: bool = False) -> None:
        self.full = full
        self.places: dict[str, slice] = {}
        at = 0
        for name, tensors in groups.items():
            self.places[name] = slice(at, at + len(tensors))
            at += len(tensors)

    def part(self, tensors: Sequence[Tensor], name: str) -> Sequence[Tensor]:
        """The tensors of a group; none where the steps do not have it."""
        return tensors[self.places.get(name, slice(0))]


@dataclass(frozen=True)
class Step:
    """One mini-batch.

    Attributes:
        count: M, its examples.
        tensors: groups one after the other: inputs, targets, items (the candidates, but for
            negatives=full), further ones of the feed, and those made ahead.
        widths: of packed windows.
    """

    count: int
    layout: Layout
    tensors: tuple[Tensor, ...]
    widths: Sequence[int] = ()

    def part(self, name: str) -> Sequence[Tensor]:
        return self.layout.part(self.tensors, name)

    def one(self, name: str) -> Tensor:
        """The only tensor of a group."""
        (tensor,) = self.part(name)
        return tensor


@dataclass(frozen=True)
class Demand:
    """What the updates of a pass want to be made ahead.

    Attributes:
        modules: of the network.
        sources: of the tables that are read by row.
    """

    modules: Sequence[Ahead]
    sources: Collection[Sources]


class Feed(Protocol):
    """Steps of one pass after another."""

    def steps(self, demand: Demand) -> Iterator[Step]:
        """The mini-batches of a pass, in order."""

    def forward(
        self, step: Step, state: State, demand: Demand, learners: Learners
    ) -> tuple[list[Tensor], State]:
        """Hidden states h_k [M, H_k] of a step, and the state of the sessions after it."""

    def begin(self) -> State:
        """The state before the first step of a pass."""

    def enter(self, state: State) -> State:
        """The state of the slots of the step that came last, from that after the one before."""


@dataclass
class _Sampling:
    """Draws the additional negatives of a run."""

    config: Config
    support: Array
    streams: Streams
    sampler: NegativeSampler | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.full = self.config.negatives == "full"
        self.one_each = self.config.negatives == "uniform_one"
        self.num_negatives = self.config.num_negatives or 0
        if self.one_each or self.num_negatives:
            alpha = 0.0 if self.one_each else self.config.sample_alpha
            assert alpha is not None
            generator = self.streams.running("negatives")
            self.sampler = NegativeSampler(self.support, alpha, generator)

    def draw(self, steps: int, batch: int) -> Tensor | None:
        """Of some steps: [T, S] shared by the batch, or [T, B] one for each example."""
        if self.sampler is None:
            return None
        return self.sampler.sample(steps, batch if self.one_each else self.num_negatives)

    def candidates(self, targets: Tensor, negatives: Tensor | None) -> Tensor | None:
        """[T, C], or [T, M, 2] with uniform_one, of targets [T, M]; None: all items."""
        if self.full:
            return None
        if negatives is None:
            return targets
        if self.one_each:
            return torch.stack([targets, negatives[:, : targets.shape[1]]], dim=2)
        return torch.cat([targets, negatives], dim=1)


def plan_name(sources: Sources) -> str:
    """The group of a plan."""
    return "plan " + "+".join(sources)


class SessionParallelFeed:
    """Session-parallel mini-batches; the state is carried and cut off at every step (P)."""

    def __init__(self, config: Config, network: PRNN, sessions: Sessions, support: Array,
                 streams: Streams) -> None:  # fmt: skip
        assert config.batch_size is not None
        self.network, self.sessions = network, sessions
        self.batch_size = config.batch_size
        self.sampling = _Sampling(config, support, streams)
        usable = int((sessions.lengths >= 2).sum())
        if self.batch_size > usable:
            raise UserError(
                f"batch_size={self.batch_size} exceeds the {usable} training sessions with two "
                f"events or more; set batch_size to at most {usable}, or batching=sequences"
            )
        self.stay: Tensor | None = None  # slots that go on into the next step; None: all

    def begin(self) -> State:
        return self.network.begin(self.batch_size)

    def steps(self, demand: Demand) -> Iterator[Step]:
        numbers = PER_CANDIDATE * (self.batch_size + self.sampling.num_negatives)
        numbers += self.batch_size * sum(module.numbers for module in demand.modules)
        room = NUMBERS_PER_BLOCK.get(self.network.device.type, 2**23)
        block_steps = min(MAX_BLOCK_STEPS, max(1, room // numbers))
        for block in session_parallel(self.sessions, self.batch_size, block_steps):
            drawn = self.sampling.draw(len(block.width), self.batch_size)
            for part in _equally_wide(block):
                yield from self._steps_of(block, part, drawn, demand)

    def _steps_of(
        self, block: Block, part: slice, drawn: Tensor | None, demand: Demand
    ) -> Iterator[Step]:
        """The steps `part` of a block, which have the same number of live slots."""
        device, width = self.network.device, int(block.width[part.start])
        if part.start in block.stay:
            self.stay = torch.from_numpy(block.stay[part.start]).to(device)
        inputs = torch.from_numpy(block.inputs[part, :width]).to(device)
        targets = torch.from_numpy(block.targets[part, :width]).to(device)
        keep = torch.from_numpy(~block.first[part, :width]).to(device, torch.float32)
        groups = {"inputs": [inputs], "keep": [keep[:, :, None]], "targets": [targets]}
        items = self.sampling.candidates(targets, None if drawn is None else drawn[part])
        if items is not None:
            groups["items"] = [items]
        for k, module in enumerate(demand.modules):
            groups[f"ahead {k}"] = module.ahead(inputs)
        for sources in demand.sources:
            index = torch.cat([groups[source][0].flatten(1) for source in sources], dim=1)
            groups[plan_name(sources)] = plan_rows(index, self.network.num_items).tensors()
        layout = Layout(groups, full=width == self.batch_size)
        columns = [x.unbind(0) for tensors in groups.values() for x in tensors]
        for tensors in zip(*columns, strict=True):
            yield Step(width, layout, tensors)

    def enter(self, state: State) -> State:
        """The state of the slots that are still live."""
        stay, self.stay = self.stay, None
        return state if stay is None else tuple(h[stay] for h in state)

    def forward(
        self, step: Step, state: State, demand: Demand, learners: Learners
    ) -> tuple[list[Tensor], State]:
        """The state is that of the slots of this step."""
        keep = step.one("keep")
        state = tuple(h * keep for h in state)
        with prepared(
            demand.modules, [step.part(f"ahead {k}") for k in range(len(demand.modules))]
        ):
            after = self.network.advance(step.one("inputs"), state, learners)
        return self.network.hidden(after), after


def _equally_wide(block: Block) -> Iterator[slice]:
    """The runs of steps that have the same number of live slots."""
    cuts = np.flatnonzero(np.diff(block.width)) + 1
    for lo, hi in zip([0, *cuts.tolist()], [*cuts.tolist(), len(block.width)], strict=True):
        yield slice(lo, hi)


class SequenceFeed:
    """Windows read from a zero state, with back-propagation through time."""

    def __init__(self, config: Config, network: PRNN, sessions: Sessions, support: Array,
                 streams: Streams) -> None:  # fmt: skip
        self.config, self.network = config, network
        self.sessions, self.streams = sessions, streams
        self.sampling = _Sampling(config, support, streams)

    def begin(self) -> State:
        return ()

    def steps(self, demand: Demand) -> Iterator[Step]:
        window, stride, size = self.config.window, self.config.stride, self.config.batch_size
        assert window is not None
        assert stride is not None
        assert size is not None
        rng = self.streams.order("order")
        for windows in sequence_batches(self.sessions, window, stride, size, rng):
            yield self._step(windows)

    def _step(self, windows: Windows) -> Step:
        device = self.network.device
        inputs = torch.from_numpy(windows.inputs).to(device)
        picks = torch.from_numpy(windows.picks).to(device)
        targets = torch.from_numpy(windows.targets).to(device)
        groups = {"inputs": [inputs], "picks": [picks], "targets": [targets]}
        items = self.sampling.candidates(targets[None], self.sampling.draw(1, len(picks)))
        if items is not None:
            groups["items"] = [items[0]]
        tensors = tuple(x for group in groups.values() for x in group)
        return Step(len(targets), Layout(groups), tensors, windows.widths)

    def enter(self, state: State) -> State:
        return state

    def forward(
        self, step: Step, state: State, demand: Demand, learners: Learners
    ) -> tuple[list[Tensor], State]:
        """Every window starts from zero."""
        inputs, picks = step.one("inputs"), step.one("picks")
        return self.network.read(inputs, step.widths, picks, learners), ()


FEEDS: dict[str, Callable[[Config, PRNN, Sessions, Array, Streams], Feed]] = {
    "session_parallel": SessionParallelFeed,
    "sequences": SequenceFeed,
}
