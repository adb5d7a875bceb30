"""One training step: forward, loss, backward and optimizer on one mini-batch.

This is the reference implementation. p_rnn/fast may replace `Update` by an equal, faster one.
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
from p_rnn.settings.errors import UserError
from p_rnn.training.exchange import Exchange
from p_rnn.training.gradients import clip_, gradient_norm
from p_rnn.training.losses import LossFunction


@dataclass(frozen=True)
class UpdateResult:
    """The result of an update.

    Attributes:
        loss: 0-d; `state`: of the slots after the input items, detached; `norm`: of the gradient
            before clipping, 0-d, if it was measured.
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
            sampling, else None; `sample_alpha`: the exponent the negatives were drawn with.
        clip_norm: the largest norm of the gradient; None: no clipping.
        exchange: with the other ranks; None: there are none.
    """

    network: PRNN
    loss: LossFunction
    optimizer: torch.optim.Optimizer
    batch_size: int
    log_support: Tensor | None = None
    sample_alpha: float = 0.0
    clip_norm: float | None = None
    exchange: Exchange | None = None

    def __call__(
        self, batch: Batch, state: State, learners: Learners, measure: bool = False
    ) -> UpdateResult:
        """Update the learners on one mini-batch.

        Args:
            state: of the slots before the input items.
            measure: also return the norm of the gradient.
        """
        self.network.learn(learners)
        scores, after = self.network(batch, state)
        losses = per_example(self.loss(scores, batch.column, self.log_q(batch)))
        # The configured B, also when fewer slots are live, so that all examples weigh the same (P).
        loss = losses.sum() / self.batch_size

        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        total = loss.detach()
        if self.exchange is not None:
            total = self.exchange.gradients(self.network, total)
        norm = self.clip(measure)
        self.optimizer.step()
        return UpdateResult(total, tuple(h.detach() for h in after), norm)

    def clip(self, measure: bool) -> Tensor | None:
        """Clip the gradients if configured; return their norm before if so, or if `measure`."""
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
        log_q, count = self.log_support[batch.items], batch.examples
        if len(log_q) == count:
            return log_q
        return torch.cat([log_q[:count], self.sample_alpha * log_q[count:]])


def per_example(losses: Tensor) -> Tensor:
    """The losses [B] of a mini-batch.

    Raises:
        UserError: a loss, perhaps of a plugin, that returns their mean or sum.
    """
    if losses.dim() != 1:
        raise UserError(
            f"the loss returns a tensor of shape {list(losses.shape)}; it must return one value "
            "for each example, [B], and not their mean or sum"
        )
    return losses


class UpdateLike(Protocol):
    """An `Update`, or its replacement from p_rnn/fast."""

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
    """All updates of a mini-batch, and the state to carry to the next one.

    Every update starts from the same incoming state; the state carried on takes each subnet's part
    from the forward pass in which that subnet learned. A mini-batch without any negative advances
    the state and makes no update.
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
    """The state before the input items: of the live slots only, zero where a session begins."""
    if batch.stay is not None:
        state = tuple(h[batch.stay] for h in state)
    if batch.keep is not None:
        state = tuple(h * batch.keep for h in state)
    return state
