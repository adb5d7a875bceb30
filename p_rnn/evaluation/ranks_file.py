"""The ranks of a run's targets on disk, for comparisons of runs target by target."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from p_rnn.evaluation.evaluator import Ranks
from p_rnn.settings.errors import UserError

RANKS = "test_ranks.npz"


def write_ranks(path: Path, ranks: Ranks) -> None:
    """Write whole or not at all."""
    temporary = path.with_name(f".{path.stem}.tmp.npz")
    np.savez(
        temporary,
        session=ranks.session.astype(np.int32),
        position=ranks.position.astype(np.int32),
        item=ranks.item.astype(np.int32),
        rank=ranks.rank.astype(np.float32),  # halves are exact below 2^23
    )
    temporary.replace(path)


def read_ranks(path: Path) -> Ranks:
    """The inverse of `write_ranks`.

    Raises:
        UserError: no such file, or not ours.
    """
    try:
        with np.load(path) as file:
            return Ranks(
                file["session"], file["position"], file["item"], file["rank"].astype(np.float64)
            )
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} cannot be read ({error}); run that job again") from error
