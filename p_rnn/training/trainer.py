"""The training loop: passes over the mini-batches, with logging and checks of the loss."""

from __future__ import annotations

import copy
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from p_rnn import distributed
from p_rnn.batches import Batch, build_batches
from p_rnn.batches.own_slots import OwnSlots
from p_rnn.batches.session_parallel import num_pairs
from p_rnn.data.dataset import Sessions
from p_rnn.fast import Fast
from p_rnn.models.cells import State
from p_rnn.models.network import PRNN
from p_rnn.settings.config import Settings
from p_rnn.settings.errors import UserError
from p_rnn.streams import Streams
from p_rnn.tracking import Tracker
from p_rnn.training.diverged import diverged
from p_rnn.training.exchange import Exchange
from p_rnn.training.losses import build_loss
from p_rnn.training.optimizers import build_optimizer
from p_rnn.training.passes import PassResult, Underway
from p_rnn.training.schedules import build_schedule, set_learning_rate
from p_rnn.training.step import Update, train_step
from p_rnn.training.strategies import PassPlan, build_strategy

COMPILING = "compiling"  # shown in the progress bar meanwhile
CHECK_EVERY = 100  # updates on a GPU, where reading a loss makes the CPU wait


@dataclass
class Trainer:
    """Trains a network in place, pass by pass.

    Args:
        sessions: the training sessions. `support`: int64 [N] events per item in them.
        streams: random number generators of the run, on the network's device.

    Attributes:
        passes: the passes of the run, planned by its strategy.
        updates: optimizer steps so far; `learned`: those in which each subnet learned.
        average: the network with averaged weights if `ema` is set, else None.
        interrupted: a `position` inside the next pass, from which that pass goes on; or {}.

    Raises:
        UserError: no session has two events, or there are too few sessions for a mini-batch.
    """

    config: Settings
    network: PRNN
    sessions: Sessions
    support: np.ndarray[Any, np.dtype[np.int64]]
    streams: Streams
    tracker: Tracker
    updates: int = 0
    learned: list[int] = field(default_factory=list)
    average: PRNN | None = None
    interrupted: dict[str, Any] = field(default_factory=dict)
    _underway: Underway | None = None
    _points: list[Tensor] = field(default_factory=list)
    # Time, events and examples when the losses were last read; an event used by K updates counts as
    # K examples.
    _last_read: tuple[float, int, int] = (0.0, 0, 0)
    _examples: int = 0

    def __post_init__(self) -> None:
        config, network = self.config, self.network
        self.pairs = num_pairs(self.sessions.offsets)
        if not self.pairs:
            raise UserError(
                "no training session has two events, so there is nothing to learn from; give "
                "dataset.min_session_length=2, or a longer training period"
            )
        self.batches = build_batches(config, self.sessions, self.support, self.streams)
        if distributed.joined():
            self.batches = OwnSlots(self.batches, network, config.batch_size)
        self.passes = build_strategy(config.strategy)(epochs_of_subnets(config, network.names))
        optimizer = build_optimizer(config.optimizer, network.parameters(), config.learning_rate)
        self.optimizer, log_support = optimizer, None
        self.schedule = build_schedule(config.schedule)
        if config.loss.parameters.get("logq"):
            log_support = torch.from_numpy(np.log(self.support)).to(network.device, torch.float32)
        self.update = Update(
            network,
            build_loss(config.loss, network.num_items),
            optimizer,
            config.batch_size,
            log_support,
            config.sample_alpha,
            config.clip_norm,
            Exchange() if distributed.joined() else None,
        )
        full = self.pairs // config.batch_size * sum(len(each.updates) for each in self.passes)
        shared = config.negatives != "uniform_one"
        with self.tracker.saying(COMPILING):  # C++ code, compiled once per machine
            self.fast = Fast(self.update, config.compile, full, shared)
        self.learned = self.learned or [0] * len(network.names)
        if config.ema is not None:
            self.average = copy.deepcopy(network)

    @property
    def kept(self) -> PRNN:
        """The network to evaluate and keep: the averaged one if there is one."""
        return self.network if self.average is None else self.average

    def use(self, in_score: int) -> None:
        """Run and score with only the first `in_score` subnets."""
        for network in {self.network, self.kept}:
            network.use(in_score)

    def run_pass(self, index: int, after_each: Callable[[], None] | None = None) -> PassResult:
        """Run pass `index` (from 0) of `passes` over all sessions.

        Args:
            after_each: called after each mini-batch; it may read `position`, and end the pass by
                raising something.

        Raises:
            Diverged: the loss became NaN or infinite.
            UserError: no mini-batch had a negative.
        """
        plan, result, started = self.passes[index], PassResult(), time.perf_counter()
        self.use(plan.in_score)
        self.network.train()
        self.streams.start_epoch(index)
        self._last_read, self._examples = (started, 0, 0), 0
        epoch_at, batches = self._clock(index), iter(self.batches)
        slots = self.update.batch_size // distributed.count()
        here = Underway(index, self.network.begin(slots), result, started)
        self._underway = here
        if self.interrupted.get("pass") == index:
            self._go_on(here, batches)
        self.interrupted = {}
        text = f"epoch {index + 1}/{len(self.passes)}"
        # The first mini-batch compiles the step of a GPU, or measures the routes of p_rnn/fast.
        waiting = self.config.compile != "never" and not self.updates
        with self.tracker.bar(self.pairs, "ev", COMPILING if waiting else text) as bar:
            bar.update(result.events)
            for batch in batches:
                self._set_learning_rate(epoch_at((result.events + result.skipped) / self.pairs))
                here.state = self._learn(batch, here.state, plan, result)
                here.batches += 1
                if len(self._points) >= self.config.tracking.log_every or self._has_diverged():
                    self._read_losses(index, result)
                    bar.set_postfix_str(f"loss {result.loss / self._examples:.4f}", refresh=False)
                if waiting and self.updates:
                    bar.set_description_str(text)
                    waiting = False
                bar.update(batch.examples)
                if after_each is not None:
                    after_each()
        if not result.events:
            raise UserError(
                f"nothing was learned: none of the {result.skipped} mini-batches had more to score "
                f"than its own target (batch_size={self.config.batch_size}, num_negatives=0); give "
                "num_negatives=1 or more"
            )
        self._read_losses(index, result)
        result.loss /= self._examples
        distributed.check_equal(self.network.parameters())
        result.seconds = time.perf_counter() - here.started
        self._underway = None
        return result

    def position(self) -> dict[str, Any]:
        """What a checkpoint inside a pass holds beside the weights and the optimizer; {} outside.

        Raises:
            Diverged: the loss has become NaN or infinite, so that there is nothing to keep.
        """
        here = self._underway
        if here is None:
            return {}
        self._losses(here.index)
        now, (then, *read) = time.perf_counter(), self._last_read
        here.result.seconds = now - here.started
        return {
            "pass": here.index,
            "batches": here.batches,
            "state": [h.clone() for h in here.state],
            "result": asdict(here.result),
            "examples": self._examples,
            "points": [point.clone() for point in self._points],
            "read": [now - then, *read],
            "generators": self.streams.state(),
        }

    def _go_on(self, here: Underway, batches: Iterator[Batch]) -> None:
        """Set the pass to where an interrupted run was.

        The mini-batches that it learned from are made again and left out, so that the random
        numbers of their making are drawn as before.
        """
        left, device, now = self.interrupted, self.network.device, time.perf_counter()
        deque(islice(batches, left["batches"]), maxlen=0)
        self.streams.restore(left["generators"])
        for name, value in left["result"].items():
            setattr(here.result, name, value)
        here.batches, here.started = left["batches"], now - here.result.seconds
        here.state = tuple(h.to(device) for h in left["state"])
        if isinstance(self.batches, OwnSlots):
            here.state = tuple(h[self.batches.own] for h in here.state)
        self._examples, self._points = left["examples"], [x.to(device) for x in left["points"]]
        since, events, examples = left["read"]
        self._last_read = now - since, events, examples

    def _learn(self, batch: Batch, state: State, plan: PassPlan, result: PassResult) -> State:
        """Make all updates of a mini-batch; return the state to carry to the next one."""
        number = self.updates // len(plan.updates) + 1  # of this mini-batch, from 1
        measure = self.tracker.settings.tensorboard and not number % self.config.tracking.log_every
        done, state = train_step(self.fast, batch, state, plan.updates, measure)
        if not done:
            result.skipped += 1
        for each, learners in zip(done, plan.updates, strict=False):
            self.updates += 1
            for k in learners:
                self.learned[k] += 1
            self._points.append(each.loss)
            if each.norm is not None and measure:
                self.tracker.scalar("train/gradient_norm", each.norm.item(), self.updates)
            result.events += batch.examples if each is done[0] else 0
            self._examples += batch.examples
        if done and self.average is not None:
            self._move_average()
        return state

    @torch.no_grad()
    def _move_average(self) -> None:
        """average = d average + (1 - d) weights, with a smaller d in the first updates."""
        assert self.average is not None
        assert self.config.ema is not None
        decay = min(self.config.ema, (1 + self.updates) / (10 + self.updates))
        for a, p in zip(self.average.parameters(), self.network.parameters(), strict=True):
            a.lerp_(p, 1 - decay)

    def _clock(self, index: int) -> Callable[[float], tuple[float, int]]:
        """A function of the share of pass `index` that is done: (epochs so far, all epochs)."""
        stage = [k for k, each in enumerate(self.passes) if each.stage == self.passes[index].stage]
        cycles = sum(self.passes[k].ends_cycle for k in stage)
        return lambda part: ((index - stage[0] + part) * cycles / len(stage), cycles)

    def _set_learning_rate(self, now: tuple[float, int]) -> None:
        set_learning_rate(self.optimizer, self.config.learning_rate * self.schedule(*now))

    def _has_diverged(self) -> bool:
        """Whether the last loss is no number: asked in every update, or seldom where it waits."""
        every = 1 if self.network.device.type == "cpu" else CHECK_EVERY
        due = bool(self._points) and len(self._points) % every == 0
        return due and not math.isfinite(self._points[-1].item())

    def _read_losses(self, index: int, result: PassResult) -> None:
        """Read the losses since the last call: the one sync point with the device in many steps."""
        if not self._points:
            return
        losses = self._losses(index)
        self._points.clear()
        result.loss += sum(losses) * self.update.batch_size
        now, (then, events, examples) = time.perf_counter(), self._last_read
        self._last_read = (now, result.events, self._examples)
        # Per example, because mini-batches at the end of an epoch have fewer examples.
        per_example = sum(losses) * self.update.batch_size / (self._examples - examples)
        self.tracker.scalar("train/loss", per_example, self.updates)
        self.tracker.scalar(
            "train/events_per_s", (result.events - events) / (now - then), self.updates
        )

    def _losses(self, index: int) -> list[float]:
        """The losses of `_points`.

        Raises:
            Diverged: one is NaN or infinite.
        """
        losses: list[float] = torch.stack(self._points).tolist() if self._points else []
        first = self.updates - len(losses) + 1
        for k, loss in enumerate(losses):
            if not math.isfinite(loss):
                state = () if self._underway is None else self._underway.state
                raise diverged(loss, first + k, index + 1, self.config, self.network, state)
        return losses


def epochs_of_subnets(config: Settings, names: tuple[str, ...]) -> list[int]:
    """The number of passes in which each subnet learns."""
    own = [config.subnet(name).num_epochs for name in names]
    return [config.num_epochs if epochs is None else epochs for epochs in own]
