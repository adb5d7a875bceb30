"""Evaluate a ranker on the sessions of a split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from p_rnn import distributed
from p_rnn.data.dataset import Sessions
from p_rnn.evaluation.beyond import TopLists, beyond_accuracy
from p_rnn.evaluation.metrics import POSITION_GROUPS, SUPPORT_GROUPS, breakdown, metrics
from p_rnn.evaluation.pool import TargetPool
from p_rnn.evaluation.ranking import Ranker
from p_rnn.ragged import place_in_row
from p_rnn.settings.errors import UserError
from p_rnn.settings.sections import EvaluationConfig

Array = NDArray[Any]

SESSIONS_TOGETHER = 1024
EVENTS_TOGETHER = 4 * 2**20  # 32 MiB of padded item indices


@dataclass(frozen=True)
class EvaluationProtocol:
    """What counts as a target; the same for all rankers in a table.

    Attributes:
        num_warm: items 0..num_warm-1 occur in the training sessions; others are cold.
        support: int64 [N], training events per item.
        settings: cutoffs, ties, cold_items, most_popular, exclude_seen, beyond_accuracy.
    """

    num_warm: int
    support: Array
    settings: EvaluationConfig

    @property
    def keep_cold(self) -> bool:
        return self.settings.cold_items == "keep"

    @property
    def candidates(self) -> int:
        """A target is ranked against the items 0..candidates-1, if the ranker scores them."""
        count = len(self.support) if self.keep_cold else self.num_warm
        return min(count, self.settings.most_popular or count)


@dataclass(frozen=True)
class Ranks:
    """One row per target, session after session in the order of the split.

    Attributes:
        session: int64 [M], number of the session in the split.
        position: int64 [M], number of events before the target that were not left out.
        item: int64 [M], index of the target item.
        rank: float64 [M], from 1; inf = the ranker has no score for the item, or the item was seen
            and seen items are left out.
        listed: {K: int64 [N]}, how often each item is in the top-K lists of the targets; None =
            not counted.
    """

    session: Array
    position: Array
    item: Array
    rank: Array
    listed: dict[int, Array] | None = None


def count_targets(sessions: Sessions, protocol: EvaluationProtocol) -> int:
    """The number of targets that `evaluate` would rank; cheap, because it needs no ranker."""
    lengths = sessions.lengths
    position = place_in_row(lengths)
    context = np.ones_like(lengths) if sessions.context is None else sessions.context
    late = position >= np.repeat(context, lengths)
    if protocol.keep_cold:
        return int(np.count_nonzero(late & (position > 0)))
    warm = sessions.items < protocol.num_warm
    before: Array = np.cumsum(warm) - warm  # warm events before each event, over all sessions
    here = before - np.repeat(np.append(before, 0)[sessions.offsets[:-1]], lengths)
    return int(np.count_nonzero(late & warm & (here > 0)))


def check_targets(sessions: Sessions, protocol: EvaluationProtocol, split: str) -> None:
    """Refuse a split without targets.

    Raises:
        UserError: no target.
    """
    if count_targets(sessions, protocol):
        return
    reason = (
        "no session has two events; use a longer held-out period"
        if protocol.keep_cold
        else "every held-out event is of a cold item (one without training events) or has only "
        "such events before it; set evaluation.cold_items=keep, or use a longer training period"
    )
    raise UserError(f"no target is left to evaluate in the {split} split: {reason}")


@torch.inference_mode()
def evaluate(
    ranker: Ranker,
    sessions: Sessions,
    protocol: EvaluationProtocol,
    device: torch.device | str = "cpu",
    reads_cold: bool = False,
    lists: bool = False,
) -> Ranks:
    """Rank every target of the sessions from the state after its predecessors.

    With cold_items=drop, cold items are neither targets nor predecessors, as if they had been
    removed from the sessions (if only the last event is a target and it is cold, the session has no
    target), and no target is ranked against them; with keep they count as all of these. A ranker
    skips inputs that it cannot read.

    With exclude_seen, the predecessors of a target are left out of its ranking, and a target that
    is one of them has the rank infinity, because it cannot be recommended.

    Args:
        lists: whether to count the items of the top-K lists of all targets.
        reads_cold: whether the ranker steps through dropped items: for the best possible ranker of
            a synthetic world, which must see the whole session.

    Raises:
        UserError: no target.
        FloatingPointError: a score is NaN or infinite.
    """
    keep_cold, settings = protocol.keep_cold, protocol.settings
    readable = getattr(ranker, "num_readable", ranker.num_items)
    if not (keep_cold or reads_cold):
        readable = min(readable, protocol.num_warm)
    # One entry per event, so that results need no sorting; 0 = not a target.
    position = np.zeros(len(sessions.items), dtype=np.int64)
    rank = np.zeros(len(sessions.items))
    top = TopLists(settings.cutoffs, len(protocol.support)) if lists else None
    limit = protocol.candidates
    pool = TargetPool(ranker, settings.ties, limit, SESSIONS_TOGETHER, rank, top)
    for chunk, items, lengths in _chunks(sessions, distributed.number(), distributed.count()):
        padded = torch.from_numpy(items).to(device)
        warm = items < protocol.num_warm
        # [b, T]: events up to and including each position that count as predecessors.
        known = np.cumsum(np.ones_like(warm) if keep_cold else warm, axis=1)
        state = ranker.begin(len(chunk))
        for t in range(items.shape[1] - 1):
            live = int(np.searchsorted(-lengths, -(t + 1)))  # sessions with an event t + 1
            state = tuple(x[:live] for x in state)
            inputs = padded[:live, t]
            state = ranker.step(inputs, state, inputs < readable)
            counts = known[:live, t] > 0
            if not keep_cold:
                counts &= warm[:live, t + 1]
            if sessions.context is not None:
                counts &= sessions.context[chunk[:live]] <= t + 1
            rows = np.flatnonzero(counts)
            if len(rows):
                places = sessions.offsets[chunk[rows]] + (t + 1)
                position[places] = known[rows, t]
                picked = torch.from_numpy(rows).to(device)
                # Of these, cold items that are no predecessors are no candidates either.
                seen = padded[picked, : t + 1] if settings.exclude_seen else None
                pool.add(tuple(x[picked] for x in state), padded[picked, t + 1], places, seen)
    pool.flush()
    counted = [] if top is None else list(top.counts.values())
    distributed.add_up(*map(torch.from_numpy, (position, rank, *counted)))  # each rank had its part
    place = np.flatnonzero(position)
    if not len(place):
        raise UserError("no target is left to evaluate: every held-out event is of a cold item")
    session = np.searchsorted(sessions.offsets, place, side="right") - 1
    item, listed = sessions.items[place].astype(np.int64), None if top is None else top.counts
    return Ranks(session, position[place], item, rank[place], listed)


def _chunks(sessions: Sessions, part: int = 0, of: int = 1) -> Iterator[tuple[Array, Array, Array]]:
    """Batches of sessions of similar length, longest first; part `part` of `of` equal ones.

    Yields:
        (session numbers [b], items [b, T] padded with 0, non-increasing lengths [b]).
    """
    lengths = sessions.lengths
    order = np.argsort(-lengths, kind="stable")
    order = order[lengths[order] >= 2][part::of]
    lo = 0
    while lo < len(order):
        longest = int(lengths[order[lo]])
        chunk = order[lo : lo + min(SESSIONS_TOGETHER, max(1, EVENTS_TOGETHER // longest))]
        length = lengths[chunk]
        inside = np.arange(longest) < length[:, None]
        items = np.zeros(inside.shape, dtype=np.int64)
        at = sessions.offsets[chunk][:, None] + np.arange(longest)
        items[inside] = sessions.items[at[inside]]
        yield chunk, items, length
        lo += len(chunk)


def summarise(ranks: Ranks, protocol: EvaluationProtocol) -> dict[str, Any]:
    """{"targets", "metrics", "by_position", "by_support"} of an evaluation.

    With counted lists, also {"beyond_accuracy"}.
    """
    cutoffs = protocol.settings.cutoffs
    support = protocol.support[ranks.item]
    result = {
        "targets": len(ranks.rank),
        "metrics": metrics(ranks.rank, cutoffs),
        "by_position": breakdown(ranks.rank, ranks.position, POSITION_GROUPS, cutoffs),
        "by_support": breakdown(ranks.rank, support, SUPPORT_GROUPS, cutoffs),
    }
    if ranks.listed is not None:
        result["beyond_accuracy"] = beyond_accuracy(
            ranks.listed, protocol.support, protocol.candidates
        )
    return result
