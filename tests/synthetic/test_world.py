"""The log follows the law of the world, and is a pure function of its settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from p_rnn.data.readers.synthetic import SyntheticReader
from p_rnn.settings.errors import UserError
from p_rnn.synthetic import log as synthetic_log
from p_rnn.synthetic.log import draw_items, draw_log
from p_rnn.synthetic.world import DAY_S, SyntheticConfig, World


def small(**settings: Any) -> SyntheticConfig:
    return SyntheticConfig(
        **{"num_events": 3000, "num_items": 120, "num_intents": 5, "num_days": 4, **settings}
    )


def log(config: SyntheticConfig) -> tuple[World, pd.DataFrame]:
    world = World(config)
    return world, pd.concat([pd.DataFrame(vars(b)) for b in draw_log(world)], ignore_index=True)


@pytest.mark.parametrize(
    "config",
    [
        SyntheticConfig(),
        small(),
        SyntheticConfig(num_events=1000, num_items=100),
        small(num_events=1001, num_days=100, num_intents=1, mean_session_length=20.0),
        small(mean_session_length=2.0),
    ],
)
def test_sessions_lie_in_their_day_and_the_last_day_alone_starts_in_the_last_24_hours(
    config: SyntheticConfig,
) -> None:
    world, frame = log(config)
    assert len(frame) == config.num_events
    sessions = frame.groupby("session", sort=False)
    start, end = sessions["time"].min().to_numpy(), sessions["time"].max().to_numpy()
    assert np.array_equal(sessions["time"].first(), start)
    assert np.array_equal(np.unique(frame["session"]), np.arange(len(start)))
    assert (np.diff(frame["session"]) >= 0).all()
    assert (np.diff(start) >= 0).all()
    assert sessions.size().min() == 2
    same = np.diff(frame["session"]) == 0
    assert (np.diff(frame["time"])[same] > 0).all()
    day = world.day_of(start)
    assert np.array_equal(day, world.day_of(end))
    assert np.array_equal(np.unique(day), np.arange(config.num_days))
    for last in (config.num_days - 1, config.num_days - 2):  # test, then validation
        known = start[day <= last]
        assert np.array_equal(known >= known.max() - DAY_S, day[day <= last] == last)
    assert (world.birth[frame["item"]] <= world.day_of(frame["time"])).all()


def test_mean_session_length_is_the_mean() -> None:
    for mean in (4.0, 10.0):
        _, frame = log(SyntheticConfig(mean_session_length=mean))
        lengths = frame.groupby("session").size()
        # the standard deviation of 1 + geometric is below the mean: 3.5 standard errors
        assert abs(lengths.mean() - mean) < 3.5 * mean / np.sqrt(len(lengths))


def test_same_settings_same_log_and_every_setting_matters() -> None:
    def events(config: SyntheticConfig) -> bytes:
        reader = SyntheticReader(Path(), "", synthetic=config)
        images = np.stack(list(reader.items()["image"]))
        return pd.concat(reader.events()).to_numpy().tobytes() + images.tobytes()

    reference = events(small())
    assert events(small()) == reference
    changes: list[dict[str, Any]] = [
        {"num_events": 3001},
        {"num_items": 121},
        {"num_intents": 6},
        {"num_days": 5},
        {"mean_session_length": 9.0},
        {"image_noise": 0.2},
        {"seed": 1},
    ]
    assert {k for c in changes for k in c} == set(vars(small()))
    logs = [events(small(**change)) for change in changes]
    assert len({reference, *logs}) == 1 + len(changes)


def test_a_longer_log_comes_in_blocks_of_whole_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic_log, "BLOCK_SESSIONS", 7)
    world = World(small())
    blocks = list(draw_log(world))
    assert len(blocks) > 4 * 10
    first = 0
    for block in blocks:
        sessions = np.unique(block.session)
        assert np.array_equal(sessions, np.arange(first, first + len(sessions)))
        assert len(sessions) <= 7
        first += len(sessions)
    assert sum(len(block.item) for block in blocks) == 3000


def test_clicks_follow_the_transition_probabilities() -> None:
    """Chi-square of the next item, in each row (intent, category before) with enough clicks."""
    config = small(num_events=400_000, num_items=100, num_intents=2, num_days=3)
    world, frame = log(config)
    first = frame["session"].diff().fillna(1).to_numpy() > 0
    category = world.category[frame["item"]]
    before = np.where(first, world.num_categories, np.roll(category, 1))
    day = world.day_of(frame["time"])
    statistic = freedom = 0
    for d in range(config.num_days):
        for g in range(world.num_categories + 1):
            expected_rows = world.transitions(d, g)
            assert np.allclose(expected_rows.sum(axis=1), 1)
            for k in range(config.num_intents):
                row = (day == d) & (before == g) & (frame["intent"] == k).to_numpy()
                observed = np.bincount(frame["item"][row], minlength=100)
                expected = expected_rows[k] * row.sum()
                assert (observed[expected == 0] == 0).all()
                common = expected >= 5
                rest = [observed[~common].sum()], [expected[~common].sum()]
                o = np.concatenate([observed[common], rest[0]])
                e = np.concatenate([expected[common], rest[1]])
                o, e = o[e > 5], e[e > 5]
                statistic += ((o - e) ** 2 / e).sum()
                freedom += len(o) - 1
    assert freedom > 1000
    # Chi-square has mean f and variance 2 f; |z| < 3.3 in 999 of 1000 worlds that obey the law.
    assert abs(statistic - freedom) < 3.3 * np.sqrt(2 * freedom)


def test_transitions_are_the_written_law() -> None:
    world = World(small())
    for day in (0, 3):
        born = world.birth <= day
        assert born.all() == (day == 3)
        for g in (0, 5, world.num_categories):
            for k in range(5):
                weight = born * world.likes[k] * world.move[g][world.category]
                assert np.allclose(world.transitions(day, g)[k], weight / weight.sum(), rtol=1e-12)


def test_some_items_appear_only_late() -> None:
    world, frame = log(SyntheticConfig())
    day = world.day_of(frame["time"])
    item = frame["item"].to_numpy()
    late = world.birth >= world.num_days - 2
    assert not late[item[day < world.num_days - 2]].any()
    share = late[item[day == world.num_days - 1]].mean()
    assert 0.005 < share < 0.02
    assert (world.birth == world.num_days - 1).sum() > 30


def test_raw_ids_are_opaque() -> None:
    world = World(SyntheticConfig())
    assert len(np.unique(world.item_ids)) == world.num_items
    for hidden in (world.category, world.birth, world.likes.sum(axis=0)):
        rank = np.argsort(np.argsort(hidden, kind="stable"))
        assert abs(np.corrcoef(world.item_ids, rank)[0, 1]) < 0.03  # 3 / sqrt(10 000)


def test_index_finds_items_and_refuses_those_of_another_world() -> None:
    world = World(small())
    order = np.random.default_rng(0).permutation(120)[:50]
    assert np.array_equal(world.index(world.item_ids[order]), order)
    for foreign in (0, 10**9):
        with pytest.raises(UserError, match="another world"):
            world.index(np.array([world.item_ids[3], foreign]))


def test_popularity_has_a_long_tail() -> None:
    _, frame = log(SyntheticConfig())
    counts = np.sort(np.bincount(frame["item"], minlength=10_000))[::-1] / len(frame)
    assert counts[:100].sum() > 0.15
    assert counts[5000:].sum() < 0.01


def test_features_are_noisy_views_of_the_latents() -> None:
    world = World(SyntheticConfig(num_items=2000))
    frame = draw_items(world)
    assert sorted(frame["item"]) == sorted(world.item_ids)
    index = world.index(frame["item"])
    assert np.array_equal(frame["category"], world.category[index])
    image = np.stack(list(frame["image"]))
    assert image.shape == (2000, 64)
    assert image.dtype == np.float32
    assert frame["words"].map(len).between(4, 8).all()
    assert frame["words"].map(lambda bag: len(set(bag)) == len(bag)).all()
    assert all(isinstance(word, str) for word in frame["words"][0])
    latent = world.latent[index]
    bags = np.zeros((2000, 500))
    for i, bag in enumerate(frame["words"]):
        bags[i, [int(word[1:]) for word in bag]] = 1
    for view, low in ((image, 0.8), (bags, 0.2)):
        # held-out items: a linear map explains most of the latents, and not all
        solution = np.linalg.lstsq(view[:1500], latent[:1500], rcond=None)[0]
        error = ((view[1500:] @ solution - latent[1500:]) ** 2).mean()
        assert low < 1 - error / latent[1500:].var(axis=0).mean() < 0.99


def test_the_noise_of_images_is_that_of_the_settings() -> None:
    """The same events and views; what is added to each number has this standard deviation."""
    views = [
        np.stack(list(draw_items(World(small(image_noise=noise)))["image"])) for noise in (0.0, 0.5)
    ]
    added = views[1] - views[0]
    assert added.std() == pytest.approx(0.5, rel=0.03)
    assert np.linalg.matrix_rank(views[0], tol=1e-4) <= 24  # a linear view of the latents


def test_reader_speaks_the_protocol() -> None:
    reader = SyntheticReader(Path("nowhere"), "", synthetic=small())
    assert reader.sources() == reader.item_sources() == []
    chunk = next(reader.events())
    assert chunk["session"].dtype == chunk["item"].dtype == np.int64
    assert chunk["time"].dtype == np.float64
    assert set(chunk["item"]) <= set(reader.items()["item"])
