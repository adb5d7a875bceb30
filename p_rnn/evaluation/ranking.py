"""Ranks of targets against the whole catalogue, for anything that scores items.

The one seam between networks, baselines, evaluator and recommender is `Ranker`.

A block of scores is compared with the targets' own scores and counted as soon as it is made, while
it is in the cache, and never seen again: the time is that of the matrix product, and the memory is
that of a block, whatever the size of the catalogue. So the own score must be known before the
block that holds it is made; `_expected` tells how.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from p_rnn.fast import native
from p_rnn.fast.native import functions

State = tuple[Tensor, ...]

# A block of rows x items: 1 MiB of float32 scores, about what a second-level cache holds. More rows
# than items would make the products of `_expected` larger than a block.
SCORES_IN_MEMORY = 2**18
BLOCK = 512  # items per block
WHOLE = 2048  # items of a catalogue so small that its blocks are kept until all of them are there
# A graphics processor wants work in larger pieces.
GPU_SCORES_IN_MEMORY, GPU_BLOCK, GPU_WHOLE = 2**25, 8192, 2**15
AT_ONCE = 2**22  # scores of rankers that make them all in one go
KEPT_AGAIN = 2**24  # scores of rows that are ranked again, 64 MiB of float32

Compare = Callable[..., Tensor]
# A rank is 1 + the mean of these counts. ">=" is one comparison where ">" and "==" would be two.
COMPARISONS: dict[str, tuple[Compare, ...]] = {
    "standard": (torch.gt,),
    "conservative": (torch.ge,),
    "median": (torch.gt, torch.ge),
}


class Ranker(Protocol):
    """Scores all items for B sessions from the states after their events so far.

    A state is a tuple of tensors whose first dimension is B, so that sessions can be selected.
    `num_items`: it scores the item indices 0..num_items-1. One that has an attribute `at_once`
    makes all scores in one go: it is asked for few sessions and all items at a time.
    """

    num_items: int

    def begin(self, batch: int) -> State:
        """The state of `batch` sessions before their first event."""

    def step(self, items: Tensor, state: State, active: Tensor) -> State:
        """The state after one more item (int64 [B]); rows with `active` false keep theirs."""

    def scores(self, state: State, items: slice | Tensor) -> Tensor:
        """Finite scores [B, C] of a range of items or of a list [C]; higher is better."""


@dataclass(frozen=True)
class _Blocks:
    """How the scores are cut: `rows` targets at a time, `block` items at a time.

    Attributes:
        whole: the blocks of these rows are kept, as their own scores are read from them.
    """

    rows: int
    block: int
    whole: bool


@dataclass(frozen=True)
class _Question:
    """What is asked of all targets: their ranks among the items 0..ranked-1, so compared."""

    ranker: Ranker
    ranked: int
    comparisons: tuple[Compare, ...]


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
    if not len(targets):
        return torch.empty(0, dtype=torch.float64)
    ranked = min(ranker.num_items, most_popular or ranker.num_items)
    ask = _Question(ranker, ranked, COMPARISONS[ties])
    if getattr(ranker, "at_once", False):
        cut = _Blocks(max(1, AT_ONCE // ranked), ranked, whole=True)
    else:
        cut = _cut(ranked, targets.device)
    found = [
        _rank_rows(ask, tuple(x[lo : lo + cut.rows] for x in state), part, cut)
        for lo, part in _parts(targets, cut.rows)
    ]
    ranks, missed, total = (torch.cat([f[k] for f in found]) for k in range(3))
    # The one wait for the device per call.
    bad, again = torch.stack([~torch.isfinite(total).all(), missed.any()]).tolist()
    if bad:
        raise FloatingPointError(
            "a score is NaN or infinite, so nothing can be ranked: training has diverged; lower "
            "learning_rate or optimizer.momentum"
        )
    if again:
        rows = missed.nonzero().squeeze(1)
        cut = _Blocks(max(1, KEPT_AGAIN // ranked), cut.block, whole=True)
        for _, part in _parts(rows, cut.rows):
            ranks[part], _, _ = _rank_rows(ask, tuple(x[part] for x in state), targets[part], cut)
    return ranks


def _cut(ranked: int, device: torch.device) -> _Blocks:
    scores, block, whole = SCORES_IN_MEMORY, BLOCK, WHOLE
    if torch.get_num_threads() > 1:  # each has a cache, and they wait for each other at every block
        scores, block = 4 * scores, 2 * block
    if device.type == "cuda":
        scores, block, whole = GPU_SCORES_IN_MEMORY, GPU_BLOCK, GPU_WHOLE
    if ranked <= whole:
        return _Blocks(max(1, scores // ranked), block, True)
    return _Blocks(max(1, min(scores // block, block)), block, False)


def _parts(x: Tensor, size: int) -> Iterable[tuple[int, Tensor]]:
    return ((lo, x[lo : lo + size]) for lo in range(0, len(x), size))


def _rank_rows(
    ask: _Question, state: State, targets: Tensor, cut: _Blocks
) -> tuple[Tensor, Tensor, Tensor]:
    """Ranks [b], which of them are void as the own score was another one, and a sum [1].

    The sum is NaN or infinite if any score is.
    """
    places = _Places.of(targets, ask.ranked, cut.block)
    blocks: Iterable[Tensor] = _made(ask, state, cut.block)
    if cut.whole:
        blocks = list(blocks)
        own = _of_outside(ask, state, targets, blocks[0])
        for k, block in enumerate(blocks):
            own = places.read(k, block, own)
    else:
        own = _expected(ask.ranker, state, targets, cut.block)
    counts, seen, total = _count(ask, blocks, own, places)
    inside = targets < ask.ranked
    if torch.ge in ask.comparisons:
        counts -= inside.double()  # the target itself is no competitor
    ranks = 1 + counts / len(ask.comparisons)
    ranks = torch.where(targets < ask.ranker.num_items, ranks, torch.inf)
    return ranks, inside & (seen != own).squeeze(1), total


def _made(ask: _Question, state: State, size: int) -> Iterator[Tensor]:
    """The scores of the ranked items; none is held on to, so that the next takes its memory."""
    for lo in range(0, ask.ranked, size):
        yield ask.ranker.scores(state, slice(lo, min(lo + size, ask.ranked)))


@dataclass(frozen=True)
class _Places:
    """Where the targets stand: the number of the block, and the column in it, both [b, 1]."""

    number: Tensor
    column: Tensor
    size: int

    @classmethod
    def of(cls, targets: Tensor, ranked: int, size: int) -> _Places:
        number = torch.where(targets < ranked, targets // size, -1)  # -1: in no block
        return cls(number[:, None], (targets % size)[:, None], size)

    def read(self, number: int, block: Tensor, own: Tensor) -> Tensor:
        """`own` [b, 1], but the scores of the block for the targets that stand in it."""
        # Targets of other blocks read any column; the last block may have fewer.
        column = self.column
        if block.shape[1] < self.size:
            column = column.clamp(max=block.shape[1] - 1)
        return torch.where(self.number == number, block.gather(1, column), own)


def _count(
    ask: _Question, blocks: Iterable[Tensor], own: Tensor, places: _Places
) -> tuple[Tensor, Tensor, Tensor]:
    """Items that compare so with `own` [b, 1], float64 [b]; the own scores seen; a sum [1]."""
    counter: _Counter | None = None
    seen = own
    for k, block in enumerate(blocks):
        if counter is None:
            counter = (_Native if native.serves(block) else _Counter)(ask, own)
        counter.add(block)
        seen = places.read(k, block, seen)
        del block  # see `_made`
    assert counter is not None
    return counter.counts(), seen, counter.total


class _Counter:
    """Counts what compares so with `own`.

    Attributes:
        total: [1], NaN or infinite if a score is.
    """

    def __init__(self, ask: _Question, own: Tensor) -> None:
        self.comparisons, self.own = ask.comparisons, own
        # Whole numbers are exact up to 2^24 in float32.
        few = torch.float32 if ask.ranked < 2**24 else torch.float64
        self.exact = torch.promote_types(own.dtype, few)
        self.total = own.sum(dim=0, dtype=self.exact)
        self.found = torch.zeros(len(own), dtype=self.exact, device=own.device)
        self.scratch = own.new_empty(0)

    def add(self, block: Tensor) -> None:
        # Zeros and ones as numbers: five times as fast as to write and sum up truth values.
        if self.scratch.shape != block.shape:
            self.scratch = torch.empty(block.shape, dtype=block.dtype, device=block.device)
        for compare in self.comparisons:
            self.found += compare(block, self.own, out=self.scratch).sum(dim=1, dtype=self.exact)
        self.total += block.sum(dtype=self.exact)

    def counts(self) -> Tensor:
        """float64 [b]."""
        return self.found.double()


class _Native(_Counter):
    """The same in one pass over a block."""

    def __init__(self, ask: _Question, own: Tensor) -> None:
        super().__init__(ask, own.contiguous())
        self.at_least, self.above = torch.zeros(2, len(own), dtype=torch.int64)
        self.bad = torch.zeros(1, dtype=torch.int64)

    def add(self, block: Tensor) -> None:
        functions.count_scores(block, self.own, self.at_least, self.above, self.bad)

    def counts(self) -> Tensor:
        self.total = torch.where(self.bad > 0, torch.nan, self.total)
        counts = {torch.ge: self.at_least, torch.gt: self.above}
        return torch.stack([counts[compare] for compare in self.comparisons]).sum(dim=0).double()


def _expected(ranker: Ranker, state: State, targets: Tensor, block: int) -> Tensor:
    """The own scores [b, 1], from a block of the targets' items instead of a range of items.

    The scores that the targets are compared with must not differ from these in the last bit, or
    ties are made and broken. Two products of the same shape sum up in the same order, so they do
    not; whoever counts reads the own scores again, and rows in which they differ are ranked anew.
    """
    items = targets.new_zeros(block)
    items[: len(targets)] = targets.clamp(max=ranker.num_items - 1)
    return ranker.scores(state, items).diagonal()[:, None]


def _of_outside(ask: _Question, state: State, targets: Tensor, like: Tensor) -> Tensor:
    """The own scores [b, 1] of targets that are not among the ranked items, else 0."""
    own = like.new_zeros(len(targets), 1)
    outside = (targets >= ask.ranked) & (targets < ask.ranker.num_items)
    if ask.ranked < ask.ranker.num_items and bool(outside.any()):  # only with most_popular
        distinct, inverse = torch.unique(targets[outside], return_inverse=True)
        scores = ask.ranker.scores(tuple(x[outside] for x in state), distinct)
        own[outside] = scores.gather(1, inverse[:, None])
    return own
