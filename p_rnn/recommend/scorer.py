"""A model and the items it knows: from item indices to the best items."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from p_rnn.data.catalogue import Catalogue
from p_rnn.evaluation.ranking import Ranker, State
from p_rnn.evaluation.reading import padded
from p_rnn.evaluation.top import top_k
from p_rnn.models.network import PRNN
from p_rnn.recommend.sessions import Array, listed, refuse_unknown
from p_rnn.recommend.top import Top
from p_rnn.settings.config import Settings


class Scorer:
    """The part of a `Recommender`, which says what it holds, that works with item indices."""

    def __init__(
        self,
        config: Settings,
        catalogue: Catalogue,
        model: PRNN | Ranker,
        device: torch.device,
        origin: dict[str, Any],
    ) -> None:
        """
        Args:
            origin: the entries of a checkpoint about the data that the model was fitted to.
        """
        self.config, self.device, self._origin = config, device, origin
        self.network: PRNN | None = None
        self.ranker: Ranker
        self._use(catalogue, model)

    def _use(self, catalogue: Catalogue, model: PRNN | Ranker) -> None:
        catalogue.index(catalogue.ids_of([0]))  # now, so that the first click is no slower
        ranker = model.ranker() if isinstance(model, PRNN) else model
        if isinstance(model, PRNN):
            self.network = model
        self.catalogue, self.ranker = catalogue, ranker

    @property
    def num_items(self) -> int:
        """The items that it can recommend, 0..num_items-1 of the catalogue."""
        return self.ranker.num_items

    @property
    def num_readable(self) -> int:
        """The items that it can read, 0..num_readable-1 of the catalogue."""
        return int(getattr(self.ranker, "num_readable", self.num_items))

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
