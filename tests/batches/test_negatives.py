"""The alias table gives exactly the wanted distribution, and the sampler follows it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from p_rnn.batches.negatives import NegativeSampler, alias_table


def reconstruct(keep: np.ndarray, other: np.ndarray) -> np.ndarray:
    """P(i): its own part of column i, and the rests of the columns that name it."""
    mass = np.zeros(len(keep))
    for i in range(len(keep)):
        mass[i] += keep[i]
        mass[other[i]] += 1 - keep[i]
    return mass / len(keep)


def shapes_of_weights() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    weights: list[np.ndarray] = []
    for n in (1, 2, 3, 10, 101, 997):
        weights += [
            rng.uniform(0, 1, n),
            rng.integers(1, 50, n).astype(float),
            np.ones(n),
            (1 + np.arange(n)) ** -2.0,  # Zipf
            np.exp(rng.normal(0, 8, n)),  # 15 orders of magnitude
            rng.pareto(0.3, n) + 1e-9,
            np.where(np.arange(n) == n // 2, 1e12, 1e-6),  # one item has everything
            np.where(np.arange(n) % 3 == 0, 1.0, 0.0),  # items that are never drawn
        ]
    return weights


@pytest.mark.parametrize("weight", shapes_of_weights(), ids=lambda w: f"N{len(w)}")
def test_table_holds_exactly_the_distribution(weight: np.ndarray) -> None:
    before = weight.copy()
    keep, other = alias_table(weight)
    assert keep.shape == other.shape == weight.shape
    assert (keep >= 0).all()
    assert (keep <= 1).all()
    np.testing.assert_allclose(reconstruct(keep, other), weight / weight.sum(), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(weight, before)


@pytest.mark.parametrize("seed", range(30))
def test_table_of_random_weights(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 400))
    weight = rng.gamma(rng.uniform(0.05, 3), 1, n) + 1e-300
    keep, other = alias_table(weight)
    np.testing.assert_allclose(reconstruct(keep, other), weight / weight.sum(), rtol=0, atol=1e-12)


def p_value(counts: np.ndarray, probability: np.ndarray) -> float:
    """Of Pearson's chi-square, by Wilson and Hilferty's normal approximation of its cube root."""
    wanted = probability * counts.sum()
    k = len(counts) - 1
    cube_root = (((counts - wanted) ** 2 / wanted).sum() / k) ** (1 / 3)
    z = (cube_root - (1 - 2 / (9 * k))) / math.sqrt(2 / (9 * k))
    return 0.5 * math.erfc(z / math.sqrt(2))


def test_p_value_of_known_quantiles() -> None:
    """The upper 5 % point of chi-square with 10 degrees of freedom is 18.307."""
    probability = np.full(11, 1 / 11)
    counts = np.full(11, 1000.0)
    difference = math.sqrt(18.307 * 1000 / 2)
    counts[:2] += (difference, -difference)
    assert p_value(counts, probability) == pytest.approx(0.05, rel=0.01)


SUPPORT = np.array([1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987])


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_samples_follow_support_to_the_alpha(alpha: float) -> None:
    sampler = NegativeSampler(SUPPORT, alpha, torch.Generator().manual_seed(20))
    samples = sampler.sample(500, 400)
    assert samples.dtype == torch.int64
    assert samples.shape == (500, 400)
    counts = np.bincount(samples.numpy().ravel(), minlength=len(SUPPORT)).astype(float)
    for tried in (0.0, 0.5, 1.0):
        weight = np.array([float(n) ** tried for n in SUPPORT])
        p = p_value(counts, weight / weight.sum())
        # The right exponent is not rejected, and the wrong ones are: the test can tell.
        assert p > 0.001 if tried == alpha else p < 1e-9


def test_draws_of_a_step_are_independent_of_the_draws_before() -> None:
    """Pairs of consecutive draws follow the product of the two distributions."""
    support = np.array([1, 4, 9])
    sampler = NegativeSampler(support, 0.5, torch.Generator().manual_seed(5))
    pairs = sampler.sample(40_000, 2).numpy()
    counts = np.bincount(3 * pairs[:, 0] + pairs[:, 1], minlength=9).astype(float)
    single = np.array([1, 2, 3]) / 6
    assert p_value(counts, np.outer(single, single).ravel()) > 0.001


def test_items_without_support() -> None:
    """They are never drawn, except uniformly with alpha=0."""
    support = np.array([0, 7, 0, 1, 0])
    for alpha in (0.5, 1.0):
        sampler = NegativeSampler(support, alpha, torch.Generator().manual_seed(1))
        assert set(sampler.sample(2000).tolist()) == {1, 3}
    sampler = NegativeSampler(support, 0.0, torch.Generator().manual_seed(1))
    assert set(sampler.sample(2000).tolist()) == {0, 1, 2, 3, 4}


def test_a_single_item() -> None:
    sampler = NegativeSampler(np.array([3]), 0.5, torch.Generator().manual_seed(0))
    assert (sampler.sample(100) == 0).all()


@pytest.mark.parametrize(("steps", "parts", "size"), [(6, 3, 4), (60, 4, 33), (30, 30, 1)])
def test_splitting_into_blocks_does_not_change_the_numbers(
    steps: int, parts: int, size: int
) -> None:
    whole = NegativeSampler(SUPPORT, 0.5, torch.Generator().manual_seed(9)).sample(steps, size)
    sampler = NegativeSampler(SUPPORT, 0.5, torch.Generator().manual_seed(9))
    blocks = [sampler.sample(steps // parts, size) for _ in range(parts)]
    assert torch.equal(whole, torch.cat(blocks))
