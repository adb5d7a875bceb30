"""The ranks of a run's targets on disk, for comparing runs target by target."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

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
        with np.load(path) as file:
            return Ranks(
                file["session"], file["position"], file["item"], file["rank"].astype(np.float64)
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read ({error}); run that job again") from error
