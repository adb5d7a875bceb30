"""One update of the weights: forward, loss, backward and a step of the optimizer.

It is a function of tensors with static shapes, without random numbers and without a wait for the
device, so that the same code runs as it stands, compiled, or captured (p_rnn/training/engine.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from p_rnn.config import Config
from p_rnn.models.merges import Learners
from p_rnn.models.network import PRNN, State
from p_rnn.models.plans import RowPlan
from p_rnn.training.feeds import Demand, Feed, Sources, Step, plan_name
from p_rnn.training.fused import build_fused, takes
from p_rnn.training.losses import build_loss
from p_rnn.training.optimizers import Optimizer
from p_rnn.training.strategies import Pass


@dataclass(frozen=True)
class Done:
    """What an update gives back.

    Attributes:
        loss: 0-d; `state`: of the sessions after the step; `norm`: of the gradient, 0-d or None.
    """

    loss: Tensor
    state: State
    norm: Tensor | None = None


class Update:
    """Updates a network in place.

    Args:
        support: int64 [N] events per item in training.
    """

    def __init__(self, config: Config, network: PRNN, feed: Feed, optimizer: Optimizer,
                 support: np.ndarray[Any, np.dtype[np.int64]]) -> None:  # fmt: skip
        assert config.batch_size is not None
        self.config, self.network, self.feed, self.optimizer = config, network, feed, optimizer
        self.batch_size = config.batch_size
        self.loss, self.fused = build_loss(config.loss), build_fused(config.loss)
        self.log_support = torch.from_numpy(np.log(support)).to(network.device, network.dtype)
        self.demand = Demand([], [])
        self.sources: dict[Learners, dict[str, Sources]] = {}

    def prepare(self, plan: Pass) -> Demand:
        """Find out what the updates of a pass want to be made ahead."""
        learning = tuple({k for learners in plan.updates for k in learners})
        self.sources = {learners: self._sources(learners) for learners in plan.updates}
        wanted = {s for of_tables in self.sources.values() for s in of_tables.values()}
        self.demand = Demand(self.network.ahead(learning), sorted(wanted))
        return self.demand

    def _sources(self, learners: Learners) -> dict[str, Sources]:
        """For each table that is read by row in an update: which indices of the step these are.

        A forward pass with two items shows it, so that no part of a network has to declare it.
        """
        network, mode = self.network, self.network.training
        index = {"inputs": torch.zeros(2, dtype=torch.int64, device=network.device)}
        if self.config.negatives != "full":
            index["items"] = torch.zeros_like(index["inputs"])
        network.eval()  # no dropout, and so no random numbers
        hidden = network.hidden(network.advance(index["inputs"], network.begin(2), learners))
        network.merged(hidden, index.get("items", slice(0, network.num_items)), learners)
        network.train(mode)
        found = {}
        for name, table in network.tables().items():
            reads, table.reads = table.reads, []
            sources = tuple(
                source for read in reads for source, x in index.items() if read.items is x
            )
            if sources:
                found[name] = sources
        return found

    def has_negatives(self, step: Step) -> bool:
        """Whether there is anything to tell the targets from."""
        items = step.part("items")
        return not items or items[0].numel() > 1

    def __call__(self, step: Step, state: State, learners: Learners, measure: bool) -> Done:
        """Loss, backward and one optimizer step, in which the learners learn.

        Args:
            state: of the slots of the step.
            measure: compute the norm of the gradient.
        """
        hidden, after = self.feed.forward(step, state, self.demand, learners)
        targets = step.one("targets")
        items, column = self._candidates(step, targets)
        candidates = self.network.candidates(hidden, items, learners)
        log_q = self._log_q(items, len(targets))
        if self.fused is not None and takes(candidates):
            losses = self.fused(candidates, column, log_q)
        else:
            losses = self.loss(candidates.scores(), column, log_q)
        # The configured B, also in the tail, so that an example weighs the same everywhere (P).
        loss = losses.sum() / self.batch_size
        loss.backward()  # type: ignore[no-untyped-call]
        plans = {}
        for name, sources in self.sources[learners].items():
            if ahead := step.part(plan_name(sources)):
                plans[name] = RowPlan(*ahead)
        norm = self.optimizer.step(measure, plans)
        return Done(loss.detach(), tuple(h.detach() for h in after), norm)

    def _candidates(self, step: Step, targets: Tensor) -> tuple[Tensor | slice, Tensor]:
        """The items to score, and the column of each example's target [M]."""
        if not step.part("items"):
            return slice(0, self.network.num_items), targets
        items = step.one("items")
        if items.dim() == 2:
            return items, torch.zeros_like(targets)
        return items, torch.arange(len(targets), device=targets.device)

    def _log_q(self, items: Tensor | slice, count: int) -> Tensor | None:
        """log q of the candidates: support for targets, support^sample_alpha for samples."""
        if not self.config.loss.logq:
            return None
        assert isinstance(items, Tensor)
        log_q = self.log_support[items]
        if len(items) == count:
            return log_q
        assert self.config.sample_alpha is not None
        return torch.cat([log_q[:count], self.config.sample_alpha * log_q[count:]])
