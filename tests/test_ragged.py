"""Ragged arrays: every function equals a loop over the rows."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from p_rnn.ragged import offsets_of, place_in_row, ranges, row_of_each

LENGTHS = {
    "ordinary": [2, 1, 3],
    "empty rows at the start, in the middle and at the end": [0, 0, 2, 0, 3, 0],
    "only empty rows": [0, 0, 0],
    "no rows": [],
    "one row": [4],
}


@pytest.fixture(params=LENGTHS.values(), ids=LENGTHS)
def lengths(request: pytest.FixtureRequest) -> NDArray[np.int64]:
    return np.array(request.param, dtype=np.int64)


def assert_int64(found: NDArray[np.int64], expected: list[int]) -> None:
    assert found.dtype == np.int64
    assert found.tolist() == expected


def test_offsets_are_the_sums_of_all_lengths_before(lengths: NDArray[np.int64]) -> None:
    expected = [0]
    for n in lengths.tolist():
        expected.append(expected[-1] + n)
    assert_int64(offsets_of(lengths), expected)


def test_each_element_knows_its_row_and_its_place_in_it(lengths: NDArray[np.int64]) -> None:
    rows, places = [], []
    for row, n in enumerate(lengths.tolist()):
        for place in range(n):
            rows.append(row)
            places.append(place)
    assert_int64(row_of_each(lengths), rows)
    assert_int64(place_in_row(lengths), places)


def test_ranges_go_up_from_their_starts_and_may_overlap(lengths: NDArray[np.int64]) -> None:
    starts = np.random.default_rng(0).integers(0, 5, len(lengths))
    expected = []
    for start, n in zip(starts.tolist(), lengths.tolist(), strict=True):
        expected += list(range(start, start + n))
    assert_int64(ranges(starts, lengths), expected)


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint16])
def test_narrow_lengths_do_not_overflow(dtype: type[np.integer]) -> None:
    lengths = np.full(600, 100, dtype=dtype)
    assert_int64(offsets_of(lengths)[-1:], [60_000])
    assert_int64(row_of_each(lengths)[-1:], [599])
    assert_int64(place_in_row(lengths)[-1:], [99])
    starts = np.arange(600, dtype=np.int64) * 100
    assert_int64(ranges(starts, lengths), list(range(60_000)))


def test_random_rows_of_a_ragged_array_are_gathered() -> None:
    rng = np.random.default_rng(1)
    lengths = rng.integers(0, 4, 50)
    offsets = offsets_of(lengths)
    flat = rng.integers(0, 1000, offsets[-1])
    rows = rng.integers(0, 50, 80)
    expected = [x for r in rows for x in flat[offsets[r] : offsets[r + 1]].tolist()]
    assert flat[ranges(offsets[rows], lengths[rows])].tolist() == expected
