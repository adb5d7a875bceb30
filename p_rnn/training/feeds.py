"""Feeds: the mini-batches of a pass on the device, and how hidden states come from them.

A feed knows how sessions become steps; the trainer knows what to learn from a step. Random numbers
and indices are made for many steps at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
from p_rnn.models.merges import Learners
from p_rnn.models.network import PRNN, State
from p_rnn.random import Streams

CANDIDATES_PER_BLOCK = 2**19  # 2^19 candidates of 8 bytes are 4 MiB
MAX_BLOCK_STEPS = 1024

Array = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Step:
    """One mini-batch.

    Attributes:
        targets: int64 [M]; `negatives`: int64 [S] shared, or [M] one for each, or None.
        forward: learners -> (hidden states h_k [M, H_k], the state of the sessions after it).
    """

    targets: Tensor
    negatives: Tensor | None
    forward: Callable[[Learners], tuple[list[Tensor], State]]


class Feed(Protocol):
    """Steps of one pass after another."""

    def steps(self) -> Iterator[Step]:
        """The mini-batches of a pass, in order."""

    def carry(self, state: State) -> None:
        """The state of the sessions from which the next step goes on, cut off from the graph."""


@dataclass
class _Sampling:
    """Draws the additional negatives of a run."""

    config: Config
    support: Array
    streams: Streams
    sampler: NegativeSampler | None = field(default=None, init=False)

    def __post_init__(self) -> None:
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
        self.state: State = ()

    def steps(self) -> Iterator[Step]:
        candidates = self.batch_size + self.sampling.num_negatives
        block_steps = min(MAX_BLOCK_STEPS, max(1, CANDIDATES_PER_BLOCK // candidates))
        self.state = self.network.begin(self.batch_size)
        for block in session_parallel(self.sessions, self.batch_size, block_steps):
            yield from self._steps_of(block)

    def _steps_of(self, block: Block) -> Iterator[Step]:
        device = self.network.device
        inputs = torch.from_numpy(block.inputs).to(device)
        targets = torch.from_numpy(block.targets).to(device)
        going_on = torch.from_numpy(~block.first).to(device, torch.float32)[:, :, None]
        negatives = self.sampling.draw(len(inputs), self.batch_size)
        for t, width in enumerate(block.width.tolist()):
            state = self.state
            if t in block.stay:
                stay = torch.from_numpy(block.stay[t]).to(device)
                state = tuple(h[stay] for h in state)
            elif width < len(state[0]):  # fewer sessions than slots from the very first step
                state = tuple(h[:width] for h in state)
            state = tuple(h * going_on[t, :width] for h in state)
            of_step = None if negatives is None else negatives[t]
            if of_step is not None and self.sampling.one_each:
                of_step = of_step[:width]
            forward = _Advance(self.network, inputs[t, :width], state)
            yield Step(targets[t, :width], of_step, forward)

    def carry(self, state: State) -> None:
        self.state = state


@dataclass(frozen=True)
class _Advance:
    network: PRNN
    inputs: Tensor
    state: State

    def __call__(self, learners: Learners) -> tuple[list[Tensor], State]:
        after = self.network.advance(self.inputs, self.state, learners)
        return self.network.hidden(after), after


class SequenceFeed:
    """Windows read from a zero state, with back-propagation through time."""

    def __init__(self, config: Config, network: PRNN, sessions: Sessions, support: Array,
                 streams: Streams) -> None:  # fmt: skip
        self.config, self.network = config, network
        self.sessions, self.streams = sessions, streams
        self.sampling = _Sampling(config, support, streams)

    def steps(self) -> Iterator[Step]:
        window, stride, size = self.config.window, self.config.stride, self.config.batch_size
        assert window is not None
        assert stride is not None
        assert size is not None
        rng = self.streams.order("order")
        for windows in sequence_batches(self.sessions, window, stride, size, rng):
            yield self._step(windows)

    def _step(self, windows: Windows) -> Step:
        network, device = self.network, self.network.device
        inputs = torch.from_numpy(windows.inputs).to(device)
        picks = torch.from_numpy(windows.picks).to(device)
        drawn = self.sampling.draw(1, len(picks))

        def forward(learners: Learners) -> tuple[list[Tensor], State]:
            return network.read(inputs, windows.widths, picks, learners), ()

        targets = torch.from_numpy(windows.targets).to(device)
        return Step(targets, None if drawn is None else drawn[0], forward)

    def carry(self, state: State) -> None:
        """Nothing: every window starts from zero."""


FEEDS: dict[str, Callable[[Config, PRNN, Sessions, Array, Streams], Feed]] = {
    "session_parallel": SessionParallelFeed,
    "sequences": SequenceFeed,
}
