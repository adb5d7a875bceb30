"""The embedded world: sessions and item features whose best possible recall is known.

Every session has a hidden intent, and what it clicks next depends on the intent *and* on the
category of the last item. One item tells little about the intent, a whole session tells nearly
all: history beyond the last item matters. Letters: N items, K intents, G categories.

    item j       category c_j, style s_j on the unit sphere, popularity w_j, day of birth b_j;
                 its latent is [s_j, x_{c_j} + noise], and `items()` shows noisy views of it
    intent k     prior 1/K, taste u_k on the sphere of styles
    category g   centre x_g on another sphere; from g people go to categories near x_{p(g)}, where
                 p is a fixed permutation

    A[k, j] ~ w_j softmax_k(TASTE <s_j, u_k>)                who clicks j; each row sums to 1
    M[g, c] = exp(MOVE <x_{p(g)}, x_c>), M[G, c] = 1         row G: nothing clicked yet
    P_t(j | k, g) = [b_j <= t] A[k, j] M[g, c_j] / Z_t[k, g]            t the day
    Z_t[k, g]     = sum of A[k, j] M[g, c_j] over the items j with b_j <= t

The first item is drawn from P_t(. | k, G), the next from P_t(. | k, c_last), and so on; the number
of items is 2 + a geometric number, independent of everything else. As M sees categories only,

    P_t(j | k, g) = P_t(c_j | k, g) P_t(j | k, c_j)

and a click is two draws from small tables, [K, G + 1, G] and [K, N], instead of one from
[K, G + 1, N]. Nothing changes within a day and sessions start and end in one day: this makes the
filter of `p_rnn.baselines.bayes` exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from p_rnn.config import SyntheticConfig
from p_rnn.errors import UserError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Calibrated together; tests/baselines/test_bayes.py holds the figures that they must give.
NUM_CATEGORIES = 12
STYLE_DIM, PLACE_DIM = 16, 8
NUM_STYLES, STYLES_PER_INTENT = 64, 8
MOVES_PER_CATEGORY = 4
STRAY = 0.1
LOOKS_NOISE = 0.1
# w of the item at popularity rank r is (r + 1200)^-4. Of 10 000 items the most popular 1 % get
# 20 % of the clicks and the less popular half 1 %, yet no 20 items are a good guess for everybody.
POPULARITY_OFFSET, POPULARITY_EXPONENT = 320.0, 2.5
# 5 % of the items are born after the first day: of 10 days, the last two bear about 1 % of all.
LATE_SHARE = 0.05

DAY_S = 86_400
EPOCH_S = 1_577_836_800  # 2020-01-01 00:00 UTC, the start of day 0
# Sessions start from 06:00 to 17:00, so the longest ends at 17:00 + 100 x 240 s = 23:40.
OPEN_S, CLOSE_S = 6 * 3600, 17 * 3600
MAX_LENGTH = 100  # events
MEAN_PAUSE_S, MAX_PAUSE_S = 30.0, 239  # on top of 1 s
BLOCK_SESSIONS = 100_000  # drawn together: ~1 M events, ~100 MB of working memory

IMAGE_DIM, IMAGE_NOISE = 64, 0.1  # a coordinate of a latent is ~1/6 (style) or ~1/2 (place)
NUM_WORDS, MIN_WORDS, MAX_WORDS = 500, 4, 8
WORD_FOCUS = 8.0  # exp(8 <latent, word>): the best of 500 words are ~100 times as likely as most


@dataclass(frozen=True)
class Day:
    """The law of one day, over items in world order (sorted by category).

    Attributes:
        likes: [K, N] A[k, j], 0 for items that are not born.
        mass: [K, G] the sum of `likes` over each category.
        norm: [K, G + 1] Z[k, g].
    """

    likes: Floats
    mass: Floats
    norm: Floats


@dataclass(frozen=True)
class Block:
    """Consecutive sessions, each one contiguous, in order of their first event (E events).

    Attributes:
        session: [E] 0, 1, 2, ... through the whole log.
        item: [E] in world order.
        time: [E] seconds since 1970, strictly increasing within a session.
        intent: [E] the hidden k of the session.
    """

    session: Ints
    item: Ints
    time: Ints
    intent: Ints


class World:
    """A pure function of its config; see the module for its law.

    Attributes, items in world order:
        item_ids: [N] raw ids, which tell nothing about popularity, birth or category.
        category: [N] ascending.
        birth: [N] the day from which on the item exists.
        latent: [N, STYLE_DIM + PLACE_DIM].
        likes: [K, N] A[k, j].
        move: [G + 1, G] M[g, c].
    """

    def __init__(self, config: SyntheticConfig) -> None:
        N, K, G = config.num_items, config.num_intents, NUM_CATEGORIES
        self.config = config
        self.num_items, self.num_intents, self.num_categories = N, K, G
        self.num_days = config.num_days
        self.stop = 1 / (config.mean_session_length - 1)  # mean of 1 + geometric(p) is 1 + 1/p
        rng = self._rng(0)
        self.item_ids: Ints = N + rng.choice(9 * N, N, replace=False).astype(np.int64)
        self.category: Ints = np.sort(rng.integers(G, size=N))
        self.style: Ints = rng.integers(NUM_STYLES, size=N)
        looks = _directions(rng, NUM_STYLES, STYLE_DIM)[self.style]
        looks += LOOKS_NOISE * rng.standard_normal((N, STYLE_DIM))
        place = _directions(rng, G, PLACE_DIM)[self.category]
        place += LOOKS_NOISE * rng.standard_normal((N, PLACE_DIM))
        self.latent: Floats = np.concatenate([looks, place], axis=1)
        taste = _choices(rng, K, NUM_STYLES, STYLES_PER_INTENT)
        self.likes: Floats = taste[:, self.style] * popularity(rng.permutation(N))
        self.likes /= self.likes.sum(axis=1, keepdims=True)
        self.move: Floats = np.ones((G + 1, G))
        self.move[:G] = _choices(rng, G, G, MOVES_PER_CATEGORY)
        late = rng.random(N) < LATE_SHARE
        self.birth: Ints = np.where(late, rng.integers(1, self.num_days, size=N), 0)

    def day(self, day: int) -> Day:
        """The law of a day, 0-based."""
        likes = np.where(self.birth <= day, self.likes, 0.0)
        mass = likes @ (self.category[:, None] == np.arange(self.num_categories))
        return Day(likes, mass, mass @ self.move.T)

    def transitions(self, day: int, category: int) -> Floats:
        """[K, N] P_t(j | k, g) of the day, g = `num_categories` for the first item."""
        law = self.day(day)
        return law.likes * self.move[category, self.category] / law.norm[:, [category]]

    def day_of(self, time: npt.ArrayLike) -> Ints:
        """The day, 0-based, of times in seconds since 1970."""
        return (np.asarray(time).astype(np.int64) - EPOCH_S) // DAY_S

    def index(self, item_ids: npt.ArrayLike) -> Ints:
        """World order of raw item ids.

        Raises:
            UserError: an id that is not of this world.
        """
        wanted = np.asarray(item_ids)
        order = np.argsort(self.item_ids)
        found = order[np.searchsorted(self.item_ids[order], wanted).clip(max=self.num_items - 1)]
        if not np.array_equal(self.item_ids[found], wanted):
            raise UserError("item ids of another world: its settings differ from the data set's")
        return found

    def inputs(self, day: int) -> Floats:
        """[K, G] expected number of inputs (items before the last one) per session.

        Position t = 0, 1, .. is an input if the session has t + 2 items or more: P = (1 - p)^t.
        """
        law = self.day(day)
        G = self.num_categories
        chain = law.mass[:, None] * self.move / law.norm[:, :, None]  # [K, G + 1, G]
        now, total = chain[:, G], np.zeros_like(law.mass)
        for t in range(MAX_LENGTH - 1):
            total += (1 - self.stop) ** t * now
            now = np.einsum("kg,kgc->kc", now, chain[:, :G])
        return total

    def blocks(self) -> Iterator[Block]:
        """The log: exactly `num_events` events, day after day, in bounded memory."""
        first = 0
        for day in range(self.num_days):
            clicks = _Clicks(self, self.day(day))
            lengths = self._lengths(day)
            S = len(lengths)
            for part, lo in enumerate(range(0, S, BLOCK_SESSIONS)):
                rng = self._rng(1, day, part)
                length = lengths[lo : lo + BLOCK_SESSIONS]
                number = np.arange(lo, lo + len(length))
                start = (number + rng.random(len(length))) * ((CLOSE_S - OPEN_S) / S)
                start = OPEN_S + start.astype(np.int64)
                if lo + len(length) == S:
                    # Each day closes a second later than the day before, so that "less than 24 h
                    # before the last session start" is this day and nothing of the day before.
                    start[-1] = CLOSE_S + day
                intent = rng.integers(self.num_intents, size=len(length))
                item = clicks.draw(rng, intent, length)
                time = _times(rng, EPOCH_S + day * DAY_S + start, length)
                session = first + number
                yield Block(np.repeat(session, length), item, time, np.repeat(intent, length))
            first += S

    def items(self) -> pd.DataFrame:
        """One row per item: `item`, `category`, `words` (list of str), `image` (float32 vector)."""
        rng = self._rng(2)
        dim = self.latent.shape[1]
        view = np.linalg.qr(rng.standard_normal((IMAGE_DIM, dim)))[0].T  # [dim, IMAGE_DIM]
        words = _directions(rng, NUM_WORDS, dim)
        names = np.array([f"w{w:03d}" for w in range(NUM_WORDS)], dtype=object)
        bags: list[list[str]] = []
        images: list[npt.NDArray[np.float32]] = []
        for latent in np.array_split(self.latent, -(-self.num_items // 10_000)):
            n = len(latent)
            image = latent @ view + IMAGE_NOISE * rng.standard_normal((n, IMAGE_DIM))
            images += list(image.astype(np.float32))
            # the largest of logit + Gumbel noise are draws without replacement
            logits = WORD_FOCUS * latent @ words.T + rng.gumbel(size=(n, NUM_WORDS))
            best = np.argpartition(-logits, MAX_WORDS, axis=1)[:, :MAX_WORDS]
            best = np.take_along_axis(best, np.argsort(-np.take_along_axis(logits, best, 1)), 1)
            sizes = rng.integers(MIN_WORDS, MAX_WORDS + 1, size=n)
            bags += [list(names[row[:m]]) for row, m in zip(best, sizes, strict=True)]
        columns = {"item": self.item_ids, "category": self.category, "words": bags}
        frame = pd.DataFrame({**columns, "image": images})
        return frame.sort_values("item", ignore_index=True)

    def _lengths(self, day: int) -> Ints:
        """[S] session lengths of the day, which sum to its share of `num_events`."""
        E, D = self.config.num_events, self.num_days
        events = E * (day + 1) // D - E * day // D
        rng = self._rng(3, day)
        lengths: Ints = np.empty(0, dtype=np.int64)
        while lengths.sum() < events:
            draw = 1 + rng.geometric(self.stop, size=1 + int(1.1 * events * self.stop))
            lengths = np.concatenate([lengths, draw.clip(max=MAX_LENGTH)])
        ends = lengths.cumsum()
        S = int(np.searchsorted(ends, events)) + 1
        lengths = lengths[:S]
        lengths[-1] -= ends[S - 1] - events
        if lengths[-1] == 1:  # a session has two events or more
            lengths = lengths[:-1]
            lengths[-1] += 1
        return lengths

    def _rng(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, *stream])


class _Clicks:
    """Draws the items of many sessions by inverting cumulative distributions.

    All rows lie in one ascending array, row r in (r, r + 1], so that one `searchsorted` serves
    draws from different rows. `side="right"` never returns an entry of zero probability.
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
        """[E] the items of sessions, one session after the other."""
        N, G = self.world.num_items, self.world.num_categories
        order = np.argsort(-length, kind="stable")  # long sessions first: the live ones are a slice
        alive = len(order) - np.searchsorted(length[order[::-1]], np.arange(length.max()), "right")
        first = (length.cumsum() - length)[order]
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


def _choices(rng: np.random.Generator, rows: int, columns: int, picks: int) -> Floats:
    rounds = -(-rows * picks // columns)
    dealt = np.concatenate([rng.permutation(columns) for _ in range(rounds)])[: rows * picks]
    chosen = np.zeros((rows, columns), dtype=bool)
    chosen[np.tile(np.arange(rows), picks), dealt] = True
    return np.where(chosen, 1.0, STRAY * picks / (columns - picks))


def popularity(rank: Ints) -> Floats:
    """w of the items at these popularity ranks (0, 1, ..): the law of Zipf and Mandelbrot."""
    return np.asarray(1 / (1 + (rank / POPULARITY_OFFSET) ** POPULARITY_EXPONENT))


def _cumulative(weights: Floats) -> Floats:
    """[R, C] weights to [R * C]: entry (r, c) = r + P(index <= c) under row r."""
    total = weights.cumsum(axis=1)
    total /= total[:, -1:]
    return np.asarray((total + np.arange(len(weights))[:, None]).ravel())


def _times(rng: np.random.Generator, start: Ints, length: Ints) -> Ints:
    """[E] whole seconds; pauses of 1 s or more keep the order within a session strict."""
    pause = MEAN_PAUSE_S * rng.standard_exponential(int(length.sum()), dtype=np.float32)
    time = (1 + np.minimum(pause, MAX_PAUSE_S).astype(np.int64)).cumsum()
    first = length.cumsum() - length
    return np.asarray(time + np.repeat(start - time[first], length))


def _directions(rng: np.random.Generator, rows: int, dim: int) -> Floats:
    """[rows, dim] random unit vectors."""
    x = rng.standard_normal((rows, dim))
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))
