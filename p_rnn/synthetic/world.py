"""The synthetic world: sessions and item features whose best possible recall is known.

Every session has a hidden intent, and its next click depends on the intent *and* on the last item.
One item is compatible with several intents, a few items identify it: history beyond the last item
matters. Symbols: N items, K intents, G categories, A styles.

    item j       category c_j, style a_j, popularity w_j, first day b_j; its latent vector is
                 [centre of a_j, centre of c_j] + noise, of which `draw_items` gives noisy views
    intent k     prior 1/K; likes STYLES_PER_INTENT of the A styles
    category g   leads to MOVES_PER_CATEGORY of the G categories

    taste[k, a] = 1 if k likes a, else a small number, so that if all styles had equal weight,
                  STRAY = 10 % of clicks would go to all other styles together
    move[g, c]  = the same for categories; move[G, c] = 1, G meaning that nothing was clicked yet
    likes[k, j] ~ w_j taste[k, a_j], each row sums to 1
    P_t(j | k, g) = [b_j <= t] likes[k, j] move[g, c_j] / Z_t[k, g]        on day t
    Z_t[k, g]     = sum of likes[k, j] move[g, c_j] over the items j with b_j <= t

The first item is drawn from P_t(. | k, G), the next from P_t(. | k, c_last), and so on; the number
of items is 2 + a geometric number, independent of everything else. As move depends on categories,

    P_t(j | k, g) = P_t(c_j | k, g) P_t(j | k, c_j)

and a click is two draws from small tables, [K, G + 1, G] and [K, N], instead of one from
[K, G + 1, N]. Nothing changes within a day, and sessions start and end on the same day; this makes
the filter in `p_rnn.synthetic.best_possible` exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from p_rnn.memory import require
from p_rnn.settings.declare import number
from p_rnn.settings.errors import UserError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Calibrated together; tests/synthetic/test_best_possible.py has the metrics that must result.
# Each style is liked by 32 x 8 / 64 = 4 of 32 intents, which is all that one item reveals. Given
# the intent and the category of the last item, 8/64 x 4/12 = 1/24 of the catalogue is likely: 20
# items cover half of the clicks, while no 20 items get more than ~5 % of all clicks.
NUM_CATEGORIES, MOVES_PER_CATEGORY = 12, 4
NUM_STYLES, STYLES_PER_INTENT = 64, 8
STRAY = 0.1
# w = 1 / (1 + (r / 3.4 % of N)^2.5) at popularity rank r: a flat head, so that popularity alone is
# not a good ranker, and a tail in which the less popular half has 0.5 % of the clicks.
HEAD_SHARE, TAIL_EXPONENT = 0.034, 2.5
LATE_SHARE = 0.05  # of the items appear after day 0; of 10 days, 1.1 % on the last two

MAX_LENGTH = 100  # events of a session

DAY_S = 86_400
EPOCH_S = 1_577_836_800  # 2020-01-01 00:00 UTC, the start of day 0


@dataclass
class SyntheticConfig:
    """Settings of the synthetic world."""

    num_events: int = number(180_000, "about so many", low=1000, high=1_000_000_000)
    num_items: int = number(10_000, "in the catalogue", low=100)
    num_intents: int = number(32, "what visitors want", low=1, high=1000)
    num_days: int = number(10, "the last one tests, the one before validates", low=3, high=100)
    mean_session_length: float = number(10.0, "events", low=2, high=20)
    image_noise: float = number(
        0.1, "standard deviation of the noise in each of 64 numbers of an image", low=0, later=True
    )
    seed: int = number(0, "of the world", low=0)


# Centres are unit vectors, so a coordinate of a latent is ~1/4 (style) or ~1/3 (category).
STYLE_DIM, CATEGORY_DIM, LATENT_NOISE = 16, 8, 0.1


@dataclass(frozen=True)
class Day:
    """The distributions of one day, over items in world order (sorted by category).

    Attributes:
        likes: [K, N], 0 for items that do not exist yet.
        mass: [K, G] the sum of `likes` over each category.
        norm: [K, G + 1] Z_t[k, g].
    """

    likes: Floats
    mass: Floats
    norm: Floats


class World:
    """A pure function of its config; the module docstring defines it.

    Attributes, items in world order:
        item_ids: [N] raw ids, independent of popularity, birth and category.
        category: [N] ascending.
        birth: [N] the first day on which the item exists.
        latent: [N, STYLE_DIM + CATEGORY_DIM].
        likes: [K, N], rows sum to 1 over all items, including later ones.
        move: [G + 1, G].
    """

    def __init__(self, config: SyntheticConfig) -> None:
        N, K, G = config.num_items, config.num_intents, NUM_CATEGORIES
        per_item = 2 * K + 2 * (STYLE_DIM + CATEGORY_DIM)  # likes twice, latents
        require(
            {"the synthetic world": 8.0 * N * per_item, "its events": 16.0 * config.num_events},
            f"lower dataset.synthetic.num_items (now {N}) or num_events (now {config.num_events})",
        )
        self.config = config
        self.num_items, self.num_intents, self.num_categories = N, K, G
        self.num_days = config.num_days
        self.stop = 1 / (config.mean_session_length - 1)  # mean of 1 + geometric(p) is 1 + 1/p
        rng = self.rng(0)
        self.item_ids: Ints = N + rng.choice(9 * N, N, replace=False).astype(np.int64)
        self.category: Ints = np.sort(rng.integers(G, size=N))
        style = rng.integers(NUM_STYLES, size=N)
        looks = directions(rng, NUM_STYLES, STYLE_DIM)[style]
        kind = directions(rng, G, CATEGORY_DIM)[self.category]
        self.latent: Floats = np.concatenate([looks, kind], axis=1)
        self.latent += LATENT_NOISE * rng.standard_normal(self.latent.shape)
        taste = _choices(rng, K, NUM_STYLES, STYLES_PER_INTENT)
        rank = rng.permutation(N)
        self.likes: Floats = taste[:, style] / (1 + (rank / (HEAD_SHARE * N)) ** TAIL_EXPONENT)
        self.likes /= self.likes.sum(axis=1, keepdims=True)
        self.move: Floats = np.ones((G + 1, G))
        self.move[:G] = _choices(rng, G, G, MOVES_PER_CATEGORY)
        late = rng.random(N) < LATE_SHARE
        self.birth: Ints = np.where(late, rng.integers(1, self.num_days, size=N), 0)

    def day(self, day: int) -> Day:
        """The distributions of a day, from 0."""
        likes = np.where(self.birth <= day, self.likes, 0.0)
        mass = likes @ (self.category[:, None] == np.arange(self.num_categories))
        return Day(likes, mass, mass @ self.move.T)

    def transitions(self, day: int, category: int) -> Floats:
        """[K, N] P_t(j | k, g) of the day, g = `num_categories` for the first item."""
        law = self.day(day)
        return np.asarray(law.likes * self.move[category, self.category] / law.norm[:, [category]])

    def day_of(self, time: npt.ArrayLike) -> Ints:
        """The day, from 0, of times in seconds since 1970."""
        return np.asarray((np.asarray(time).astype(np.int64) - EPOCH_S) // DAY_S)

    def index(self, item_ids: npt.ArrayLike) -> Ints:
        """The positions of raw item ids in world order.

        Raises:
            UserError: an id that is not of this world.
        """
        wanted = np.asarray(item_ids)
        order = np.argsort(self.item_ids)
        found: Ints = order[
            np.searchsorted(self.item_ids[order], wanted).clip(max=self.num_items - 1)
        ]
        if not np.array_equal(self.item_ids[found], wanted):
            raise UserError(
                "these item ids are of another world: its settings differ from the data set's"
            )
        return found

    def inputs(self, day: int) -> Floats:
        """[K, G]: expected number of inputs (items before the last one) per session.

        Position t = 0, 1, ... is an input if the session has at least t + 2 items: P = (1 - p)^t.
        """
        law = self.day(day)
        G = self.num_categories
        chain = law.mass[:, None] * self.move / law.norm[:, :, None]  # [K, G + 1, G]
        now: Floats = chain[:, G]
        total: Floats = np.zeros_like(law.mass)
        for t in range(MAX_LENGTH - 1):
            total += (1 - self.stop) ** t * now
            now = np.einsum("kg,kgc->kc", now, chain[:, :G])
        return total

    def rng(self, *stream: int) -> np.random.Generator:
        """One of this world's random number streams; stream 0 is used by the world itself."""
        return np.random.default_rng([self.config.seed, *stream])


def _choices(rng: np.random.Generator, rows: int, columns: int, picks: int) -> Floats:
    """[rows, columns]: 1 where a row chose a column, a small number elsewhere.

    Columns are dealt like cards from a deck that is reshuffled when empty, so that all are chosen
    about equally often; a row that gets a column twice has one choice fewer.
    """
    rounds = -(-rows * picks // columns)
    dealt = np.concatenate([rng.permutation(columns) for _ in range(rounds)])[: rows * picks]
    chosen = np.zeros((rows, columns), dtype=bool)
    chosen[np.tile(np.arange(rows), picks), dealt] = True
    return np.where(chosen, 1.0, STRAY * picks / (columns - picks))


def directions(rng: np.random.Generator, rows: int, dim: int) -> Floats:
    """[rows, dim] random unit vectors."""
    x = rng.standard_normal((rows, dim))
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))
