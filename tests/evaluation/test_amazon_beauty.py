"""Ranks of a network on amazon_beauty without seen items, and of a product in NumPy."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from p_rnn.baselines.ranker import TrainingData
from p_rnn.data.prepare import prepare
from p_rnn.evaluation.evaluator import evaluate
from p_rnn.models.architectures import build_network
from p_rnn.models.network import PRNN
from p_rnn.runs.comparison import make_protocol
from p_rnn.settings.hydra_glue import load_config
from p_rnn.settings.resolve import resolve
from p_rnn.streams import Streams

BATCH = 1000  # users; of 12,101 scores each


def test_ranks_without_seen_items(tmp_path: Path) -> None:
    raw = os.environ.get("P_RNN_RAW_DATA")
    if not raw or not (Path(raw) / "amazon-beauty").is_dir():
        pytest.skip("P_RNN_RAW_DATA is not set, or has no amazon-beauty: it is not ranked")
    config = resolve(
        load_config(
            "dataset=amazon_beauty",
            *(f"paths.raw={raw}", f"paths.prepared={tmp_path}", "device=cpu"),
            *("model=id_only", "hidden_size=16", "evaluation.exclude_seen=true"),
        )
    )
    dataset = prepare(config.dataset, config.paths)
    training, num_items = dataset.training_sessions(True)
    fitted = TrainingData(training, num_items, training.support(num_items))
    network = build_network(config, num_items, Streams(1), {}).eval()
    sessions, how = dataset.sessions("test"), make_protocol(config, dataset.num_items, fitted)
    ranks = evaluate(network, sessions, how)

    users = [own[own < num_items] for own in np.split(sessions.items, sessions.offsets[1:-1])]
    ends = sessions.items[sessions.offsets[1:] - 1]
    users = [own for own, end in zip(users, ends, strict=True) if end < num_items and len(own) > 1]
    assert len(users) == len(ranks.rank) > 22_000
    assert all(len(set(own)) == len(own) for own in users), "no user has an item twice"
    targets = np.array([own[-1] for own in users])
    np.testing.assert_array_equal(ranks.item, targets)
    low, high = by_numpy(network, users, targets)
    assert ((low <= ranks.rank) & (ranks.rank <= high)).all()
    assert (low == high).mean() > 0.9
    # The history matters: with it, some ranks are worse and none is better.
    how.settings.exclude_seen = False
    with_seen = evaluate(network, sessions, how).rank
    assert (ranks.rank <= with_seen).all()
    assert (ranks.rank < with_seen).mean() > 0.5


def by_numpy(
    network: PRNN, users: list[np.ndarray], targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest rank [M] of each target: nearly equal scores may be in any order.

    The hidden states come from the network, user after user in order of length; all else is NumPy.
    """
    subnet, merge = network.subnets[0], network.merge
    assert merge.bias is not None
    weight, bias = (
        np.asarray(x.weight.detach(), dtype=np.float64) for x in (merge.tables[0], merge.bias)
    )
    lengths = np.array([len(own) for own in users])
    low, high = np.zeros(len(users)), np.zeros(len(users))
    for length in np.unique(lengths):
        same = np.flatnonzero(lengths == length)
        for rows in np.split(same, range(BATCH, len(same), BATCH)):
            history = np.stack([users[row][:-1] for row in rows]).astype(np.int64)
            state = network.begin(len(rows))
            with torch.no_grad():
                for column in torch.from_numpy(history).T:
                    state = subnet(column, state)
            scores = np.asarray(state[-1], dtype=np.float64) @ weight.T + bias[:, 0]
            own = np.take_along_axis(scores, targets[rows][:, None], axis=1)
            ahead = scores - own
            np.put_along_axis(ahead, history, -np.inf, axis=1)
            np.put_along_axis(ahead, targets[rows][:, None], -np.inf, axis=1)
            near = 1e-6 * np.abs(scores).max()
            low[rows] = 1 + (ahead > near).sum(axis=1)
            high[rows] = 1 + (ahead > -near).sum(axis=1)
    return low, high
