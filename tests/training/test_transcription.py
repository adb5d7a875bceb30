"""Whole training steps against a plain NumPy transcription of the equations, in float64.

The transcription knows sessions, equations and the initial weights, and nothing of the code: it
walks the session-parallel schedule in a naive loop, and its gradients are worked out by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from p_rnn.batches import session_parallel
from p_rnn.data.dataset import Sessions
from p_rnn.models.architectures import build_network
from p_rnn.models.network import PRNN
from p_rnn.settings.config import Config
from p_rnn.settings.resolve import resolve
from p_rnn.streams import Streams
from p_rnn.training.trainer import Trainer
from tests.composed import composed
from tests.conftest import Recorder

N, H, B, S = 23, 6, 5, 7
STEPS, PASSES = 200, 2
Weights = dict[str, np.ndarray]


# --- the sessions and the negatives, and what the code makes of them ----------------------------


def make_sessions() -> tuple[list[list[int]], np.ndarray]:
    """Sessions of 1 to 14 events with repeats, every item at least once; and their support."""
    rng = np.random.default_rng(12)
    sessions = [rng.integers(0, N, int(n)).tolist() for n in rng.integers(1, 15, 70)]
    sessions.append(list(range(N)))  # the longest is the last: it is alone at the end
    support = np.zeros(N, dtype=np.int64)
    for session in sessions:
        for item in session:
            support[item] += 1
    return sessions, support


class Stored:
    """Stands in for the sampler and hands out stored negatives, step after step."""

    def __init__(self, negatives: np.ndarray) -> None:
        self.negatives, self.used = negatives, 0

    def sample(self, steps: int, size: int) -> Tensor:
        assert size == S
        self.used += steps
        return torch.from_numpy(self.negatives[self.used - steps : self.used])


def make_config(*overrides: str) -> Config:
    fixed = (
        "dataset=table",
        "dataset.path=none",
        "dataset.test_days=1",
        "device=cpu",
        f"hidden_size={H}",
    )
    sizes = (f"batch_size={B}", f"num_negatives={S}", "sample_alpha=0.6", "learning_rate=0.1")
    return resolve(composed(*fixed, *sizes, "tracking.log_every=1", *overrides))


def by_code(
    config: Config,
    sessions: list[list[int]],
    support: np.ndarray,
    negatives: np.ndarray,
    folder: Path,
) -> tuple[list[float], Weights, PRNN]:
    """Losses, weights before, and the trained network."""
    lengths = [len(s) for s in sessions]
    data = Sessions(
        items=np.concatenate(sessions).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        times=np.zeros(sum(lengths), dtype=np.int64),
    )
    streams = Streams(5)
    network = build_network(config, N, streams, {}).double()
    before = weights_of(network)
    tracker = Recorder(folder)
    trainer = Trainer(config, network, data, support, streams, tracker)
    assert (trainer.update.log_support is not None) == bool(config.loss.parameters.get("logq"))
    if trainer.update.log_support is not None:
        # Whatever precision the code keeps log q in, this comparison is about float64.
        np.testing.assert_allclose(trainer.update.log_support, np.log(support), rtol=1e-6)
        trainer.update.log_support = torch.from_numpy(np.log(support))
    stored = Stored(negatives)
    trainer.batches.negatives.sampler = stored
    for index in range(PASSES):
        trainer.run_pass(index)
    assert stored.used == len(tracker.losses) == trainer.updates
    return tracker.losses, before, network


def weights_of(network: PRNN) -> Weights:
    """E and W (one array in mode shared), b, and of layer k: its input W, U, c and d."""
    (read,) = network.subnets[0].inputs
    layers, table = network.subnets[0].layers, read.view.table
    tensors: dict[str, Any] = {
        "out": network.merge.tables[0].weight,
        "b": network.merge.bias.weight[:, 0],
    }
    if table is not network.merge.tables[0]:
        tensors["in"] = table.weight
    if hasattr(read, "weight"):
        tensors["W0"] = read.weight
    for k, layer in enumerate(layers.cells):
        tensors[f"U{k}"], tensors[f"c{k}"] = layer.recurrent, layer.bias
        if hasattr(layer, "input_bias"):
            tensors[f"d{k}"] = layer.input_bias
        if k > 0:
            tensors[f"W{k}"] = layers.inputs[k - 1]
    return {name: x.detach().numpy().copy() for name, x in tensors.items()}


# --- the transcription --------------------------------------------------------------------------


@dataclass
class Case:
    """One combination of settings: overrides for the code, numbers for the equations."""

    name: str
    overrides: tuple[str, ...]
    loss: str
    momentum: float
    layers: int = 1
    reset: str = "after"


def sigma(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def loss_and_gradient(
    case: Case, scores: np.ndarray, log_q: np.ndarray
) -> tuple[float, np.ndarray]:
    """Sum over the live examples, divided by the configured B; target of row b in column b."""
    total, gradient = 0.0, np.zeros_like(scores)
    for t, x in enumerate(scores):
        c = len(x)
        not_t = np.arange(c) != t
        if case.loss == "cross_entropy":  # logq = 1
            e = np.exp(x - log_q)
            p = e / e.sum()
            total -= np.log(p[t])
            gradient[t] = p - ~not_t
        elif case.loss == "bpr_max":  # elu_param 0.5, bpreg 1
            o = np.where(x > 0, x, 0.5 * (np.exp(x) - 1))
            slope = np.where(x > 0, 1, 0.5 * np.exp(x))
            s = np.exp(o) * not_t
            s = s / s.sum()
            g = sigma(o[t] - o)
            m, r = (s * g).sum(), (s * o**2).sum()
            total += -np.log(m + 1e-24) + r
            ds = s * g * (1 - g)
            d = -(s * (g - m) - ds) / (m + 1e-24) + s * (o**2 - r) + 2 * s * o
            d[t] = -ds.sum() / (m + 1e-24)
            gradient[t] = d * slope
        else:  # top1: the terms of j = t are constant (sigma(0)) or cancel
            o = np.tanh(x)
            g, q = sigma(o - o[t]), sigma(o**2)
            total += (g + q).sum() / c - q[t] / c
            d = (g * (1 - g) + q * (1 - q) * 2 * o) / c
            d[t] = -(g * (1 - g))[not_t].sum() / c
            gradient[t] = d * (1 - o**2)
    return total / B, gradient / B


def forward(
    a: np.ndarray, h: np.ndarray, u: np.ndarray, c: np.ndarray, reset: str
) -> tuple[np.ndarray, ...]:
    """r, z, n and h' of one layer."""
    r = sigma(a[:, :H] + h @ u[:, :H] + c[:H])
    z = sigma(a[:, H : 2 * H] + h @ u[:, H : 2 * H] + c[H : 2 * H])
    un, cn = u[:, 2 * H :], c[2 * H :]
    acted = r * (h @ un + cn) if reset == "after" else (r * h) @ un + cn
    n = np.tanh(a[:, 2 * H :] + acted)
    return r, z, n, (1 - z) * n + z * h


def backward(
    d: np.ndarray,
    h: np.ndarray,
    u: np.ndarray,
    c: np.ndarray,
    gates: tuple[np.ndarray, ...],
    reset: str,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """From d = dL/dh': dL/da, dL/dU, dL/dc. Nothing flows into h, the state of the step before."""
    r, z, n, _ = gates
    dn = d * (1 - z) * (1 - n**2)
    dz = d * (h - n) * z * (1 - z)
    un = u[:, 2 * H :]
    if reset == "after":
        dr = dn * (h @ un + c[2 * H :]) * r * (1 - r)
        dun, dcn = h.T @ (dn * r), (dn * r).sum(axis=0)
    else:
        dr = (dn @ un.T) * h * r * (1 - r)
        dun, dcn = (r * h).T @ dn, dn.sum(axis=0)
    du = np.concatenate([h.T @ dr, h.T @ dz, dun], axis=1)
    dc = np.concatenate([dr.sum(axis=0), dz.sum(axis=0), dcn])
    return np.concatenate([dr, dz, dn], axis=1), du, dc


class Transcription:
    """The weights, their Adagrad slots, and one step at a time."""

    def __init__(self, case: Case, weights: Weights, log_support: np.ndarray) -> None:
        self.case, self.p, self.log_support = case, weights, log_support
        self.acc = {name: np.zeros_like(x) for name, x in weights.items()}
        self.v = {name: np.zeros_like(x) for name, x in weights.items()}

    def step(
        self, inputs: list[int], targets: list[int], negatives: list[int], state: np.ndarray
    ) -> tuple[float, np.ndarray]:
        """The loss before the update, and the new state [L, B, H]."""
        case, p = self.case, self.p
        source = "in" if "in" in p else "out"
        x = p[source][inputs]
        a = x @ p["W0"] if "W0" in p else x
        below, gates = [x], []
        for k in range(case.layers):
            if k > 0:
                a = below[k] @ p[f"W{k}"]
            a = a + p.get(f"d{k}", 0)
            gates.append(forward(a, state[k], p[f"U{k}"], p[f"c{k}"], case.reset))
            below.append(gates[k][3])
        candidates = targets + negatives
        scores = below[-1] @ p["out"][candidates].T + p["b"][candidates]
        log_q = np.append(self.log_support[targets], 0.6 * self.log_support[negatives])
        loss, ds = loss_and_gradient(case, scores, log_q)

        g = {name: np.zeros_like(value) for name, value in p.items()}
        for j, item in enumerate(candidates):
            g["out"][item] += ds[:, j] @ below[-1]
            g["b"][item] += ds[:, j].sum()
        d = ds @ p["out"][candidates]
        for k in reversed(range(case.layers)):
            u, c = p[f"U{k}"], p[f"c{k}"]
            da, g[f"U{k}"], g[f"c{k}"] = backward(d, state[k], u, c, gates[k], case.reset)
            if f"d{k}" in p:
                g[f"d{k}"] = da.sum(axis=0)
            if f"W{k}" in p:
                g[f"W{k}"] = below[k].T @ da
                d = da @ p[f"W{k}"].T
            else:
                d = da
        for b, item in enumerate(inputs):
            g[source][item] += d[b]

        read = {"out": set(candidates), "b": set(candidates)}
        read[source] = read.get(source, set()) | set(inputs)
        for name in p:
            self.adagrad(name, g[name], sorted(read.get(name, range(len(p[name])))))
        return loss, np.stack(below[1:])

    def adagrad(self, name: str, g: np.ndarray, rows: list[int]) -> None:
        for i in rows:
            self.acc[name][i] += g[i] ** 2
            self.v[name][i] *= self.case.momentum
            self.v[name][i] -= 0.1 * g[i] / np.sqrt(self.acc[name][i] + 1e-6)
            self.p[name][i] += self.v[name][i]


def by_hand(
    case: Case,
    sessions: list[list[int]],
    support: np.ndarray,
    weights: Weights,
    negatives: np.ndarray,
) -> tuple[list[float], Weights, list[int]]:
    """Losses, weights after, and the live slots of every step."""
    model = Transcription(case, weights, np.log(support))
    losses: list[float] = []
    widths: list[int] = []
    for _ in range(PASSES):
        waiting = [s for s in sessions if len(s) > 1]
        slots = [(waiting.pop(0), 0) for _ in range(B)]  # session, position of the input
        state = np.zeros((case.layers, B, H))
        while slots:
            inputs = [session[at] for session, at in slots]
            targets = [session[at + 1] for session, at in slots]
            loss, state = model.step(inputs, targets, negatives[len(losses)].tolist(), state)
            losses.append(loss * B / len(inputs))  # the curve shows the mean of an example
            widths.append(len(slots))
            still, kept = [], []
            for b, (session, at) in enumerate(slots):
                if at + 2 < len(session):
                    still.append((session, at + 1))
                    kept.append(state[:, b])
                elif waiting:
                    still.append((waiting.pop(0), 0))
                    kept.append(np.zeros((case.layers, H)))
            slots = still
            state = np.stack(kept, axis=1) if kept else state
    return losses, model.p, widths


CASES = [
    Case("bpr_max-shared", ("loss=bpr_max", "optimizer=adagrad"), "bpr_max", 0.3),
    Case("cross_entropy-shared", ("loss=cross_entropy", "loss.logq=1"), "cross_entropy", 0.2),
    Case(
        "top1-one_hot-before",
        ("loss=top1", "model.input=one_hot", "cell.reset=before"),
        "top1",
        0.0,
        reset="before",
    ),
    Case(
        "bpr_max-embedding-2-layers",
        ("loss=bpr_max", "model.input=embedding", "embedding_size=4", "num_layers=2"),
        "bpr_max",
        0.3,
        layers=2,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_training_is_its_equations(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Blocks end in the middle of sessions.
    monkeypatch.setattr(session_parallel, "MAX_BLOCK_STEPS", 17)
    sessions, support = make_sessions()
    negatives = np.random.default_rng(13).integers(0, N, (10 * STEPS, S))  # targets among them
    config = make_config(*case.overrides, f"optimizer.momentum={case.momentum}")
    losses, before, network = by_code(config, sessions, support, negatives, tmp_path)
    wanted, after, widths = by_hand(case, sessions, support, before, negatives)
    # Enough of it happened: many steps, a tail that shrinks to one session, sessions of one event.
    assert len(widths) >= STEPS
    assert sorted(set(widths)) != [B]
    assert widths[-1] == 1
    assert min(len(s) for s in sessions) == 1
    np.testing.assert_allclose(losses, wanted, rtol=1e-9)
    result = weights_of(network)
    assert set(result) == set(after)
    for name, x in after.items():
        np.testing.assert_allclose(result[name], x, rtol=1e-9, atol=1e-11, err_msg=name)
    assert sum(wanted[-20:]) != pytest.approx(sum(wanted[:20]), rel=1e-3)
