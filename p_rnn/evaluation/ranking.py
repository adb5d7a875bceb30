"""Ranks of targets against the whole catalogue, for anything that scores items.

The one seam between networks, baselines, evaluator and recommender is `Ranker`.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

State = tuple[Tensor, ...]

# 64 MiB of float32 scores at a time: rows are cut so that memory does not grow with N, and still
# 16 rows share one pass over the output matrix at a million items.
SCORES_IN_MEMORY = 16 * 2**20
BLOCK = 8192  # items per block; 64 rows of a block are 2 MiB and stay in the second-level cache


class Ranker(Protocol):
    """Scores all items for B sessions from the states after their events so far.

    A state is a tuple of tensors whose first dimension is B, so that sessions can be selected.
    `num_items`: it scores the item indices 0..num_items-1.
    """

    num_items: int

    def begin(self, batch: int) -> State:
        """The state of `batch` sessions before their first event."""

    def step(self, items: Tensor, state: State, active: Tensor) -> State:
        """The state after one more item (int64 [B]); rows with `active` false keep theirs."""

    def scores(self, state: State, items: slice | Tensor) -> Tensor:
        """Finite scores [B, C] of a range of items or of a list [C]; higher is better."""


def rank_targets(
    ranker: Ranker, state: State, targets: Tensor, ties: str, most_popular: int | None = None
) -> Tensor:
    """rank = 1 + number of other items scored higher, and a tie rule; float64 [B].

    Args:
        targets: int64 [B]. A target that the ranker cannot score has rank infinity.
        ties: `standard` (ties lose nothing), `conservative` (all tied items ahead), `median`.
        most_popular: rank against the items 0..most_popular-1 and the target only.

    Raises:
        FloatingPointError: a score is NaN or infinite.
    """
    ranked = min(ranker.num_items, most_popular or ranker.num_items)
    rows = max(1, SCORES_IN_MEMORY // ranked)
    ranks = [
        _rank_rows(
            ranker, tuple(x[lo : lo + rows] for x in state), targets[lo : lo + rows], ties, ranked
        )
        for lo in range(0, len(targets), rows)
    ]
    return torch.cat(ranks) if ranks else torch.empty(0, dtype=torch.float64)


def _rank_rows(ranker: Ranker, state: State, targets: Tensor, ties: str, ranked: int) -> Tensor:
    starts = range(0, ranked, BLOCK)
    blocks = [ranker.scores(state, slice(lo, min(lo + BLOCK, ranked))) for lo in starts]
    # The target's score is read from the very product that it is compared with: a second product
    # could differ in its last bit and make or break a tie.
    own = torch.zeros(len(targets), 1, dtype=blocks[0].dtype, device=targets.device)
    for lo, block in zip(starts, blocks, strict=True):
        here = (targets >= lo) & (targets < lo + block.shape[1])
        column = (targets - lo).clamp(0, block.shape[1] - 1)[:, None]
        own = torch.where(here[:, None], block.gather(1, column), own)
    inside = targets < ranked
    outside = (targets >= ranked) & (targets < ranker.num_items)
    if bool(outside.any()):  # only with most_popular
        distinct, inverse = torch.unique(targets[outside], return_inverse=True)
        scores = ranker.scores(tuple(x[outside] for x in state), distinct)
        own[outside] = scores.gather(1, inverse[:, None])

    finite = torch.isfinite(own).all()
    higher = torch.zeros(len(targets), dtype=torch.float64, device=targets.device)
    tied = torch.zeros_like(higher)
    for block in blocks:
        finite &= torch.isfinite(block.sum())
        if ties != "conservative":
            higher += (block > own).sum(dim=1)
        if ties != "standard":
            # ">=" is one comparison where ">" and "==" would be two.
            tied += (block >= own).sum(dim=1)
    if not bool(finite):  # the one wait for the device per call
        raise FloatingPointError(
            "a score is NaN or infinite, so nothing can be ranked: training has diverged; lower "
            "learning_rate or optimizer.momentum"
        )
    if ties == "conservative":
        rank = 1 + tied - inside.double()  # the target itself is no competitor
    elif ties == "median":
        rank = 1 + (higher + tied - inside.double()) / 2
    else:
        rank = 1 + higher
    return torch.where(targets < ranker.num_items, rank, torch.inf)
