"""The observable part of a synthetic world: its session log and its item properties."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from p_rnn.ragged import offsets_of
from p_rnn.synthetic.world import (
    DAY_S,
    EPOCH_S,
    MAX_LENGTH,
    Day,
    Floats,
    Ints,
    World,
    directions,
)

# Sessions start between 06:00 and 17:00, so the longest ends at 17:00 + 100 x 240 s = 23:40.
OPEN_S, CLOSE_S = 6 * 3600, 17 * 3600
MEAN_PAUSE_S, MAX_PAUSE_S = 30.0, 239  # between events, plus 1 s
BLOCK_SESSIONS = 100_000  # drawn together: ~1 M events, ~100 MB of working memory

IMAGE_DIM = 64
NUM_WORDS, MIN_WORDS, MAX_WORDS = 500, 4, 8
# P(word) ~ exp(8 <latent, word>), |latent| ~ 1.4: the exponent has a standard deviation of
# 8 x 1.4 / sqrt(24) = 2.3 over the words, so that most words of an item are among its nearest ~50.
WORD_FOCUS = 8.0


@dataclass(frozen=True)
class LogBlock:
    """Consecutive sessions in order of their first event, each one contiguous; E events.

    Attributes:
        session: [E] 0, 1, 2, ..., counted through the whole log.
        item: [E] positions in world order.
        time: [E] seconds since 1970, strictly increasing within a session.
        intent: [E] the hidden k of the session.
    """

    session: Ints
    item: Ints
    time: Ints
    intent: Ints


def draw_log(world: World) -> Iterator[LogBlock]:
    """The log: exactly `num_events` events, day after day, in bounded memory."""
    first = 0
    for day in range(world.num_days):
        clicks = _Clicks(world, world.day(day))
        lengths = _lengths(world, day)
        S = len(lengths)
        for part, lo in enumerate(range(0, S, BLOCK_SESSIONS)):
            rng = world.rng(1, day, part)
            length = lengths[lo : lo + BLOCK_SESSIONS]
            number = np.arange(lo, lo + len(length))
            share = (number + rng.random(len(length))) / S  # ascending, in [0, 1)
            start = OPEN_S + (share * (CLOSE_S - OPEN_S)).astype(np.int64)
            if lo + len(length) == S:
                # Each day closes a second later than the day before, so that the 24 hours before
                # the last session start contain this day and nothing of the day before.
                start[-1] = CLOSE_S + day
            intent = rng.integers(world.num_intents, size=len(length))
            item = clicks.draw(rng, intent, length)
            time = _times(rng, EPOCH_S + day * DAY_S + start, length)
            session = first + number
            yield LogBlock(np.repeat(session, length), item, time, np.repeat(intent, length))
        first += S


def draw_items(world: World) -> pd.DataFrame:
    """One row per item: `item`, `category`, `words` (list of str), `image` (float32 vector)."""
    rng = world.rng(2)
    dim = world.latent.shape[1]
    view = np.linalg.qr(rng.standard_normal((IMAGE_DIM, dim)))[0].T  # [dim, IMAGE_DIM]
    words = directions(rng, NUM_WORDS, dim)
    names = np.array([f"w{w:03d}" for w in range(NUM_WORDS)], dtype=object)
    bags: list[list[str]] = []
    images: list[npt.NDArray[np.float32]] = []
    for latent in np.array_split(world.latent, -(-world.num_items // 10_000)):
        n = len(latent)
        image = latent @ view + world.config.image_noise * rng.standard_normal((n, IMAGE_DIM))
        images += list(image.astype(np.float32))
        # the largest values of logit + Gumbel noise are draws without replacement
        logits = WORD_FOCUS * latent @ words.T + rng.gumbel(size=(n, NUM_WORDS))
        best = np.argpartition(-logits, MAX_WORDS, axis=1)[:, :MAX_WORDS]
        best = np.take_along_axis(best, np.argsort(-np.take_along_axis(logits, best, 1)), 1)
        sizes = rng.integers(MIN_WORDS, MAX_WORDS + 1, size=n)
        bags += [list(names[row[:m]]) for row, m in zip(best, sizes, strict=True)]
    columns = {"item": world.item_ids, "category": world.category, "words": bags}
    frame = pd.DataFrame({**columns, "image": images})
    return frame.sort_values("item", ignore_index=True)


def _lengths(world: World, day: int) -> Ints:
    """[S]: session lengths of the day, which add up to its share of `num_events`."""
    E, D = world.config.num_events, world.num_days
    events = E * (day + 1) // D - E * day // D
    rng = world.rng(3, day)
    lengths: Ints = np.empty(0, dtype=np.int64)
    while lengths.sum() < events:
        draw = 1 + rng.geometric(world.stop, size=1 + int(1.1 * events * world.stop))
        lengths = np.concatenate([lengths, draw.clip(max=MAX_LENGTH)])
    ends = lengths.cumsum()
    S = int(np.searchsorted(ends, events)) + 1
    lengths = lengths[:S]
    lengths[-1] -= ends[S - 1] - events
    if lengths[-1] == 1:  # a session has two events or more
        lengths = lengths[:-1]
        lengths[-1] += 1
    return lengths


class _Clicks:
    """Draws the items of many sessions by inverting cumulative distributions.

    All rows are in one ascending array, row r in (r, r + 1], so that one `searchsorted` draws from
    different rows. `side="right"` never returns an entry with probability zero.
    """

    def __init__(self, world: World, law: Day) -> None:
        self.world = world
        K, N, G = world.num_intents, world.num_items, world.num_categories
        moves = law.mass[:, None] * world.move  # [K, G + 1, G]
        self.categories = _cumulative(moves.reshape(K * (G + 1), G))
        self.items = _cumulative(law.likes)
        ends = np.searchsorted(world.category, np.arange(G), side="right")  # [G]
        edges = np.concatenate([np.arange(K)[:, None], self.items.reshape(K, N)], axis=1)
        upper = edges[:, ends]  # [K, G], the end of each category in the row of an intent
        self.lower = np.concatenate([edges[:, :1], upper[:, :-1]], axis=1).ravel()
        self.upper = upper.ravel()

    def draw(self, rng: np.random.Generator, intent: Ints, length: Ints) -> Ints:
        """[E]: the items of the sessions, one session after the other."""
        N, G = self.world.num_items, self.world.num_categories
        order = np.argsort(-length, kind="stable")  # long sessions first: the live ones are a slice
        alive = len(order) - np.searchsorted(length[order[::-1]], np.arange(length.max()), "right")
        first = offsets_of(length)[:-1][order]
        intent = intent[order]
        category = np.full(len(order), G)
        item = np.empty(int(length.sum()), dtype=np.int64)
        for t, n in enumerate(alive.tolist()):  # sessions that have an item at position t
            k = intent[:n]
            row = k * (G + 1) + category[:n]
            below_end = np.nextafter(row + 1.0, 0.0)
            drawn = np.minimum(row + rng.random(n), below_end)
            c = np.searchsorted(self.categories, drawn, side="right") - row * G
            low, high = self.lower[k * G + c], self.upper[k * G + c]
            drawn = np.minimum(low + rng.random(n) * (high - low), np.nextafter(high, 0.0))
            item[first[:n] + t] = np.searchsorted(self.items, drawn, side="right") - k * N
            category = c
        return item


def _cumulative(weights: Floats) -> Floats:
    """[R, C] weights -> [R * C]: entry (r, c) = r + P(index <= c) in row r."""
    total = weights.cumsum(axis=1)
    total /= total[:, -1:]
    return np.asarray((total + np.arange(len(weights))[:, None]).ravel())


def _times(rng: np.random.Generator, start: Ints, length: Ints) -> Ints:
    """[E]: whole seconds; pauses of at least 1 s keep times strictly increasing in a session."""
    pause = MEAN_PAUSE_S * rng.standard_exponential(int(length.sum()), dtype=np.float32)
    time = (1 + np.minimum(pause, MAX_PAUSE_S).astype(np.int64)).cumsum()
    first = offsets_of(length)[:-1]
    return np.asarray(time + np.repeat(start - time[first], length))
