"""Recommendations for sessions of raw item ids, by a network or a baseline."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from p_rnn.data.catalogue import Catalogue
from p_rnn.data.features.new_items import separators_of
from p_rnn.evaluation.ranking import Ranker, State
from p_rnn.evaluation.top import top_k
from p_rnn.models.architectures import build_network
from p_rnn.models.network import PRNN
from p_rnn.recommend.live import LiveSession
from p_rnn.recommend.sessions import (
    TOGETHER,
    batches,
    check_k,
    listed,
    padded,
    refuse_unknown,
    unbatched,
)
from p_rnn.recommend.top import Top
from p_rnn.runs.fit import network_content, set_network
from p_rnn.settings.config import Settings
from p_rnn.settings.errors import UserError
from p_rnn.streams import Streams

Array = NDArray[Any]
SORTED = 16 * TOGETHER  # sessions ordered by length, so that those side by side have similar ones
EVENTS = 2**22  # padded item indices of sessions side by side, 32 MiB
LISTS = (list, tuple, np.ndarray, pd.Series, pd.Index)


class Recommender:
    """What `load` returns: a trained model and the items it knows.

    Attributes:
        config: the settings that the model was trained with.
        catalogue: ids, features and properties of the items.
        ranker: what scores them (`p_rnn.evaluation.ranking.Ranker`).
        network: the trained `torch.nn.Module`; None for baselines.
        device: where it computes.
    """

    def __init__(
        self,
        config: Settings,
        catalogue: Catalogue,
        model: PRNN | Ranker,
        device: torch.device,
    ) -> None:
        self.config, self.device = config, device
        self.network: PRNN | None = None
        self.ranker: Ranker
        self._use(catalogue, model)

    def _use(self, catalogue: Catalogue, model: PRNN | Ranker) -> None:
        catalogue.index(catalogue.ids_of([0]))  # now, so that the first click is no slower
        ranker = model.ranker() if isinstance(model, PRNN) else model
        if isinstance(model, PRNN):
            self.network = model
        self.catalogue, self.ranker = catalogue, ranker

    # --- what it knows --------------------------------------------------------------------------

    @property
    def num_items(self) -> int:
        """The items that it can recommend, 0..num_items-1 of the catalogue."""
        return self.ranker.num_items

    @property
    def num_readable(self) -> int:
        """The items that it can read, 0..num_readable-1 of the catalogue."""
        return int(getattr(self.ranker, "num_readable", self.num_items))

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
            state = self._read([read[s] for s in chunk])
            seen = [found[s][found[s] >= 0] for s in chunk] if exclude_seen else None
            skipped = [
                [each for each, ok in zip(raw[s], self._readable(found[s]), strict=True) if not ok]
                for s in chunk
            ]
            for s, top in zip(chunk, self._top(state, k, seen, candidates, skipped), strict=True):
                tops[s] = top
            at += len(chunk)
        return [top for top in tops if top is not None]

    def _read(self, sessions: list[Array]) -> State:
        """The state after B sessions of item indices, longest first."""
        state = self.ranker.begin(len(sessions))
        lengths = np.array([len(session) for session in sessions])
        items = padded(sessions, 0)
        for t in range(items.shape[1]):
            inputs = torch.from_numpy(items[:, t]).to(self.device)
            active = torch.from_numpy(lengths > t).to(self.device)
            state = self.ranker.step(inputs, state, active)
        return state

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

    # --- common ---------------------------------------------------------------------------------

    def _readable(self, index: Array) -> Array:
        return (index >= 0) & (index < self.num_readable)

    def _candidates(self, raw_ids: Any) -> Tensor | None:
        if raw_ids is None:
            return None
        raw = listed(raw_ids, "candidates")
        index = self.catalogue.index(raw)
        refuse_unknown(raw, index >= 0, "the model has no such candidates")
        refuse_unknown(raw, index < self.num_items, "the model scores no such candidates")
        return torch.from_numpy(index).to(self.device)

    def _top(
        self,
        state: State,
        k: int,
        seen: list[Array] | None,
        candidates: Tensor | None,
        skipped: list[list[Any]],
    ) -> list[Top]:
        left_out = None
        if seen is not None and any(map(len, seen)):
            left_out = torch.from_numpy(padded(seen, -1)).to(self.device)
        k = min(k, self.num_items)
        scores, items = top_k(self.ranker, state, k, seen=left_out, candidates=candidates)
        found = items.cpu().numpy()
        counts = (found >= 0).sum(axis=1).tolist()
        ids = self.catalogue.ids_of(found[found >= 0])
        tops, at = [], 0
        for count, own, values, out in zip(
            counts, found.tolist(), scores.tolist(), skipped, strict=True
        ):
            part = ids[at : at + count]
            tops.append(Top(part, values[:count], out, own[:count], self.catalogue))
            at += count
        return tops
