"""The k items with the highest scores, for anything that scores items (`Ranker`).

Selecting from all scores takes longer than the product that makes them. So each block of scores is
reduced, while it is in the cache, to the k groups of 64 neighbouring items with the largest maxima.
This is exact: an item of another group has at least k items ahead of it, the best ones of those k
groups.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

from p_rnn.evaluation.ranking import AT_ONCE, BAD_SCORES, Ranker, State

GROUP = 64  # items
# Scores per block, 4 MiB of float32, and rows of a block of a large catalogue. A GPU needs larger
# pieces of work.
BLOCK_SCORES, GPU_BLOCK_SCORES = 2**20, 2**26
ROWS, GPU_ROWS = 64, 1024


@torch.no_grad()
def top_k(
    ranker: Ranker,
    state: State,
    k: int,
    limit: int | None = None,
    seen: Tensor | None = None,
    candidates: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The best k items of B sessions, best first; of equal scores, the smaller item index first.

    Where fewer than k items are left, the last places have the item -1 and the score -inf.

    Args:
        limit: only items 0..limit-1; None: all that the ranker scores.
        seen: int64 [B, T], items to leave out in each session, padded with -1.
        candidates: int64 [C], only these items, in any order; repeats count once.

    Returns:
        scores [B, k] and items int64 [B, k].

    Raises:
        ValueError: a candidate that the ranker cannot score.
        FloatingPointError: a score is NaN or infinite.
    """
    limit = ranker.num_items if limit is None else min(limit, ranker.num_items)
    if seen is not None and not seen.shape[1]:
        seen = None
    if candidates is not None:
        candidates = _in_order(candidates, limit, ranker.num_items)
    count = limit if candidates is None else len(candidates)
    batch, device = len(state[0]), state[0].device
    if not batch or not count:
        none = torch.full((batch, k), -1, device=device)
        return torch.full((batch, k), -torch.inf, device=device), none
    rows, columns = _block_size(ranker, batch, count, device)
    found = []
    for lo in range(0, batch, rows):
        part = slice(lo, lo + rows)
        blocks = _blocks(ranker, tuple(x[part] for x in state), candidates, count, columns)
        # As many more as may be left out afterwards.
        scores, items, total = _best(blocks, k if seen is None else k + seen.shape[1])
        if candidates is not None:
            items = candidates[items.clamp(max=count - 1)]
        if seen is not None:
            scores, items = _without(scores, items, seen[part])
        found.append((scores[:, :k], items[:, :k], total))
    scores, items, total = (torch.cat(each) for each in zip(*found, strict=True))
    if not bool(torch.isfinite(total).all()):
        raise FloatingPointError(BAD_SCORES)
    missing = k - scores.shape[1]
    scores, items = pad(scores, (0, missing), value=-torch.inf), pad(items, (0, missing))
    return scores, items.masked_fill(scores == -torch.inf, -1)


def _in_order(candidates: Tensor, limit: int, num_items: int) -> Tensor:
    """The distinct candidates below the limit, ascending, so that equal scores are in order."""
    candidates = torch.unique(candidates)
    if len(candidates) and not 0 <= int(candidates[0]) <= int(candidates[-1]) < num_items:
        raise ValueError(f"candidates must be item indices from 0 to {num_items - 1}")
    return candidates[candidates < limit]


def _block_size(ranker: Ranker, batch: int, count: int, device: torch.device) -> tuple[int, int]:
    """(rows, columns) of a block; the columns are whole groups, or all."""
    if getattr(ranker, "at_once", False):
        return max(1, AT_ONCE // count), count
    gpu = device.type == "cuda"
    scores, least = (GPU_BLOCK_SCORES, GPU_ROWS) if gpu else (BLOCK_SCORES, ROWS)
    rows = min(batch, max(least, scores // count))
    return rows, max(1, scores // rows // GROUP) * GROUP


def _blocks(
    ranker: Ranker, state: State, candidates: Tensor | None, count: int, columns: int
) -> Iterator[Tensor]:
    for lo in range(0, count, columns):
        part = slice(lo, min(lo + columns, count))
        yield ranker.scores(state, part if candidates is None else candidates[part])


def _best(blocks: Iterator[Tensor], k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best k of the columns of all blocks; fewer if there are fewer.

    Returns:
        scores [b, <=k] in order, and their columns, counted over all blocks. Scores of -inf are of
        columns that do not exist.
        total [1], NaN or infinite if a score is.
    """
    kept, first, total = [], 0, None
    for block in blocks:
        total = block.sum() if total is None else total + block.sum()
        rest = -block.shape[1] % GROUP  # `pad` would copy the block even if there is none
        grouped = pad(block, (0, rest), value=-torch.inf) if rest else block
        grouped = grouped.reshape(len(block), -1, GROUP)
        kept.append(_best_groups(grouped, grouped.amax(dim=2), first, k))
        first += grouped.shape[1]
        del block, grouped  # so that the next one can reuse the memory
    assert total is not None
    scores, maxima, groups = (torch.cat(each, dim=1) for each in zip(*kept, strict=True))
    if len(kept) > 1:
        scores, _, places = _best_groups(scores, maxima, 0, k)
        groups = groups.gather(1, places)
    columns = groups[:, :, None] * GROUP + torch.arange(GROUP, device=scores.device)
    scores, columns = scores.flatten(1), columns.flatten(1)
    picked = _first_largest(scores, min(k, scores.shape[1]))
    scores, order = scores.gather(1, picked).sort(dim=1, descending=True, stable=True)
    return scores, columns.gather(1, picked.gather(1, order)), total.reshape(1)


def _best_groups(
    grouped: Tensor, maxima: Tensor, first: int, k: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The k groups of `grouped` [b, G, 64] with the largest maxima [b, G], in order of columns.

    Returns:
        scores [b, <=k, 64], their maxima [b, <=k], and their numbers, from `first`.
    """
    picked = _first_largest(maxima, min(k, maxima.shape[1]))
    batch, count, _ = grouped.shape
    rows = torch.arange(0, batch * count, count, device=picked.device)[:, None]
    # Whole rows are copied three times as fast as by `gather`.
    scores = grouped.reshape(-1, GROUP).index_select(0, (rows + picked).flatten())
    return scores.view(batch, -1, GROUP), maxima.gather(1, picked), picked + first


def _first_largest(values: Tensor, k: int) -> Tensor:
    """int64 [b, k]: columns of the k largest, ascending; of equal values, the first columns."""
    values = values.nan_to_num(torch.inf, torch.inf, -torch.inf)  # NaN is refused, after all blocks
    least = values.topk(k, dim=1, sorted=False).values.amin(dim=1, keepdim=True)
    chosen, tied = values > least, values == least
    places = k - chosen.sum(dim=1, keepdim=True)
    chosen |= tied & (tied.cumsum(dim=1) <= places)
    return chosen.nonzero()[:, 1].view(len(values), k)


def _without(scores: Tensor, items: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """The items [b, n] that are not in `seen` [b, T], in the same order, then nothing."""
    seen = seen.sort(dim=1).values
    place = torch.searchsorted(seen, items).clamp(max=seen.shape[1] - 1)
    out = seen.gather(1, place) == items
    order = out.to(torch.uint8).argsort(dim=1, stable=True)
    return scores.masked_fill(out, -torch.inf).gather(1, order), items.gather(1, order)
