"""Every loss against its equation, written as loops over float64 numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from p_rnn.settings.errors import UserError
from p_rnn.settings.sections import Component, component
from p_rnn.training.losses import LOSSES, build_loss

CASES = [
    {"name": "cross_entropy", "logq": 0.0},
    {"name": "cross_entropy", "logq": 1.0},
    {"name": "cross_entropy", "logq": 0.4},
    {"name": "bpr_max", "elu_param": 0.5, "bpreg": 1.0},
    {"name": "bpr_max", "elu_param": 1.0, "bpreg": 0.0},
    {"name": "bpr_max", "elu_param": 0.1, "bpreg": 1.95},
    {"name": "bpr_max", "elu_param": 0.0, "bpreg": 0.7},
    {"name": "top1"},
    {"name": "top1_max"},
    {"name": "bpr", "output": "tanh"},
    {"name": "bpr", "output": "linear"},
    {"name": "gbce", "calibration": 0.75},
    {"name": "gbce", "calibration": 0.0},
    {"name": "gbce", "calibration": 1.0},
    {"name": "cross_entropy", "logq": 1.0, "smoothing": 0.3},
]
N = 31  # items
every_loss = pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(map(str, c.values())))


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def elu(x: float, alpha: float) -> float:
    return x if x > 0 or alpha == 0 else alpha * (math.exp(x) - 1)


def one(case: dict[str, Any], row: list[float], t: int, log_q: list[float]) -> float:
    """The loss of one example: C scores, the target's column, log q of the C candidates."""
    name, columns = case["name"], range(len(row))
    negatives = [j for j in columns if j != t]
    if name == "cross_entropy":
        x = [row[j] - case["logq"] * log_q[j] for j in columns]
        top = max(x)
        norm = top + math.log(sum(math.exp(v - top) for v in x))
        share = case.get("smoothing", 0.0)
        label = [share / len(x) + (1 - share) * (j == t) for j in columns]
        return sum(p * (norm - v) for p, v in zip(label, x, strict=True))
    if name == "gbce":
        a = len(negatives) / (N - 1)
        beta = a * (case["calibration"] * (1 - 1 / a) + 1 / a)
        others = sum(math.log1p(math.exp(row[j])) for j in negatives)  # -log(1 - sigma)
        return (-beta * math.log(sigma(row[t])) + others) / len(row)
    if name == "bpr_max":
        o = [elu(v, case["elu_param"]) for v in row]
    elif case.get("output") == "linear":
        o = list(row)
    else:
        o = [math.tanh(v) for v in row]
    if name == "bpr":
        return -sum(math.log(sigma(o[t] - o[j])) for j in negatives) / len(negatives)
    if name == "top1":
        total = sum(sigma(o[j] - o[t]) + sigma(o[j] ** 2) for j in columns)
        return total / len(row) - sigma(o[t] ** 2) / len(row)
    top = max(o[j] for j in negatives)
    e = {j: math.exp(o[j] - top) for j in negatives}
    s = {j: e[j] / sum(e.values()) for j in negatives}
    if name == "top1_max":
        return sum(s[j] * (sigma(o[j] - o[t]) + sigma(o[j] ** 2)) for j in negatives)
    better = sum(s[j] * sigma(o[t] - o[j]) for j in negatives)
    return -math.log(better + 1e-24) + case["bpreg"] * sum(s[j] * o[j] ** 2 for j in negatives)


def expected(case: dict[str, Any], scores: Any, target: Any, log_q: Any) -> np.ndarray:
    rows = zip(scores.tolist(), target.tolist(), strict=True)
    return np.array([one(case, row, t, log_q.tolist()) for row, t in rows])


def layout(kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores [B, C], target columns [B], log q [C]."""
    rng = np.random.default_rng(3)
    b, c = {"diagonal": (5, 5 + 7), "full": (6, 23), "pair": (4, 2)}[kind]
    target = {
        "diagonal": np.arange(b),
        "full": np.array([22, 0, 7, 7, 3, 21]),
        "pair": np.array([0, 1, 0, 0]),
    }[kind]
    return rng.normal(0, 1.5, (b, c)), target, np.log(rng.integers(1, 60, c).astype(float))


def run(case: dict[str, Any], scores: Any, target: Any, log_q: Any) -> torch.Tensor:
    return build_loss(component(**case), N)(scores, torch.as_tensor(target), torch.as_tensor(log_q))


@every_loss
@pytest.mark.parametrize("kind", ["diagonal", "full", "pair"])
def test_values_follow_the_equation(case: dict[str, Any], kind: str) -> None:
    scores, target, log_q = layout(kind)
    losses = run(case, torch.from_numpy(scores), target, log_q)
    assert losses.shape == target.shape
    np.testing.assert_allclose(losses, expected(case, scores, target, log_q), rtol=1e-12)


@every_loss
@pytest.mark.parametrize("kind", ["diagonal", "full", "pair"])
def test_gradients_follow_finite_differences_of_the_equation(
    case: dict[str, Any], kind: str
) -> None:
    """d(sum over the batch, with unequal weights)/d(score) for every score."""
    scores, target, log_q = layout(kind)
    weight = 1 + np.arange(len(target))
    leaf = torch.from_numpy(scores).clone().requires_grad_()
    (run(case, leaf, target, log_q) * torch.from_numpy(weight)).sum().backward()
    numeric = np.zeros_like(scores)
    for at in np.ndindex(*scores.shape):
        step = np.zeros_like(scores)
        step[at] = 1e-5
        up = expected(case, scores + step, target, log_q)
        down = expected(case, scores - step, target, log_q)
        numeric[at] = ((up - down) * weight).sum() / 2e-5
    assert leaf.grad is not None
    np.testing.assert_allclose(leaf.grad, numeric, rtol=1e-6, atol=1e-8)


ROOT_E = math.exp(0.5)
HALF = math.atanh(0.5)  # tanh(HALF) = 1/2
LN2, LN3 = math.log(2), math.log(3)
BY_HAND = [
    # softmax (2, 1, 1) / 4
    ({"name": "cross_entropy", "logq": 0.0}, [LN2, 0, 0], LN2),
    # scores less log q: (ln 1/2, 0, 0), so the target has 0.5 / 2.5
    ({"name": "cross_entropy", "logq": 1.0}, [LN2, 0, 0], math.log(5)),
    # half of log q: (ln 2 - ln 2, 0, 0)
    ({"name": "cross_entropy", "logq": 0.5}, [LN2, 0, 0], LN3),
    # s = (1/4, 3/4); sigma(ln 3) = 3/4, sigma(0) = 1/2; 3/16 + 6/16 = 9/16; penalty 2 * 3/4 ln^2 3
    (
        {"name": "bpr_max", "elu_param": 0.0, "bpreg": 2.0},
        [LN3, 0, LN3],
        -math.log(9 / 16) + 1.5 * LN3**2,
    ),
    # elu(-ln 2) = 0.5 (1/2 - 1) = -1/4; one negative, so s = 1; penalty 3 / 16
    (
        {"name": "bpr_max", "elu_param": 0.5, "bpreg": 3.0},
        [0, -LN2],
        math.log(1 + math.exp(-0.25)) + 3 / 16,
    ),
    # o = (1/2, 0): [sigma(0) + sigma(1/4) + sigma(-1/2) + sigma(0) - sigma(1/4)] / 2
    ({"name": "top1"}, [HALF, 0], (1 + 1 / (1 + ROOT_E)) / 2),
    # o = (1/2; 0, 1/2), s = (1, e^1/2) / (1 + e^1/2)
    (
        {"name": "top1_max"},
        [HALF, 0, HALF],
        1 / (1 + ROOT_E) * (1 / (1 + ROOT_E) + 0.5)
        + ROOT_E / (1 + ROOT_E) * (0.5 + 1 / (1 + math.exp(-0.25))),
    ),
    # sigma(ln 3) = 3/4 and sigma(0) = 1/2
    ({"name": "bpr", "output": "linear"}, [LN3, 0, LN3], -math.log(3 / 8) / 2),
    # sigma = 3/4, and 1 - 1/2 and 1 - 3/4 of the negatives; a = 2 / 30
    ({"name": "gbce", "calibration": 0.0}, [LN3, 0, LN3], math.log(4 / 3 * 2 * 4) / 3),
    (
        {"name": "gbce", "calibration": 1.0},
        [LN3, 0, LN3],
        (math.log(4 / 3) / 15 + math.log(8)) / 3,
    ),
    # half of the label is the target's, and a sixth of it each candidate's
    (
        {"name": "cross_entropy", "logq": 0.0, "smoothing": 0.5},
        [LN2, 0, 0],
        2 / 3 * LN2 + 2 / 6 * math.log(4),
    ),
    ({"name": "bpr", "output": "tanh"}, [HALF, 0], math.log(1 + math.exp(-0.5))),
]


@pytest.mark.parametrize(("case", "row", "answer"), BY_HAND)
def test_worked_by_hand(case: dict[str, Any], row: list[float], answer: float) -> None:
    """One example, its target in column 0; log q = (ln 4, 0, 0)."""
    scores = torch.tensor([row], dtype=torch.float64)
    log_q = torch.tensor([math.log(4), 0, 0][: len(row)], dtype=torch.float64)
    assert run(case, scores, np.array([0]), log_q).item() == pytest.approx(answer, rel=1e-13)


@every_loss
def test_a_sample_equal_to_the_target_counts_as_a_negative(case: dict[str, Any]) -> None:
    """The last column is the target's item once more: same score, same log q."""
    scores, target, log_q = layout("diagonal")
    again = np.concatenate([scores, scores[:, :1]], axis=1)
    q = np.append(log_q, log_q[0])
    losses = run(case, torch.from_numpy(again), target, q)
    without = run(case, torch.from_numpy(scores), target, log_q)
    np.testing.assert_allclose(losses, expected(case, again, target, q), rtol=1e-12)
    assert abs(losses[0] - without[0]) > 1e-4


def test_a_duplicated_target_by_hand() -> None:
    """Scores (1, 0, 1): the loss is ln(2e + 1) - 1 and not ln(e + 1) - 1."""
    scores = torch.tensor([[1.0, 0.0, 1.0]], dtype=torch.float64)
    loss = run({"name": "cross_entropy", "logq": 0.0}, scores, np.array([0]), np.zeros(3))
    assert loss.item() == pytest.approx(math.log(2 * math.e + 1) - 1, rel=1e-13)


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_scores_stay_finite(case: dict[str, Any], dtype: torch.dtype) -> None:
    """+-80, the target below, above and amid its negatives."""
    rows = [[-80, 80, 80], [80, -80, -80], [80, 80, -80], [-80, -80, 80], [0, 80, -80]]
    scores = torch.tensor(rows, dtype=dtype, requires_grad=True)
    log_q = torch.zeros(3, dtype=dtype)
    target = np.zeros(len(rows), dtype=np.int64)
    losses = run(case, scores, target, log_q)
    losses.sum().backward()
    assert torch.isfinite(losses).all()
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()
    wanted = expected(case, np.array(rows, dtype=float), target, np.zeros(3))
    tolerance = 1e-4 if dtype == torch.float32 else 1e-9
    np.testing.assert_allclose(losses.detach(), wanted, rtol=tolerance, atol=1e-6)


@pytest.mark.parametrize(
    "config",
    [
        component("top1", bpreg=1.0),
        component("top1_max", elu_param=0.5),
        component("bpr", output="tanh", logq=1.0),
        component("cross_entropy", logq=0.0, output="tanh"),
        component("bpr_max", elu_param=0.5, bpreg=1.0, logq=0.0),
        component("bpr", output="relu"),
        component("gbce", calibration=1.5),
        component("cross_entropy", smoothing=1.0),
        component("bpr_max", bpreg=-1.0),
        component("hinge"),
        Component(),
    ],
)
def test_inert_missing_and_unknown_settings_are_refused(config: component) -> None:
    with pytest.raises(UserError):
        build_loss(config, N)


def test_all_losses_are_covered() -> None:
    assert {case["name"] for case in CASES} == set(LOSSES)
