"""The ranks of a run's targets on disk, for comparing runs target by target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p_rnn.evaluation.evaluator import Ranks
from p_rnn.files import written_whole
from p_rnn.settings.errors import UserError

RANKS = "test_ranks.npz"


def write_ranks(path: Path, ranks: Ranks) -> None:
    """Write `ranks` atomically, as an .npz file of int32 arrays and float32 ranks."""
    with written_whole(path) as temporary:
        np.savez(
            temporary,
            session=ranks.session.astype(np.int32),
            position=ranks.position.astype(np.int32),
            item=ranks.item.astype(np.int32),
            rank=ranks.rank.astype(np.float32),  # halves are exact below 2^23
        )


def read_ranks(path: Path) -> Ranks:
    """The inverse of `write_ranks`.

    Raises:
        UserError: the file is missing, damaged or something else.
    """
    try:
        if not path.is_file():
            raise ValueError("it is no file")
        with np.load(path, mmap_mode=None) as file:
            columns = [file[name] for name in ("session", "position", "item", "rank")]
        _check(columns)
    except Exception as error:  # NumPy, zipfile and tokenize answer wrong bytes in a dozen ways
        said = " ".join(str(error).split())[:200]
        raise UserError(f"{path} cannot be read ({said}); run that job again") from error
    session, position, item, rank = columns
    return Ranks(session, position, item, rank.astype(np.float64))


def _check(columns: list[NDArray[Any]]) -> None:
    """Check the kinds and ranges of what `write_ranks` writes.

    Raises:
        ValueError: they are others.
    """
    *whole, rank = columns
    if any(x.ndim != 1 or len(x) != len(rank) for x in columns) or not len(rank):
        raise ValueError("its arrays are not of one length")
    if any(x.dtype != np.int32 for x in whole) or rank.dtype != np.float32:
        raise ValueError("its arrays are of other kinds")
    if any((x < 0).any() for x in whole) or not (rank >= 1).all():
        raise ValueError("it has numbers below 0, or ranks below 1")
