"""Recommendations as a file: one row per session and rank, written while they are computed."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from p_rnn.files import written_whole
from p_rnn.recommend.top import Top
from p_rnn.settings.errors import UserError

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
Write = Callable[[pd.DataFrame], None]


def check_output(path: Path, inputs: Sequence[Path]) -> None:
    """Refuse, before anything is computed, a file that cannot be written or is an input.

    Raises:
        UserError: with what to do.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"output={path} must end in {', '.join(SUFFIXES)}")
    if path.is_dir():
        raise UserError(f"output={path} is a folder; name a file")
    for other in inputs:
        if path.exists() and other.exists() and path.samefile(other):
            raise UserError(f"output={path} is an input, {other}; name another file")
    if path.suffix.lower() == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise UserError(f"output={path} needs pyarrow: pip install pyarrow, or name a .csv")


def frame_of(sessions: NDArray[Any], tops: Sequence[Top], integer_items: bool) -> pd.DataFrame:
    """Columns session, rank, item and score of some sessions."""
    counts = [len(top) for top in tops]
    items = [item for top in tops for item in top.ids]
    return pd.DataFrame(
        {
            "session": np.repeat(
                sessions if sessions.dtype.kind == "i" else sessions.astype(object), counts
            ),
            "rank": np.array([k + 1 for n in counts for k in range(n)], dtype=np.int64),
            "item": pd.Series(items, dtype=np.int64 if integer_items else object),
            "score": np.array([s for top in tops for s in top.scores], dtype=np.float32),
        }
    )


@contextmanager
def writer(path: Path) -> Iterator[Write]:
    """A function that appends frames to a file, which is there only after the last one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary, ExitStack() as stack:
        if path.suffix.lower() == ".parquet":
            yield _parquet(temporary, stack)
            return
        file = stack.enter_context(temporary.open("w", encoding="utf-8", newline=""))
        yield _json(file) if path.suffix.lower() == ".jsonl" else _text(file, path)


def _text(file: Any, path: Path) -> Write:
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    begun = False

    def write(frame: pd.DataFrame) -> None:
        nonlocal begun
        frame.to_csv(file, sep=separator, header=not begun, index=False, lineterminator="\n")
        begun = True

    return write


def _json(file: Any) -> Write:
    def write(frame: pd.DataFrame) -> None:
        if len(frame):
            options: dict[str, Any] = {"force_ascii": False, "double_precision": 15}
            frame.to_json(file, orient="records", lines=True, **options)

    return write


def _parquet(path: Path, stack: ExitStack) -> Write:
    arrow = importlib.import_module("pyarrow")
    parquet = importlib.import_module("pyarrow.parquet")
    made: list[Any] = []

    def write(frame: pd.DataFrame) -> None:
        ids = {
            name: arrow.int64() if frame[name].dtype == np.int64 else arrow.string()
            for name in ("session", "item")
        }
        types = {"session": ids["session"], "rank": arrow.int64(), "item": ids["item"]}
        schema = arrow.schema({**types, "score": arrow.float32()})
        if not made:
            made.append(stack.enter_context(parquet.ParquetWriter(path, schema)))
        made[0].write_table(arrow.Table.from_pandas(frame, schema=schema, preserve_index=False))

    return write
