"""The training loop: session-parallel mini-batches through network, loss and optimizer."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from p_rnn.config import Config
from p_rnn.data.batches import Block, num_pairs, session_parallel
from p_rnn.data.dataset import Sessions
from p_rnn.data.negatives import NegativeSampler
from p_rnn.errors import UserError
from p_rnn.models.network import PRNN, State
from p_rnn.random import Streams
from p_rnn.tracking import Tracker
from p_rnn.training.losses import build_loss
from p_rnn.training.optimizers import build_optimizer
from p_rnn.training.strategies import build_strategy

# Random numbers and indices are made for many steps at once: 2^19 candidates of 8 bytes are 4 MiB.
CANDIDATES_PER_BLOCK = 2**19
MAX_BLOCK_STEPS = 1024


class Diverged(UserError):
    """The loss is no longer a number."""


@dataclass
class PassResult:
    """What one pass over the data did."""

    loss: float  # mean over the examples
    events: int  # examples that were learned from
    skipped: int  # examples without any negative: the state went on, nothing was learned
    seconds: float


@dataclass
class Trainer:
    """Trains a network in place, pass by pass.

    Args:
        sessions: what to train on. `support`: int64 [N] events per item in them.
        streams: the random numbers of the run, on the network's device.
    """

    config: Config
    network: PRNN
    sessions: Sessions
    support: np.ndarray[Any, np.dtype[np.int64]]
    streams: Streams
    tracker: Tracker
    updates: int = 0
    _points: list[Tensor] = field(default_factory=list)
    _last_read: tuple[float, int] = (0.0, 0)

    def __post_init__(self) -> None:
        config = self.config
        assert config.batch_size is not None
        assert config.learning_rate is not None
        self.batch_size = config.batch_size
        self.num_negatives = config.num_negatives or 0
        usable = int((self.sessions.lengths >= 2).sum())
        if self.batch_size > usable:
            raise UserError(
                f"batch_size={self.batch_size} exceeds the {usable} training sessions with two "
                f"events or more; set batch_size to at most {usable}"
            )
        self.device = self.network.device
        self.loss = build_loss(config.loss)
        self.strategy = build_strategy(config.strategy)
        self.optimizer = build_optimizer(config.optimizer, self.network, config.learning_rate)
        dtype = self.network.merge.table.weight.dtype
        self.log_support = torch.from_numpy(np.log(self.support)).to(self.device, dtype)
        self.sampler: NegativeSampler | None = None
        if config.negatives == "uniform_one" or self.num_negatives:
            alpha = 0.0 if config.negatives == "uniform_one" else config.sample_alpha
            assert alpha is not None
            generator = self.streams.running("negatives")
            self.sampler = NegativeSampler(self.support, alpha, generator)

    def run_pass(self, index: int) -> PassResult:
        """One pass over all sessions (pass `index`, from 0).

        Raises:
            Diverged: the loss became NaN or infinite.
        """
        started = time.perf_counter()
        self.streams.start_epoch(index)
        self.network.train()
        steps = min(
            MAX_BLOCK_STEPS, max(1, CANDIDATES_PER_BLOCK // (self.batch_size + self.num_negatives))
        )
        total = num_pairs(self.sessions.offsets)
        self._last_read = (started, 0)
        state = self.network.begin(self.batch_size)
        result = PassResult(loss=0.0, events=0, skipped=0, seconds=0.0)
        with self.tracker.bar(total, "ev", f"epoch {index + 1}") as bar:
            for block in session_parallel(self.sessions, self.batch_size, steps):
                state = self._run_block(block, state, index, result)
                bar.update(int(block.width.sum()))
                read = self._last_read[1]  # examples whose losses have been fetched
                if read:
                    bar.set_postfix_str(f"loss {result.loss / read:.4f}", refresh=False)
        self._read_losses(index, result)
        result.loss /= max(result.events, 1)
        result.seconds = time.perf_counter() - started
        return result

    def _run_block(self, block: Block, state: State, index: int, result: PassResult) -> State:
        inputs = torch.from_numpy(block.inputs).to(self.device)
        targets = torch.from_numpy(block.targets).to(self.device)
        going_on = torch.from_numpy(~block.first).to(self.device, torch.float32)[:, :, None]
        negatives = self._sample(len(inputs))
        for t, width in enumerate(block.width.tolist()):
            if t in block.stay:
                stay = torch.from_numpy(block.stay[t]).to(self.device)
                state = tuple(h[stay] for h in state)
            elif width < len(state[0]):  # fewer sessions than slots from the very first step
                state = tuple(h[:width] for h in state)
            state = tuple(h * going_on[t, :width] for h in state)
            now = inputs[t, :width]
            if width == 1 and self.config.negatives == "sampled" and not self.num_negatives:
                with torch.no_grad():
                    state = self.network.advance(now, state)
                result.skipped += 1
                continue
            step_negatives = None if negatives is None else negatives[t]
            for _ in range(self.strategy.num_updates(index)):
                after = self._update(now, targets[t, :width], state, step_negatives)
            state = after
            result.events += width
            if len(self._points) >= self.config.tracking.log_every:
                self._read_losses(index, result)
        return state

    def _sample(self, steps: int) -> Tensor | None:
        """Negatives of a block: [T, S] shared by the batch, or [T, B] one for each example."""
        if self.sampler is None:
            return None
        one_each = self.config.negatives == "uniform_one"
        return self.sampler.sample(steps, self.batch_size if one_each else self.num_negatives)

    def _update(
        self, inputs: Tensor, targets: Tensor, state: State, negatives: Tensor | None
    ) -> State:
        """Forward, backward and one optimizer step; the state after it, cut off from the graph."""
        after = self.network.advance(inputs, state)
        log_q = None
        items: Tensor | slice
        if self.config.negatives == "full":
            items, column = slice(0, self.network.num_items), targets
        elif self.config.negatives == "uniform_one":
            assert negatives is not None
            items = torch.stack([targets, negatives[: len(targets)]], dim=1)  # [B, 2]
            column = torch.zeros_like(targets)
        else:
            items = targets if negatives is None else torch.cat([targets, negatives])
            column = torch.arange(len(targets), device=self.device)
            if self.config.loss.logq:
                log_q = self._log_q(targets, negatives)
        losses = self.loss(self.network.scores(after, items), column, log_q)
        # The configured B, also in the tail, so that an example weighs the same everywhere (P).
        loss = losses.sum() / self.batch_size
        loss.backward()  # type: ignore[no-untyped-call]
        self.updates += 1
        measure = self.tracker.settings.tensorboard and (
            self.updates % self.config.tracking.log_every == 0
        )
        norm = self.optimizer.step(measure)
        self._points.append(loss.detach())
        if norm is not None:
            self.tracker.scalar("train/gradient_norm", norm.item(), self.updates)
        return tuple(h.detach() for h in after)

    def _log_q(self, targets: Tensor, negatives: Tensor | None) -> Tensor:
        """log q of the candidates: support for targets, support^sample_alpha for samples."""
        log_q = self.log_support[targets]
        if negatives is None:
            return log_q
        assert self.config.sample_alpha is not None
        return torch.cat([log_q, self.config.sample_alpha * self.log_support[negatives]])

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
        result.loss += sum(losses) * self.batch_size
        now, (then, events) = time.perf_counter(), self._last_read
        self._last_read = (now, result.events)
        # Per example: the tail of an epoch has fewer of them in an update.
        per_example = sum(losses) * self.batch_size / (result.events - events)
        self.tracker.scalar("train/loss", per_example, self.updates)
        self.tracker.scalar(
            "train/events_per_s", (result.events - events) / (now - then), self.updates
        )
