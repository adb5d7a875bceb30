"""The session vector of matrix factorisation: means in NumPy, step by step and by sequences."""

from __future__ import annotations

import numpy as np
import torch

from p_rnn.models.mean import Mean


def test_steps_and_scan_are_running_means() -> None:
    rng = np.random.default_rng(0)
    lengths = [4, 3, 3, 1]
    items = [rng.standard_normal((n, 5)) for n in lengths]
    wanted = [np.cumsum(x, axis=0) / np.arange(1, len(x) + 1)[:, None] for x in items]
    widths = [sum(n > t for n in lengths) for t in range(4)]
    packed = np.concatenate([[items[k][t] for k in range(w)] for t, w in enumerate(widths)])
    mean = Mean(5)
    found = mean.scan(torch.from_numpy(packed), widths).numpy()
    at = 0
    for t, width in enumerate(widths):
        for k in range(width):
            np.testing.assert_allclose(found[at], wanted[k][t], rtol=1e-12)
            at += 1
    state = (torch.zeros(1, 5, dtype=torch.float64), torch.zeros(1, 5, dtype=torch.float64))
    for t in range(4):
        count, now = state = mean(torch.from_numpy(items[0][t : t + 1]), state)
        assert count.tolist() == [[t + 1.0] * 5]
        np.testing.assert_allclose(now[0], wanted[0][t], rtol=1e-12)


def test_gradients() -> None:
    a = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: Mean(3).scan(x, [3, 2, 1]), a)
