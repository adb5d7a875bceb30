"""Events slightly out of order: what moves, how far, and how often."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from p_rnn.batches.reorder import reordered
from p_rnn.data.dataset import Sessions
from tests.batches.test_batches import make_log
from tests.worlds import settings, trainer


def drawn(lengths: list[int], places: float, seed: int = 0) -> tuple[Sessions, Sessions]:
    log = make_log(lengths)
    return log, reordered(log, places, np.random.default_rng(seed))


@pytest.mark.parametrize("places", [1, 2, 3.5])
def test_events_stay_in_their_session_and_move_a_little(places: float) -> None:
    log, found = drawn([5, 1, 2, 0, 40], places)
    assert np.array_equal(found.offsets, log.offsets)
    far = 0
    for lo, hi in zip(log.offsets[:-1], log.offsets[1:], strict=True):
        own, moved = log.items[lo:hi], found.items[lo:hi]
        assert sorted(own) == sorted(moved)
        far = max([far, *np.abs(own.astype(int) - moved)])
    assert (far == 0) == (places == 1)
    assert far < places


@pytest.mark.parametrize(("places", "share"), [(2, 1 / 8), (3, 2 / 9), (4, 9 / 32)])
def test_how_often_two_neighbours_change_places(places: float, share: float) -> None:
    """P(u - v > 1) for uniform u, v in [0, places): the area of a triangle."""
    _, found = drawn([2] * 40_000, places)
    swapped = np.mean(found.items[::2] > found.items[1::2])
    assert swapped == pytest.approx(share, abs=5 * (share * (1 - share) / 40_000) ** 0.5)


@pytest.mark.parametrize("batching", ["session_parallel", "sequences"])
def test_each_epoch_has_its_own_order(batching: str, tmp_path: Path) -> None:
    made, _ = trainer(settings(f"batching={batching}", "reorder=4", "seed=3"), tmp_path)

    def targets(epoch: int) -> list[int]:
        made.streams.start_epoch(epoch)
        return [t for batch in made.batches for t in batch.targets.tolist()]

    first, second = targets(0), targets(1)
    assert first == targets(0)
    assert sorted(first) != sorted(second)  # other events are first, and so no targets
    assert len(first) == len(second) == made.pairs
