"""The embedded world: sessions and item features whose best possible recall is known.

Every session has a hidden intent, and what it clicks next depends on the intent *and* on the
category of the last item. Whoever sees one item knows little of the intent, whoever has followed
the session knows nearly all: history beyond the last item matters.

Letters: N items, K intents, G categories, D = `STYLE_DIM`.

    item j       category c_j, style s_j ~ N(0, I) in R^D, popularity w_j, day of birth b_j
    intent k     uniform prior 1/K, taste u_k, a direction in R^D
    category g   centre x_g, and a direction y_g: where people go from here, both in R^D
    latent of j  [s_j, x_{c_j} + noise]; `items()` shows it through noisy words and images

    A[k, j] = w_j exp(TASTE <s_j, u_k>)                 how much intent k likes item j
    M[g, c] = exp(MOVE <y_g, x_c>), M[G, c] = 1         row G: no item yet
    P_t(j | k, g) = [b_j <= t] A[k, j] M[g, c_j] / Z_t[k, g]      t: the day, g: category before
    Z_t[k, g]     = sum over the items j born by day t of A[k, j] M[g, c_j]

Given the intent the items of a session are a first-order Markov chain that starts in row G. Its
length is 2 + a geometric number, and independent of everything else. As M sees categories only,

    P_t(j | k, g) = P_t(c_j | k, g) P_t(j | k, c_j)

and a click is two draws from small tables, [K, G + 1, G] and [K, N], instead of one from
[K, G + 1, N]. The items born by a day are fixed during the day, and a session starts and ends in
one day: the exact filter of `p_rnn.baselines.bayes` needs that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from p_rnn.config import SyntheticConfig

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

NUM_CATEGORIES = 30
STYLE_DIM = 8
TASTE = 3.0
MOVE = 2.0
POPULARITY_EXPONENT = 1.5
POPULARITY_OFFSET = 100.0

LATE_SHARE = 0.05  # of the items are born after the first day

DAY_S = 86_400
EPOCH_S = 1_577_836_800  # 2020-01-01 00:00 UTC, the first day
OPEN_S, CLOSE_S = 6 * 3600, 17 * 3600  # sessions start between 06:00 and 17:00
MEAN_PAUSE_S, MAX_PAUSE_S = 30, 240
MAX_LENGTH = 100  # 17:00 + 100 events x 240 s = 23:40, so that every session ends in its day
BLOCK_SESSIONS = 100_000  # sessions drawn together: ~0.9 M events, ~100 MB of working memory

NUM_WORDS = 500
IMAGE_DIM = 64


@dataclass(frozen=True)
class Day:
    """The tables of one day, over the items in world order (sorted by category).

    Attributes:
        likes: [K, N] A[k, j], 0 for items that are not born.
        likes_category: [K, G] sum of `likes` over the items of a category.
        norm: [K, G + 1] Z[k, g].
    """

    likes: Floats
    likes_category: Floats
    norm: Floats


class World:
    """A world drawn from (num_items, num_intents, num_days, seed); see the module for its law.

    Attributes, items in world order:
        item_ids: [N] raw ids; they tell nothing about popularity, birth or category.
        category: [N] ascending.
        birth: [N] the day, 0-based, from which on the item exists.
        latent: [N, 2 D].
        likes: [K, N] A[k, j].
        move: [G + 1, G] M[g, c].
    """

    def __init__(self, config: SyntheticConfig) -> None:
        self.config = config
        N, K, G, D = config.num_items, config.num_intents, NUM_CATEGORIES, STYLE_DIM
        rng = np.random.default_rng([config.seed, 0])
        self.num_items, self.num_intents, self.num_categories = N, K, G
        self.item_ids: Ints = rng.choice(9 * N, N, replace=False).astype(np.int64) + N
        self.category: Ints = np.sort(rng.integers(G, size=N))
        taste = directions(rng, K, D)
        centre, move = directions(rng, G, D), directions(rng, G, D)
        style = rng.standard_normal((N, D))
        place = centre[self.category] + 0.2 * rng.standard_normal((N, D))
        self.latent: Floats = np.concatenate([style, place], axis=1)
        rank = rng.permutation(N)
        weight = (rank + POPULARITY_OFFSET) ** -POPULARITY_EXPONENT
        self.likes: Floats = weight * np.exp(TASTE * taste @ style.T)
        self.likes /= self.likes.sum(axis=1, keepdims=True)
        self.move: Floats = np.ones((G + 1, G))
        self.move[:G] = np.exp(MOVE * move @ centre.T)
        late = rng.random(N) < LATE_SHARE
        self.birth: Ints = np.where(late, rng.integers(1, config.num_days, size=N), 0)

    def day(self, day: int) -> Day:
        """The tables of a day, 0-based."""
        likes = np.where(self.birth <= day, self.likes, 0.0)
        member = self.category[:, None] == np.arange(self.num_categories)  # [N, G]
        likes_category = likes @ member
        return Day(likes, likes_category, likes_category @ self.move.T)


def directions(rng: np.random.Generator, rows: int, dim: int) -> Floats:
    """[rows, dim] random unit vectors."""
    x = rng.standard_normal((rows, dim))
    return x / np.linalg.norm(x, axis=1, keepdims=True)
