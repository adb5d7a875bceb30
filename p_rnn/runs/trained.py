"""What `p_rnn.train` returns: a trained model, its metrics, and what it makes of sessions."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from p_rnn.evaluation.reading import read_sessions
from p_rnn.evaluation.report import describe
from p_rnn.models.network import PRNN
from p_rnn.runs.experiment import Outcome
from p_rnn.settings.config import Settings
from p_rnn.settings.errors import UserError

TOGETHER = 1024  # sessions read side by side


class Trained:
    """A trained model.

    Attributes:
        metrics: the content of metrics.json; `metrics["test"]["recall@20"]`.
        config: the settings of the run, with every default filled in.
        network: the trained `torch.nn.Module` in evaluation mode; None for baselines.
        dataset: the prepared data set (`p_rnn.data.dataset.Dataset`).
        folder: of the run.
        checkpoint: best.pt, or with train_on_validation=True final.pt.
    """

    def __init__(self, outcome: Outcome, data: Any = None) -> None:
        self._data = data  # keeps the temporary folder of its arrays alive
        self.metrics: dict[str, Any] = outcome.metrics
        self.config: Settings = outcome.config
        self._model = outcome.ranker
        self.network: PRNN | None = self._model if isinstance(self._model, PRNN) else None
        self.dataset = outcome.dataset
        self.folder: Path = outcome.folder
        self.checkpoint: Path = outcome.checkpoint

    @cached_property
    def ranker(self) -> Any:
        """What scores items (`p_rnn.evaluation.ranking.Ranker`): the network, or a baseline."""
        return self._model if self.network is None else self.network.ranker()

    @property
    def history(self) -> pd.DataFrame:
        """One row per epoch: epoch, loss, seconds, ..., and valid/recall@20 and so on."""
        return pd.json_normalize(self.metrics["history"], sep="/")

    def hidden_states(self, sessions: Sequence[Sequence[Any]]) -> dict[str, NDArray[np.float32]]:
        """The state of each subnet after each session: {name: [S, H]}.

        Args:
            sessions: S lists of raw item ids. Ids that the data set does not have are skipped; an
                item without training events is read by the subnets that read its features.

        Raises:
            UserError: a baseline has no hidden states.
        """
        network = self.network
        if network is None:
            name = self.config.model.name
            raise UserError(f"model {name} has no hidden states: it only counts")
        network.eval()
        names = network.names[: network.in_score]
        parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
        known = [self._known(session) for session in sessions]
        for low in range(0, max(len(known), 1), TOGETHER):
            state = read_sessions(network, known[low : low + TOGETHER], network.device)
            for name, h in zip(names, network.hidden(state), strict=True):
                parts[name].append(h.cpu().numpy())
        return {name: np.concatenate(each) for name, each in parts.items()}

    def recommender(self) -> Any:
        """The `p_rnn.recommend.Recommender` of the checkpoint."""
        return self._recommender

    def recommend(self, *arguments: Any, **options: Any) -> Any:
        """`Recommender.recommend`: top items for sessions of raw item ids."""
        return self._recommender.recommend(*arguments, **options)

    def describe(self) -> str:
        """The table of results, with the baselines beside the model."""
        return describe(self.metrics["results"], self.config.evaluation).strip("\n")

    def __repr__(self) -> str:
        last = max(self.config.evaluation.cutoffs)
        shown = ", ".join(
            f"{name} {self.metrics['test'][name]:.4f}" for name in (f"recall@{last}", f"mrr@{last}")
        )
        model = self.config.model.name
        return f"Trained '{model}' on '{self.dataset.name}': test {shown}; {self.folder}"

    @cached_property
    def _recommender(self) -> Any:
        # Imported here, because it is a layer above training.
        return importlib.import_module("p_rnn.recommend").load(self.checkpoint)

    @cached_property
    def _index(self) -> dict[Any, int]:
        """Raw id -> item index."""
        return {raw: index for index, raw in enumerate(self.dataset.item_ids.tolist())}

    def _known(self, session: Sequence[Any]) -> NDArray[np.int64]:
        if isinstance(session, str):
            raise UserError("sessions must be a list of sessions, each a list of item ids")
        found = [self._index[raw] for raw in session if raw in self._index]
        return np.array(found, dtype=np.int64)
