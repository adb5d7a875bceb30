"""Ranks on disk: read as written, and refused when the file is damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from p_rnn.evaluation.evaluator import Ranks
from p_rnn.evaluation.ranks_file import read_ranks, write_ranks
from p_rnn.settings.errors import UserError

RANKS = Ranks(np.array([0, 0, 2]), np.array([1, 2, 1]), np.array([5, 3, 5]), np.array([1, 2.5, 7]))


def test_ranks_are_read_as_written(tmp_path: Path) -> None:
    write_ranks(tmp_path / "ranks.npz", RANKS)
    found = read_ranks(tmp_path / "ranks.npz")
    for name in ("session", "position", "item", "rank"):
        assert getattr(found, name).tolist() == getattr(RANKS, name).tolist()
    assert [path.name for path in tmp_path.iterdir()] == ["ranks.npz"]


@pytest.mark.parametrize("length", [None, 0, 10, 400])
def test_a_missing_or_truncated_file_is_refused(tmp_path: Path, length: int | None) -> None:
    path = tmp_path / "ranks.npz"
    if length is not None:
        write_ranks(path, RANKS)
        path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match=r"ranks.npz cannot be read .*; run that job again"):
        read_ranks(path)
