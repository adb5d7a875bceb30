"""Ranks of targets against the whole catalogue, for anything that scores items (`Ranker`).

`Ranker` is the one interface that networks and baselines share for evaluator and recommender.

Scores are computed block by block; each block is compared with the target scores while it is in
the cache, and then dropped. So ranking takes about the time of the matrix product, and the memory
of one block, whatever the size of the catalogue. It also means that the target scores are needed
before the blocks that contain them; see `_target_scores`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from p_rnn.evaluation.counting import COMPARISONS, Compare, Counter, counter_for
from p_rnn.evaluation.seen import SeenItems, distinct

State = tuple[Tensor, ...]

# A block of rows x items has 1 MiB of float32 scores, about the size of a second-level cache. With
# more rows than items, the products of `_target_scores` would be larger than a block.
SCORES_IN_MEMORY = 2**18
BLOCK = 512  # items per block
WHOLE = 2048  # up to so many items, all blocks are kept and the target scores are read from them
GPU_SCORES_IN_MEMORY, GPU_BLOCK, GPU_WHOLE = 2**25, 8192, 2**15  # a GPU needs larger pieces of work
AT_ONCE = 2**22  # scores per call of rankers that compute all of a row at once
KEPT_AGAIN = 2**24  # scores kept while rows are ranked again, 64 MiB of float32
BAD_SCORES = (
    "a score is NaN or infinite, so nothing can be ranked: training has diverged; lower "
    "learning_rate or optimizer.momentum"
)


class Ranker(Protocol):
    """Scores all items for B sessions from the states after their events so far.

    A state is a tuple of tensors whose first dimension is B, so that sessions can be selected.
    A ranker with a true attribute `at_once` computes the scores of all items at once: it is called
    with few sessions and all items.

    Attributes:
        num_items: the ranker scores the item indices 0..num_items-1.
    """

    num_items: int

    def begin(self, batch: int) -> State:
        """The state of `batch` sessions before their first event."""

    def step(self, items: Tensor, state: State, active: Tensor) -> State:
        """The state after one more item (int64 [B]); rows with `active` false keep theirs."""

    def scores(self, state: State, items: slice | Tensor) -> Tensor:
        """Finite scores [B, C] of a range or a list [C] of items; higher is better."""


@dataclass(frozen=True)
class _BlockSize:
    """The block size: `rows` targets times `block` items.

    Attributes:
        whole: all blocks of the rows are kept, and the target scores are read from them.
    """

    rows: int
    block: int
    whole: bool


@dataclass(frozen=True)
class _Query:
    """What is common to all targets: the ranker, the candidates 0..ranked-1, the comparisons."""

    ranker: Ranker
    ranked: int
    comparisons: tuple[Compare, ...]


@dataclass(frozen=True)
class _Targets:
    """Attributes:
    state, items: of the ranker, and the targets, int64 [B].
    seen: int64 [B, T], items that are no candidates, distinct in a row and padded with -1.
    """

    state: State
    items: Tensor
    seen: Tensor | None

    def __getitem__(self, rows: slice | Tensor) -> _Targets:
        seen = None if self.seen is None else self.seen[rows]
        return _Targets(tuple(x[rows] for x in self.state), self.items[rows], seen)


def rank_targets(
    ranker: Ranker,
    state: State,
    targets: Tensor,
    ties: str,
    limit: int | None = None,
    seen: Tensor | None = None,
) -> Tensor:
    """float64 [B]: rank = 1 + number of other candidates with a higher score, and a tie rule.

    Args:
        targets: int64 [B]. A target that the ranker cannot score has the rank infinity.
        ties: `standard` (tied items rank behind the target), `conservative` (all ahead of it),
            `median` (half of them).
        limit: the candidates are the items 0..limit-1; None: all that the ranker scores.
        seen: int64 [B, T], items that are no candidates for a target, in any order, padded with
            -1. A target among them has the rank infinity.

    Raises:
        FloatingPointError: a score is NaN or infinite.
    """
    if not len(targets):
        return torch.empty(0, dtype=torch.float64)
    ranked = ranker.num_items if limit is None else min(limit, ranker.num_items)
    if seen is not None:
        seen = distinct(seen)
        hidden = (seen == targets[:, None]).any(dim=1)
        targets = torch.where(hidden, ranker.num_items, targets)  # as one that has no score
    query = _Query(ranker, ranked, COMPARISONS[ties])
    if getattr(ranker, "at_once", False):
        cut = _BlockSize(max(1, AT_ONCE // ranked), ranked, whole=True)
    else:
        cut = _block_size(ranked, targets.device)
    asked = _Targets(state, targets, seen)
    found = [
        _rank_rows(query, asked[lo : lo + cut.rows], cut) for lo in range(0, len(targets), cut.rows)
    ]
    ranks, missed, total = (torch.cat([f[k] for f in found]) for k in range(3))
    # The only synchronisation with a GPU per call.
    bad, again = torch.stack([~torch.isfinite(total).all(), missed.any()]).tolist()
    if bad:
        raise FloatingPointError(BAD_SCORES)
    if again:
        rows = missed.nonzero().squeeze(1)
        cut = _BlockSize(max(1, KEPT_AGAIN // ranked), cut.block, whole=True)
        for lo in range(0, len(rows), cut.rows):
            part = rows[lo : lo + cut.rows]
            ranks[part], _, _ = _rank_rows(query, asked[part], cut)
    return ranks


def _block_size(ranked: int, device: torch.device) -> _BlockSize:
    scores, block, whole = SCORES_IN_MEMORY, BLOCK, WHOLE
    if torch.get_num_threads() > 1:  # each has its own cache; they sync per block
        scores, block = 4 * scores, 2 * block
    if device.type == "cuda":
        scores, block, whole = GPU_SCORES_IN_MEMORY, GPU_BLOCK, GPU_WHOLE
    if ranked <= whole:
        return _BlockSize(max(1, scores // ranked), block, True)
    return _BlockSize(max(1, min(scores // block, block)), block, False)


def _rank_rows(query: _Query, asked: _Targets, cut: _BlockSize) -> tuple[Tensor, Tensor, Tensor]:
    """Rank the targets of some rows.

    Returns:
        ranks: float64 [b].
        missed: bool [b], the rank is invalid because the block had a different target score.
        total: [1], NaN or infinite if any score is.
    """
    state, targets = asked.state, asked.items
    places = _Places.of(targets, query.ranked, cut.block)
    blocks: Iterable[Tensor] = _score_blocks(query, state, cut.block)
    if cut.whole:
        blocks = list(blocks)
        target_scores = _scores_outside(query, state, targets, blocks[0])
        for k, block in enumerate(blocks):
            target_scores = places.read(k, block, target_scores)
    else:
        target_scores = _target_scores(query.ranker, state, targets, cut.block)
    left_out = None if asked.seen is None else SeenItems.of(asked.seen, query.ranked, cut.block)
    counts, read, total = _count(query, blocks, target_scores, places, left_out)
    inside = targets < query.ranked
    if torch.ge in query.comparisons:
        counts -= inside.double()  # the target itself does not count
    ranks = 1 + counts / len(query.comparisons)
    ranks = torch.where(targets < query.ranker.num_items, ranks, torch.inf)
    return ranks, inside & (read != target_scores).squeeze(1), total


def _score_blocks(query: _Query, state: State, size: int) -> Iterator[Tensor]:
    """The scores of the candidates; keeps no block, so that the next one can reuse its memory."""
    for lo in range(0, query.ranked, size):
        yield query.ranker.scores(state, slice(lo, min(lo + size, query.ranked)))


@dataclass(frozen=True)
class _Places:
    """Where the targets are among the blocks.

    Attributes:
        number: int64 [b, 1], the number of the block; -1 = in none.
        column: int64 [b, 1], the column in the block.
        size: items per block.
    """

    number: Tensor
    column: Tensor
    size: int

    @classmethod
    def of(cls, targets: Tensor, ranked: int, size: int) -> _Places:
        number = torch.where(targets < ranked, targets // size, -1)
        return cls(number[:, None], (targets % size)[:, None], size)

    def read(self, number: int, block: Tensor, target_scores: Tensor) -> Tensor:
        """`target_scores` [b, 1], with those of targets in this block read from it."""
        # Targets of other blocks read any column; the last block may have fewer.
        column = self.column
        if block.shape[1] < self.size:
            column = column.clamp(max=block.shape[1] - 1)
        return torch.where(self.number == number, block.gather(1, column), target_scores)


def _count(
    query: _Query,
    blocks: Iterable[Tensor],
    target_scores: Tensor,
    places: _Places,
    left_out: SeenItems | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compare all blocks with the target scores [b, 1].

    Returns:
        counts: float64 [b], without those of the items left out; see `Counter`.
        read: [b, 1], the target scores that were in the blocks.
        total: [1], NaN or infinite if any score is.
    """
    counter: Counter | None = None
    read = target_scores
    for k, block in enumerate(blocks):
        if counter is None:
            counter = counter_for(block, query.comparisons, target_scores, query.ranked)
        counter.add(block)
        read = places.read(k, block, read)
        if left_out is not None:
            left_out.add(k, block, target_scores, query.comparisons)
        del block  # see `_score_blocks`
    assert counter is not None
    counts = counter.counts()
    return counts if left_out is None else counts - left_out.counts, read, counter.total


def _target_scores(ranker: Ranker, state: State, targets: Tensor, block: int) -> Tensor:
    """The target scores [b, 1], computed as a block of the targets' items.

    They must equal those in the blocks to the last bit, or ties would appear and disappear. Two
    products of the same shape add in the same order, so they normally do. `_count` reads the target
    scores from the blocks again, and rows in which they differ are ranked again.
    """
    items = targets.new_zeros(block)
    items[: len(targets)] = targets.clamp(max=ranker.num_items - 1)
    return ranker.scores(state, items).diagonal()[:, None]


def _scores_outside(query: _Query, state: State, targets: Tensor, like: Tensor) -> Tensor:
    """The target scores [b, 1] of targets that are not among the candidates, else 0."""
    target_scores = like.new_zeros(len(targets), 1)
    outside = (targets >= query.ranked) & (targets < query.ranker.num_items)
    if query.ranked < query.ranker.num_items and bool(outside.any()):  # only with a limit
        distinct, inverse = torch.unique(targets[outside], return_inverse=True)
        scores = query.ranker.scores(tuple(x[outside] for x in state), distinct)
        target_scores[outside] = scores.gather(1, inverse[:, None])
    return target_scores
