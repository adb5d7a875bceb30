"""One step of training: a mini-batch goes through network, loss and optimizer.

This is the truth about training. p_rnn/fast may replace `update` by one that is equal and faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from p_rnn.batches import Batch
from p_rnn.models.cells import State
from p_rnn.models.network import PRNN, Learners
from p_rnn.training.gradients import clip_, gradient_norm
from p_rnn.training.losses import LossFunction


@dataclass(frozen=True)
class UpdateResult:
    """What an update gives back.

    Attributes:
        loss: 0-d; `state`: of the sessions after it; `norm`: of the gradient, 0-d, if measured.
    """

    loss: Tensor
    state: State
    norm: Tensor | None = None


@dataclass
class Update:
    """One update of the weights: forward, loss, backward, optimizer.

    Attributes:
        batch_size: the configured B.
        log_support: [N], log of the events per item in training, for a loss that corrects for
            sampling, else None; `sample_alpha`: of the samples.
        clip_norm: the largest norm of the gradient; None: any.
    """

    network: PRNN
    loss: LossFunction
    optimizer: torch.optim.Optimizer
    batch_size: int
    log_support: Tensor | None = None
    sample_alpha: float = 0.0
    clip_norm: float | None = None

    def __call__(
        self, batch: Batch, state: State, learners: Learners, measure: bool = False
    ) -> UpdateResult:
        """One update, in which the learners learn, from the state of the slots of the mini-batch.

        Args:
            measure: give the norm of the gradient.
        """
        self.network.learn(learners)
        scores, after = self.network(batch, state)
        losses = self.loss(scores, batch.column, self.log_q(batch))
        # The configured B, also in the tail, so that an example weighs the same everywhere (P).
        loss = losses.sum() / self.batch_size

        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = self.clip(measure)
        self.optimizer.step()
        return UpdateResult(loss.detach(), tuple(h.detach() for h in after), norm)

    def clip(self, measure: bool) -> Tensor | None:
        """Clip the gradients if that is asked for; their norm before, if that or `measure` is."""
        if not measure and self.clip_norm is None:
            return None
        parameters = list(self.network.parameters())
        norm = gradient_norm(parameters)
        if self.clip_norm is not None:
            clip_(parameters, norm, self.clip_norm)
        return norm

    def log_q(self, batch: Batch) -> Tensor | None:
        """log q of the candidates [C]: support for targets, support^sample_alpha for samples."""
        if self.log_support is None:
            return None
        assert batch.items is not None
        log_q, count = self.log_support[batch.items], len(batch.targets)
        if len(log_q) == count:
            return log_q
        return torch.cat([log_q[:count], self.sample_alpha * log_q[count:]])


class UpdateLike(Protocol):
    """An `Update`, or what replaces it."""

    @property
    def network(self) -> PRNN: ...

    def __call__(
        self, batch: Batch, state: State, learners: Learners, measure: bool = False
    ) -> UpdateResult: ...


def train_step(
    update: UpdateLike,
    batch: Batch,
    state: State,
    updates: Sequence[Learners],
    measure: bool = False,
) -> tuple[list[UpdateResult], State]:
    """All updates of a mini-batch, and the state of its slots to go on from.

    Every update starts from the same state; the one carried on has each subnet's layers from the
    forward pass in which it learned. Without any negative the state goes on and nothing is learned.
    """
    network = update.network
    state = enter(batch, state)
    if not batch.has_negatives:
        with torch.no_grad():
            after = network.eval().read(batch, state)[1]  # without dropout
        network.train()
        return [], after
    done: list[UpdateResult] = []
    carried: State = ()
    for learners in updates:
        done.append(update(batch, state, learners, measure))
        after = done[-1].state
        carried = network.select(carried, after, learners) if carried else after
    return done, carried


def enter(batch: Batch, state: State) -> State:
    """The state of the slots that are still live, zero where a session begins."""
    if batch.stay is not None:
        state = tuple(h[batch.stay] for h in state)
    if batch.keep is not None:
        state = tuple(h * batch.keep for h in state)
    return state
