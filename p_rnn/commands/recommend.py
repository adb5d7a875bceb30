"""Recommend items: p-rnn recommend checkpoint=.../best.pt session=[a,b,c] k=10."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from p_rnn.commands.script import plain_script
from p_rnn.data.readers.files import files_of
from p_rnn.recommend import Recommender, Top, load
from p_rnn.recommend.session_file import TEXT, SessionFile, members_of, read_session_file
from p_rnn.recommend.tables import items_table, top_table
from p_rnn.recommend.terminal import Terminal
from p_rnn.recommend.top_file import check_output, frame_of, writer
from p_rnn.settings.commands import RecommendConfig
from p_rnn.settings.errors import UserError
from p_rnn.settings.tree import leaves

IDS = ("session", "candidates")
PATHS = ("checkpoint", "sessions", "output", "prepared", "separator")  # text as it is typed
OF_FILES = ("output", "columns.", "time_unit", "missing_ids", *TEXT)
BLOCK = 1024  # sessions written at a time
NAMED = 3  # ids that the summary names


@plain_script("recommend", RecommendConfig, ids=IDS, paths=PATHS)
def main(config: RecommendConfig) -> None:
    """Recommend for one session, for those of a file, or for a person in the terminal."""
    check(config)
    model = load(config.checkpoint, config.device, config.num_threads, config.prepared)
    options = {
        "k": config.k,
        "exclude_seen": config.exclude_seen,
        "candidates": config.candidates,
    }
    if config.interactive:
        Terminal(model, options).run(input)
    elif config.sessions is not None:
        print(recommend_file(config, model, options))
    else:
        print(recommend_one(model, config.session or [], options))


def check(config: RecommendConfig) -> None:
    """Refuse settings that do not go together, before anything is read.

    Raises:
        UserError: with what to give.
    """
    given = [config.session is not None, config.sessions is not None, config.interactive]
    if sum(given) != 1:
        raise UserError("give one of session=[a,b,c], sessions=<file> and interactive=true")
    if config.sessions is None:
        for key, value, _ in leaves(config):
            if key.startswith(OF_FILES) and value is not None:
                raise UserError(f"{key} has no effect without sessions=<file>; leave it out")
        return
    if config.output is None:
        raise UserError("sessions needs output=<a .csv, .tsv, .jsonl or .parquet file>")
    inputs = [*files_of(members_of(config.sessions)), Path(config.checkpoint)]
    check_output(Path(config.output), inputs)


def recommend_one(model: Recommender, session: list[str], options: dict[str, Any]) -> str:
    """The session's items and, below them, what is recommended, as tables."""
    top: Top = model.recommend(session, **options)
    lines = [f"{model}", ""]
    if session:
        lines += ["session:", items_table(model, session), ""]
    if len(top.skipped) == len(session):
        what = "none of these can be read; recommended for" if session else "recommended for"
        lines += [f"{what} a session that begins:"]
    else:
        lines += ["recommended:"]
    return "\n".join([*lines, top_table(top) if len(top) else "no item is left to recommend"])


def recommend_file(config: RecommendConfig, model: Recommender, options: dict[str, Any]) -> str:
    """Write the recommendations for all sessions of a file; returns a line about it."""
    began = time.perf_counter()
    file = read_session_file(config, model.config.dataset)
    skipped = skipped_ids(file, model)
    integer = model.ids.dtype.kind == "i"
    rows = 0
    bar = tqdm(
        total=len(file),
        unit=" sessions",
        desc="recommending",
        unit_scale=True,
        leave=False,
        disable=not sys.stderr.isatty(),
    )
    with bar, writer(Path(str(config.output))) as write:
        for first, tops in _blocks(model.recommend_many(file.sessions(), **options)):
            frame = frame_of(file.ids[first : first + len(tops)], tops, integer)
            write(frame)
            rows += len(frame)
            bar.update(len(tops))
    seconds = time.perf_counter() - began
    left_out = f"; {file.other_types:,} events of other types left out" * bool(file.other_types)
    left_out += f", and {file.emptied:,} sessions that have only these" * bool(file.emptied)
    return (
        f"{len(file):,} sessions, {len(file.item):,} events{left_out}; {skipped}; {rows:,} rows "
        f"written to {config.output} in {seconds:.1f} s"
    )


def _blocks(tops: Iterator[Top]) -> Iterator[tuple[int, list[Top]]]:
    """(number of the first session, the next `BLOCK` of them)."""
    for number in itertools.count():
        block = list(itertools.islice(tops, BLOCK))
        if not block:
            return
        yield number * BLOCK, block


def skipped_ids(file: SessionFile, model: Recommender) -> str:
    """What the model skips in a file, in words.

    Raises:
        UserError: it skips everything.
    """
    index = model.catalogue.index(file.item_ids)
    events = np.bincount(file.item, minlength=len(index))
    occurs = events > 0
    if not (occurs & (index >= 0)).any():
        raise UserError(
            f"none of the items (such as '{file.item_ids[0]}') is an item of the model "
            f"(such as '{model.catalogue.ids_of([0])[0]}'); check columns.item"
        )
    words = []
    for mask, what in (
        (occurs & (index < 0), "unknown ids"),
        (occurs & (index >= model.num_readable), "ids that the model cannot read"),
    ):
        if mask.any():
            names = [str(raw) for raw in file.item_ids[mask][:NAMED]]
            more = ", ..." if np.count_nonzero(mask) > NAMED else ""
            words.append(
                f"{events[mask].sum():,} events of {np.count_nonzero(mask):,} {what} skipped "
                f"({', '.join(names)}{more})"
            )
    return "; ".join(words) or "no unknown ids"
