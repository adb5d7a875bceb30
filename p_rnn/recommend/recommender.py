"""Recommendations for sessions of raw item ids, by a network or a baseline."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from p_rnn.data.features.new_items import separators_of
from p_rnn.evaluation.reading import read_sessions
from p_rnn.models.architectures import build_network
from p_rnn.recommend.live import LiveSession
from p_rnn.recommend.scorer import Scorer
from p_rnn.recommend.sessions import (
    TOGETHER,
    Array,
    batches,
    check_k,
    listed,
    refuse_unknown,
    unbatched,
)
from p_rnn.recommend.top import Top
from p_rnn.runs.saving import network_content, set_network
from p_rnn.settings.errors import UserError
from p_rnn.streams import Streams
from p_rnn.training.checkpoint import save_checkpoint

SORTED = 16 * TOGETHER  # sessions ordered by length, so that those side by side have similar ones
EVENTS = 2**22  # padded item indices of sessions side by side, 32 MiB
LISTS = (list, tuple, np.ndarray, pd.Series, pd.Index)


class Recommender(Scorer):
    """A trained model and the items it knows; made by `load`.

    >>> from p_rnn import Dataset, load, train
    >>> world = {"num_events": 3000, "num_items": 200}
    >>> data = Dataset.from_name("synthetic", "paths.prepared=prepared", synthetic=world)
    >>> trained = train(data, "markov", folder="outputs/markov")
    >>> recommender = load(trained.checkpoint)
    >>> first, second = data.item_ids[:2].tolist()
    >>> top = recommender.recommend([first, second, "unknown"], k=3)
    >>> len(top.ids), top.skipped
    (3, ['unknown'])
    >>> session = recommender.start()
    >>> session.click(first), session.click(second)
    (True, True)
    >>> session.top(3).ids == top.ids
    True

    Attributes:
        config: the settings that the model was trained with.
        catalogue: ids, features and properties of the items.
        ranker: what scores them (`p_rnn.evaluation.ranking.Ranker`).
        network: the trained `torch.nn.Module`; None for baselines.
        device: where it computes.
    """

    # --- what it knows --------------------------------------------------------------------------

    @property
    def ids(self) -> Array:
        """[num_items]: the raw ids of the items that it can recommend; int64, or text (object)."""
        return self.catalogue.raw_ids()[: self.num_items]

    def labels(self, ids: Any) -> pd.DataFrame:
        """One row per raw id: item, and its properties as far as the item table has them."""
        values = list(ids)
        index = self.catalogue.index(values)
        refuse_unknown(values, index >= 0, "the model has no such items")
        return pd.DataFrame({"item": values, **self.catalogue.labels(index)})

    def __repr__(self) -> str:
        name = self.config.model.name
        return f"Recommender '{name}' of '{self.config.dataset.name}': {self.num_items:,} items"

    # --- whole sessions -------------------------------------------------------------------------

    def recommend(
        self, sessions: Any, k: int = 20, exclude_seen: bool = False, candidates: Any = None
    ) -> Any:
        """The best k items for one session (a `Top`), or for each of many (a list of them).

        Args:
            sessions: a list, tuple or array of raw item ids, oldest first; or many of them. Ids
                that the model cannot read are skipped; `Top.skipped` has them. An empty session is
                one that has just begun.
            k: how many; fewer come back where there are fewer.
            exclude_seen: leave out the items of the session.
            candidates: raw ids to choose from; None: all items.

        Raises:
            UserError: `sessions` or `k` is something else, or a candidate is unknown.
        """
        given = listed(sessions)
        nested = [isinstance(each, LISTS) for each in given]
        if any(nested) and not all(nested):
            raise UserError("some sessions are lists of item ids and some are not; give only lists")
        if not any(nested):
            return next(self.recommend_many([given], k, exclude_seen, candidates))
        return list(self.recommend_many(given, k, exclude_seen, candidates))

    def recommend_many(
        self,
        sessions: Iterable[Any],
        k: int = 20,
        exclude_seen: bool = False,
        candidates: Any = None,
    ) -> Iterator[Top]:
        """The same of many sessions, one `Top` after the other, in bounded memory."""
        chosen = self._candidates(candidates)
        check_k(k)
        rest = iter(sessions)
        while block := list(itertools.islice(rest, SORTED)):
            yield from self._recommend_block(block, k, exclude_seen, chosen)

    @torch.no_grad()
    def _recommend_block(
        self, sessions: list[Any], k: int, exclude_seen: bool, candidates: Tensor | None
    ) -> list[Top]:
        raw = [listed(session) for session in sessions]
        index = self.catalogue.index([each for session in raw for each in session])
        ends = np.cumsum([len(session) for session in raw])
        found = np.split(index, ends[:-1])
        read = [own[self._readable(own)] for own in found]
        tops: list[Top | None] = [None] * len(raw)
        order = sorted(range(len(raw)), key=lambda s: -len(read[s]))
        at = 0
        while at < len(order):
            longest = max(len(read[order[at]]), 1)
            chunk = order[at : at + min(TOGETHER, max(1, EVENTS // longest))]
            state = read_sessions(self.ranker, [read[s] for s in chunk], self.device)
            seen = [found[s][found[s] >= 0] for s in chunk] if exclude_seen else None
            skipped = [
                [each for each, ok in zip(raw[s], self._readable(found[s]), strict=True) if not ok]
                for s in chunk
            ]
            for s, top in zip(chunk, self._top(state, k, seen, candidates, skipped), strict=True):
                tops[s] = top
            at += len(chunk)
        return [top for top in tops if top is not None]

    # --- live sessions --------------------------------------------------------------------------

    @torch.no_grad()
    def start(self) -> LiveSession:
        """A session that begins now."""
        return LiveSession(self, self.ranker.begin(1))

    @torch.no_grad()
    def step_many(self, sessions: Sequence[LiveSession], ids: Sequence[Any]) -> list[bool]:
        """One click in each of many live sessions; returns which ids the model could read.

        Raises:
            UserError: a session occurs twice.
        """
        if len({id(session) for session in sessions}) < len(sessions):
            raise UserError("a session occurs twice; give its clicks one after the other")
        index = self.catalogue.index(ids)
        readable = self._readable(index)
        reading = [s for s, ok in zip(sessions, readable, strict=True) if ok]
        inputs = index[readable]
        for rows, state in batches([session.state for session in reading]):
            items = torch.from_numpy(inputs[rows]).to(self.device)
            active = torch.ones(len(rows), dtype=torch.bool, device=self.device)
            after = self.ranker.step(items, state, active)
            for row, parts in zip(rows, unbatched(after), strict=True):
                reading[row].state = parts
        for session, raw, item, ok in zip(sessions, ids, index, readable, strict=True):
            (session.history if ok else session.skipped).append(raw)
            if item >= 0:
                session.items.append(int(item))
        return [bool(ok) for ok in readable]

    @torch.no_grad()
    def top_many(
        self,
        sessions: Sequence[LiveSession],
        k: int = 20,
        exclude_seen: bool = False,
        candidates: Any = None,
    ) -> list[Top]:
        """The best items for each of many live sessions; see `recommend`."""
        check_k(k)
        chosen = self._candidates(candidates)
        tops: list[Top | None] = [None] * len(sessions)
        for rows, state in batches([session.state for session in sessions]):
            seen = [np.array(sessions[row].items) for row in rows] if exclude_seen else None
            skipped = [list(sessions[row].skipped) for row in rows]
            for row, top in zip(rows, self._top(state, k, seen, chosen, skipped), strict=True):
                tops[row] = top
        return [top for top in tops if top is not None]

    # --- items that come later ------------------------------------------------------------------

    def add_items(self, frame: pd.DataFrame, item: str = "item") -> int:
        """Add items with features, without training; returns how many are new.

        They are scored and read by their features from now on, in live sessions, too. Items that
        are known already stay as they are.

        Args:
            frame: one row per item: a column of ids, and the columns that the features were made
                from; a missing column is one of missing values.
            item: the column of ids.

        Raises:
            UserError: a model that does not score items by their features, or a bad frame.
        """
        if self.network is None or self.config.model.output == "free":
            raise UserError(
                f"model {self.config.model.name} scores only the items that it was trained on; to "
                "recommend items by their features, train with model.output=both"
            )
        catalogue = self.catalogue.add(frame, item, separators_of(self.config.dataset))
        added = len(catalogue) - len(self.catalogue)
        if added:
            streams = Streams(self.config.seed, self.device)
            trained, features = self.network.num_items, catalogue.features
            network = build_network(self.config, trained, streams, features)
            set_network(network, network_content(self.network))
            self._use(catalogue, network)
        return added

    def save(self, path: Path | str) -> None:
        """Write a checkpoint that holds the items as they are now, those added included."""
        content = {**self._origin, "items": self.catalogue.pack()}
        if self.network is not None:
            content |= network_content(self.network)
        save_checkpoint(Path(path), replace(self.config, portable=True), content)
