"""The session-parallel schedule against a replay that walks slots one by one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from p_rnn.batches.session_parallel import StepBlock, blocks_of, num_pairs
from p_rnn.data.dataset import Sessions
from tests.worlds import settings, trainer

Example = tuple[int, int, int]  # session, position of the input in it, position in the log


def make_log(lengths: list[int]) -> Sessions:
    """Every event is an item of its own (its position in the log, plus 100)."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    count = int(offsets[-1])
    return Sessions(np.arange(count, dtype=np.int32) + 100, offsets, np.arange(count))


@dataclass
class Slot:
    """Walks one session at a time."""

    session: int
    position: int = 0


def replay(lengths: list[int], batch_size: int) -> list[list[Example]]:
    """The live slots of every step: each slot is an object, sessions are handed out in order."""
    waiting = [s for s, length in enumerate(lengths) if length >= 2]
    starts = np.concatenate([[0], np.cumsum(lengths)]).tolist()
    slots = [Slot(waiting.pop(0)) for _ in range(min(batch_size, len(waiting)))]
    steps = []
    while slots:
        steps.append([(x.session, x.position, starts[x.session] + x.position) for x in slots])
        going_on = []
        for slot in slots:
            slot.position += 1
            if slot.position + 1 == lengths[slot.session]:  # its last event is never an input
                if not waiting:
                    continue
                slot = Slot(waiting.pop(0))
            going_on.append(slot)
        slots = going_on
    return steps


def walk(log: Sessions, blocks: list[StepBlock], batch_size: int) -> list[list[tuple[int, int]]]:
    """(input item, target item) per step; carries a state through as the trainer does.

    The fake state of a slot is [session number + 1, events read]; it is zeroed by `first`.
    """
    steps = []
    of_event = np.repeat(np.arange(log.num_sessions), log.lengths)
    state = np.zeros((batch_size, 2), dtype=np.int64)
    for block in blocks:
        for t, width in enumerate(block.width.tolist()):
            if t in block.stay:
                state = state[block.stay[t]]
            elif width < len(state):
                assert not steps, "slots vanish only with `stay`, or before the first step"
                state = state[:width]
            assert len(state) == width > 0
            state = state * ~block.first[t, :width, None]
            inputs, targets = block.inputs[t, :width], block.targets[t, :width]
            session = of_event[inputs - 100]
            np.testing.assert_array_equal(session, of_event[targets - 100])
            fresh = block.first[t, :width]
            np.testing.assert_array_equal(state[~fresh, 0], session[~fresh] + 1)
            position = inputs - 100 - log.offsets[:-1][session]
            np.testing.assert_array_equal(state[:, 1], position)
            np.testing.assert_array_equal(fresh, position == 0)
            state = np.stack([session + 1, position + 1], axis=1)
            steps.append(list(zip(inputs.tolist(), targets.tolist(), strict=True)))
    return steps


def random_case(seed: int) -> tuple[list[int], int, int]:
    rng = np.random.default_rng(seed)
    longest = int(rng.choice([2, 3, 8, 40]))
    lengths = rng.integers(1, longest + 1, int(rng.integers(1, 40))).tolist()
    batch_size = int(rng.integers(1, len(lengths) + 6))
    return lengths, batch_size, int(rng.integers(1, 51))


@pytest.mark.parametrize("part", range(4))
def test_equals_a_naive_replay(part: int) -> None:
    for seed in range(part * 100, part * 100 + 100):
        lengths, batch_size, block_steps = random_case(seed)
        log = make_log(lengths)
        blocks = list(blocks_of(log, batch_size, block_steps))
        found = walk(log, blocks, batch_size)
        expected = replay(lengths, batch_size)
        assert found == [[(e + 100, e + 101) for _, _, e in row] for row in expected], seed

        pairs = Counter(pair for row in found for pair in row)
        every = {(e + 100, e + 101) for e in range(log.num_events)} - {
            (last + 99, last + 100) for last in log.offsets[1:].tolist()
        }
        assert set(pairs) == every
        assert set(pairs.values()) <= {1}
        assert sum(pairs.values()) == num_pairs(log.offsets) == sum(n - 1 for n in lengths)


@pytest.mark.parametrize("part", range(2))
def test_sessions_start_in_order_and_the_tail_shrinks(part: int) -> None:
    for seed in range(1000 + part * 50, 1050 + part * 50):
        lengths, batch_size, block_steps = random_case(seed)
        log = make_log(lengths)
        blocks = list(blocks_of(log, batch_size, block_steps))
        starts = np.concatenate(
            [b.inputs[t, :w][b.first[t, :w]] for b in blocks for t, w in enumerate(b.width)]
            or [np.empty(0)]
        )
        usable = np.flatnonzero(np.array(lengths) >= 2)
        np.testing.assert_array_equal(starts - 100, log.offsets[usable])
        width = np.concatenate([b.width for b in blocks] or [np.empty(0, dtype=int)])
        assert (np.diff(width) <= 0).all()
        # While sessions are waiting, no slot is empty.
        assert not len(width) or width[0] == min(batch_size, len(usable))
        begun = np.cumsum([b.first[t].sum() for b in blocks for t in range(len(b.width))])
        assert (width[begun < len(usable)] == width[:1]).all()


@pytest.mark.parametrize("seed", range(2000, 2030))
def test_blocks_have_their_shape_and_padding_lies_outside_width(seed: int) -> None:
    lengths, batch_size, block_steps = random_case(seed)
    blocks = list(blocks_of(make_log(lengths), batch_size, block_steps))
    for k, block in enumerate(blocks):
        steps = len(block.width)
        assert steps == block_steps if k + 1 < len(blocks) else 1 <= steps <= block_steps
        for array in (block.inputs, block.targets, block.first):
            assert array.shape == (steps, batch_size)
        assert block.inputs.dtype == block.targets.dtype == np.int64
        outside = np.arange(batch_size) >= block.width[:, None]
        # Inside, targets follow their inputs (items are numbered like events), and `first` is
        # never set where no slot lives.
        assert (block.targets - block.inputs == 1)[~outside].all()
        assert not block.first[outside].any()
        # Padding can be looked up in a table: it is some item of the log.
        assert block.inputs.min() >= 100
        assert block.targets.max() < 100 + sum(lengths)
        for t, stay in block.stay.items():
            assert 0 <= t < steps
            assert len(stay) == block.width[t]
            assert (np.diff(stay) > 0).all()


@pytest.mark.parametrize("seed", range(3000, 3030))
def test_result_does_not_depend_on_block_steps(seed: int) -> None:
    lengths, batch_size, _ = random_case(seed)
    log = make_log(lengths)
    whole = walk(log, list(blocks_of(log, batch_size, 10_000)), batch_size)
    for block_steps in (1, 2, 3, 7, 50):
        blocks = list(blocks_of(log, batch_size, block_steps))
        assert walk(log, blocks, batch_size) == whole


@pytest.mark.parametrize("lengths", [[], [1], [1, 1, 1]])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_no_pair_yields_nothing(lengths: list[int], batch_size: int) -> None:
    log = make_log(lengths)
    assert list(blocks_of(log, batch_size, 5)) == []
    assert num_pairs(log.offsets) == 0


def test_hand_worked_example() -> None:
    """Two slots; sessions of 3, 2, 1, 4 and 2 events at positions 0-2, 3-4, 5, 6-9, 10-11."""
    log = make_log([3, 2, 1, 4, 2])
    (block,) = blocks_of(log, 2, 10)
    assert block.width.tolist() == [2, 2, 2, 1]
    inputs = block.inputs - 100
    assert inputs[:3].tolist() == [[0, 3], [1, 6], [10, 7]]
    assert inputs[3, 0] == 8
    assert block.first[:3].tolist() == [[True, True], [False, True], [True, False]]
    assert not block.first[3].any()
    assert {t: stay.tolist() for t, stay in block.stay.items()} == {3: [1]}


@pytest.mark.parametrize("seed", range(60))
def test_another_order_is_that_of_the_sessions_in_it(seed: int) -> None:
    lengths, batch_size, block_steps = random_case(seed)
    log = make_log(lengths)
    order = np.random.default_rng(seed).permutation(len(lengths))
    found = list(blocks_of(log, batch_size, block_steps, order))
    wanted = list(blocks_of(log.take(order), batch_size, block_steps))
    assert len(found) == len(wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        for t, width in enumerate(theirs.width):
            assert np.array_equal(ours.inputs[t, :width], theirs.inputs[t, :width])
            assert np.array_equal(ours.targets[t, :width], theirs.targets[t, :width])
        assert np.array_equal(ours.first, theirs.first)


def test_shuffling_draws_an_order_for_each_epoch(tmp_path: Path) -> None:
    """The same pairs in each epoch, in orders that the seed fixes."""

    def epochs(*words: str) -> list[list[tuple[int, int]]]:
        made, _ = trainer(settings("batch_size=1", "num_negatives=2", *words), tmp_path)
        found = []
        for epoch in (0, 1, 0):
            made.streams.start_epoch(epoch)
            pairs = [(int(b.inputs), int(b.targets)) for b in made.batches]
            found.append(pairs)
        return found

    still, (first, second, again) = epochs()[0], epochs("shuffle=true")
    assert first == again
    assert first != second
    assert first != still
    assert sorted(first) == sorted(second) == sorted(still)
    assert epochs("shuffle=true", "seed=1")[0] != first
