"""The training loop: mini-batches through network, loss and optimizer."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from p_rnn.config import Config
from p_rnn.data.batches import num_pairs
from p_rnn.data.dataset import Sessions
from p_rnn.errors import UserError
from p_rnn.models.merges import Learners
from p_rnn.models.network import PRNN, State
from p_rnn.random import Streams
from p_rnn.tracking import Tracker
from p_rnn.training.engine import Engine
from p_rnn.training.feeds import FEEDS, Step
from p_rnn.training.optimizers import build_optimizer
from p_rnn.training.strategies import Pass, build_strategy
from p_rnn.training.update import Update


class Diverged(UserError):
    """The loss is no longer a number."""


@dataclass
class PassResult:
    """What one pass over the data did."""

    loss: float = 0.0  # mean over the examples of all updates
    events: int = 0  # examples that were learned from
    skipped: int = 0  # examples without any negative: the state went on, nothing was learned
    seconds: float = 0.0


@dataclass
class Trainer:
    """Trains a network in place, pass by pass.

    Args:
        sessions: what to train on. `support`: int64 [N] events per item in them.
        streams: the random numbers of the run, on the network's device.

    Attributes:
        passes: those of the run, as its strategy has them.
        updates: steps of the optimizer so far; `learned`: of them, those of each subnet.

    Raises:
        UserError: sessions from which nothing can be learned, or too few for a mini-batch.
    """

    config: Config
    network: PRNN
    sessions: Sessions
    support: np.ndarray[Any, np.dtype[np.int64]]
    streams: Streams
    tracker: Tracker
    updates: int = 0
    learned: list[int] = field(default_factory=list)
    _points: list[Tensor] = field(default_factory=list)
    # Time, events and examples at the last look at the losses; an event that K updates learn from
    # is K examples.
    _last_read: tuple[float, int, int] = (0.0, 0, 0)
    _examples: int = 0

    def __post_init__(self) -> None:
        config, network = self.config, self.network
        assert config.batch_size is not None
        assert config.learning_rate is not None
        assert config.batching is not None
        if not num_pairs(self.sessions.offsets):
            raise UserError(
                "no training session has two events, so there is nothing to learn from; give "
                "dataset.min_session_length=2, or a longer training period"
            )
        feed = FEEDS[config.batching]
        self.feed = feed(config, network, self.sessions, self.support, self.streams)
        self.passes = build_strategy(config.strategy)(epochs_of_subnets(config, network.names))
        self.optimizer = build_optimizer(config.optimizer, network, config.learning_rate)
        self.update = Update(config, network, self.feed, self.optimizer, self.support)
        self.learned = self.learned or [0] * len(network.names)
        self.engine = Engine(self.update, config, self._full_updates())

    def _full_updates(self) -> dict[Learners, int]:
        """About how many updates of full mini-batches the run has, by who learns in them."""
        assert self.config.batch_size is not None
        found: dict[Learners, int] = {}
        for plan in self.passes:
            for learners in plan.updates:
                steps = num_pairs(self.sessions.offsets) // self.config.batch_size
                found[learners] = found.get(learners, 0) + steps
        return found

    def run_pass(self, index: int) -> PassResult:
        """Pass `index` (from 0) of `passes` over all sessions.

        Raises:
            Diverged: the loss became NaN or infinite.
            UserError: no mini-batch had anything to tell its target from.
        """
        plan, result, started = self.passes[index], PassResult(), time.perf_counter()
        self.network.use(plan.in_score)
        demand = self.update.prepare(plan)
        self.streams.start_epoch(index)
        self.network.train()
        self._last_read, self._examples = (started, 0, 0), 0
        state = self.feed.begin()
        with self.tracker.bar(num_pairs(self.sessions.offsets), "ev", f"epoch {index + 1}") as bar:
            for step in self.feed.steps(demand):
                state = self.feed.enter(state)
                if step.count == 1 and not self.update.has_negatives(step):
                    with torch.no_grad():
                        _, state = self.feed.forward(step, state, demand, None)
                    result.skipped += 1
                else:
                    state = self._learn(step, state, plan)
                    result.events += step.count
                    self._examples += step.count * len(plan.updates)
                if len(self._points) >= self.config.tracking.log_every:
                    self._read_losses(index, result)
                    bar.set_postfix_str(f"loss {result.loss / self._examples:.4f}", refresh=False)
                bar.update(step.count)
        if not result.events:
            raise UserError(
                f"nothing was learned: none of the {result.skipped} mini-batches had more to score "
                f"than its own target (batch_size={self.config.batch_size}, num_negatives=0); give "
                "num_negatives=1 or more"
            )
        self._read_losses(index, result)
        result.loss /= self._examples
        result.seconds = time.perf_counter() - started
        return result

    def _learn(self, step: Step, state: State, plan: Pass) -> State:
        """All updates of a mini-batch; the state to go on from.

        Every update starts from the same state; the one carried on has each subnet's layers from
        the forward pass in which it learned.
        """
        carried: State = ()
        number = self.updates // len(plan.updates) + 1  # of this mini-batch
        measure = self.tracker.settings.tensorboard and not number % self.config.tracking.log_every
        for learners in plan.updates:
            done = self.engine(step, state, learners, measure)
            self.updates += 1
            for k in learners:
                self.learned[k] += 1
            self._points.append(done.loss)
            if done.norm is not None:
                self.tracker.scalar("train/gradient_norm", done.norm.item(), self.updates)
            carried = self.network.select(carried or done.state, done.state, learners)
        return carried

    def _read_losses(self, index: int, result: PassResult) -> None:
        """Fetch the losses since the last call: the one wait for the device in many steps."""
        if not self._points:
            return
        losses = torch.stack(self._points).tolist()
        self._points.clear()
        first = self.updates - len(losses) + 1
        for k, loss in enumerate(losses):
            if not math.isfinite(loss):
                raise Diverged(
                    f"the loss became {loss} at update {first + k} (epoch {index + 1}); lower "
                    f"learning_rate (now {self.config.learning_rate}) or optimizer.momentum, or "
                    "take another loss"
                )
        result.loss += sum(losses) * self.update.batch_size
        now, (then, events, examples) = time.perf_counter(), self._last_read
        self._last_read = (now, result.events, self._examples)
        # Per example: the tail of an epoch has fewer of them in an update.
        per_example = sum(losses) * self.update.batch_size / (self._examples - examples)
        self.tracker.scalar("train/loss", per_example, self.updates)
        self.tracker.scalar(
            "train/events_per_s", (result.events - events) / (now - then), self.updates
        )


def epochs_of_subnets(config: Config, names: tuple[str, ...]) -> list[int]:
    """The passes in which each subnet learns."""
    assert config.num_epochs is not None
    own = [config.subnet(name).num_epochs for name in names]
    return [config.num_epochs if epochs is None else epochs for epochs in own]
