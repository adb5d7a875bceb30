"""Reader of files with one line of items per user, as SASRec and S3-Rec publish their data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from p_rnn.data.readers import options
from p_rnn.data.readers.base import Reader
from p_rnn.data.readers.columns import as_ids, is_integer
from p_rnn.data.readers.files import Member, explained, locate, opened
from p_rnn.data.readers.jsonl import once
from p_rnn.data.readers.options import ItemTableConfig
from p_rnn.data.readers.properties import match_ids
from p_rnn.data.readers.text import TextFormat, Utf8, lines_of
from p_rnn.settings.errors import UserError

BLOCK_BYTES = 16 * 2**20  # about 3 million events


class SequencesReader(Reader):
    """Lines `user item item ...` separated by spaces, without times.

    The time of an event is its position in the user's sequence: 0, 1, 2, ... A user may have
    several lines (down to one `user item` per event), which are concatenated.
    """

    version = 2
    timed = False

    def __init__(
        self,
        raw: Path,
        source: str,
        *,
        path: options.Path,
        encoding: options.Encoding = None,
        item_table: options.ItemTable = None,
    ) -> None:
        """
        Args:
            path: the file, plain or compressed, relative to `raw`.
            encoding: null = UTF-8.
            item_table: its `path`, unless null, is a JSON object {item: [attribute, ...]}.
        """
        self._raw, self._source, self._path, self._item_table = raw, source, path, item_table
        self._text = TextFormat(encoding=encoding)
        if item_table and item_table != ItemTableConfig(item_table.path):
            raise UserError(
                "with reader=sequences, dataset.item_table takes only path, a JSON file "
                "{item: [attributes]}; leave the other settings out"
            )

    def sources(self) -> list[Path]:
        return [locate(self._raw, self._path, self._source)]

    def item_sources(self) -> list[Path]:
        table = self._item_table
        return [locate(self._raw, table.path, self._source)] if table and table.path else []

    def events(self) -> Iterator[pd.DataFrame]:
        """Chunks of whole lines.

        Raises:
            UserError: a line with a user but no items, an empty or damaged file.
        """
        integer_users, integer_items = self._integer_ids
        lengths = pd.Series(dtype=np.int64)  # user -> events so far
        for users, items in self._blocks():
            session = as_ids(users, integer_users)
            by_user = session.groupby(session, sort=False)
            time = by_user.cumcount().astype(np.float64)
            if len(lengths):
                time += session.map(lengths).fillna(0).astype(np.float64)
            lengths = lengths.add(by_user.size(), fill_value=0)
            yield pd.DataFrame(
                {"session": session, "item": as_ids(items, integer_items), "time": time}
            )

    def items(self) -> pd.DataFrame | None:
        """`attributes`: a list of integers or strings per item.

        Raises:
            UserError: the file is not a JSON object of lists.
        """
        sources = self.item_sources()
        if not sources:
            return None
        path = sources[0]
        for _, stream in opened([Member(path)]):
            with explained(str(path)):
                text = stream.read().decode("utf-8-sig")
        try:
            attributes = json.loads(text, object_pairs_hook=once)
        except json.JSONDecodeError as error:
            raise UserError(f"{path} is not JSON: {error.msg} in line {error.lineno}") from None
        except ValueError as error:
            raise UserError(f"{path}: {error}; keep one") from None
        if not isinstance(attributes, dict) or not attributes:
            raise UserError(f"{path} must be a JSON object {{item: [attribute, ...]}}")
        for item, values in attributes.items():
            if not isinstance(values, list) or not all(type(v) in (int, str) for v in values):
                raise UserError(
                    f"{path}: the attributes of item '{item}' must be a list of integers or "
                    f"strings, not {json.dumps(values)[:60]}"
                )
        frame = pd.DataFrame({"item": pd.Series(list(attributes), dtype=str)})
        frame["attributes"] = pd.Series(list(attributes.values()), dtype=object)
        return match_ids(frame, self._integer_ids[1], str(path))

    @cached_property
    def _integer_ids(self) -> tuple[bool, bool]:
        """Whether all users and whether all items are integers; takes a pass over the file."""
        integer = [True, True]
        num_events = 0
        member = Member(self.sources()[0])
        for block in self._blocks():
            num_events += len(block[0])
            integer = [
                was and is_integer(ids, member) for was, ids in zip(integer, block, strict=True)
            ]
        if num_events == 0:
            raise UserError(f"{member} contains no events; get a new copy")
        return integer[0], integer[1]

    def _blocks(self) -> Iterator[tuple[pd.Series, pd.Series]]:
        """The users and the items of blocks of lines, as text, one row per event."""
        for member, stream in opened([Member(self.sources()[0])]):
            with explained(str(member)):
                lines, size, first = [], 0, 0
                for line in lines_of(Utf8(member, stream, self._text).read):
                    lines.append(line)
                    size += len(line)
                    if size >= BLOCK_BYTES:
                        yield _parse(lines, str(member), first)
                        lines, size, first = [], 0, first + len(lines)
                if lines:
                    yield _parse(lines, str(member), first)


def _parse(lines: list[bytes], label: str, first: int) -> tuple[pd.Series, pd.Series]:
    """User and item of each event in `lines`, which follow the first `first` lines of the file."""
    words = [line.decode("utf-8").split() for line in lines]
    counts = np.array([len(w) for w in words], dtype=np.int64)
    lonely = np.flatnonzero(counts == 1)
    if len(lonely):
        number = first + int(lonely[0]) + 1
        raise UserError(
            f"{label}, line {number}: user '{words[lonely[0]][0]}' has no items; "
            "each line must be 'user item item ...', separated by spaces"
        )
    users = np.array([w[0] for w in words if w], dtype=object)
    items = [item for w in words for item in w[1:]]
    repeated = np.repeat(users, counts[counts > 0] - 1)
    return pd.Series(repeated, dtype=str), pd.Series(items, dtype=str)
