"""k-hat on tails whose shape is known, and smoothed weights."""

import numpy as np
import pytest

from bayou.engines.nested.pareto import generalised_pareto, smoothed


@pytest.mark.parametrize("k", [-0.3, 0.0, 0.3, 0.7, 1.2])
def test_the_shape_of_a_generalised_pareto_distribution(k, rng):
    n = 4000
    u = rng.random(n)
    x = -np.log1p(-u) if k == 0.0 else np.expm1(-k * np.log1p(-u)) / k
    found, scale = generalised_pareto(np.sort(2.0 * x))
    # the weak prior and the sampling error, (1 + k)/√n
    assert found == pytest.approx(k, abs=4 * (1 + abs(k)) / np.sqrt(n) + 10 * abs(0.5 - k) / n)
    assert scale == pytest.approx(2.0, rel=0.15)


@pytest.mark.parametrize(("power", "low", "high"), [(0.3, 0.1, 0.5), (0.9, 0.7, 1.15)])
def test_k_hat_of_weights_with_a_power_tail(power, low, high, rng):
    """Weights u^-power have a Pareto tail of shape power."""
    _, k = smoothed(-power * np.log(rng.random(20_000)))
    assert low < k < high


def test_light_weights_are_left_nearly_alone(rng):
    logs = 0.1 * rng.standard_normal(2000)
    weights, k = smoothed(logs)
    raw = np.exp(logs) / np.exp(logs).sum()
    assert k < 0.3
    assert weights.sum() == pytest.approx(1.0)
    assert np.abs(weights - raw).max() < 0.2 / 2000


def test_equal_weights():
    weights, k = smoothed(np.zeros(100))
    assert np.allclose(weights, 0.01)
    assert k < 0.0


def test_too_few_and_none_at_all():
    assert smoothed(np.array([0.0, 1.0, 2.0]))[1] == np.inf
    weights, k = smoothed(np.full(50, -np.inf))
    assert np.isnan(weights).all() and k == np.inf


def test_weights_of_zero_stay_zero(rng):
    logs = rng.standard_normal(500)
    logs[:100] = -np.inf
    weights, k = smoothed(logs)
    assert not weights[:100].any() and np.isfinite(k)


def test_smoothing_lowers_the_error_of_a_mean_with_a_heavy_tail():
    """E[1] under importance sampling of a wide normal by a narrow one."""
    errors = []
    for seed in range(60):
        z = np.random.default_rng(seed).standard_normal(1000)
        logs = -0.5 * (z / 1.35) ** 2 - np.log(1.35) + 0.5 * z**2
        weights, k = smoothed(logs)
        raw = np.exp(logs) / np.exp(logs).sum()
        errors.append([(weights @ z**2 - 1.35**2) ** 2, (raw @ z**2 - 1.35**2) ** 2])
    ours, plain = np.mean(errors, axis=0)
    assert ours < plain
