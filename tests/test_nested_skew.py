"""Skew normal densities, pairs of normals, and the simplified Laplace approximation against exact moments."""

import numpy as np
import pytest

import bayou
from bayou.conditional.field import Field
from bayou.engines.nested.skew import GREATEST, MOST, halves, simplified, skew_normal

GRID = np.linspace(-30.0, 30.0, 400_001)


def moments(x, density):
    density = density / density.sum()
    mean = density @ x
    sd = np.sqrt(density @ (x - mean) ** 2)
    return mean, sd, density @ ((x - mean) / sd) ** 3


@pytest.mark.parametrize("skewness", [-0.9, -0.3, 0.0, 0.5, MOST])
def test_skew_normals_have_the_moments_they_are_given(skewness):
    law = skew_normal(np.array(1.2), np.array(0.7), np.array(skewness))
    density = np.exp(law.log_density(GRID))
    assert density.sum() * (GRID[1] - GRID[0]) == pytest.approx(1.0, abs=1e-6)
    assert moments(GRID, density) == pytest.approx((1.2, 0.7, skewness), abs=1e-6)


def test_skewness_is_cut_at_what_a_skew_normal_can_have():
    law = skew_normal(np.array(0.0), np.array(1.0), np.array(5.0))
    assert moments(GRID, np.exp(law.log_density(GRID)))[2] == pytest.approx(MOST, abs=1e-6)


@pytest.mark.parametrize("skewness", [-GREATEST, -0.2, 0.0, 0.4, GREATEST])
def test_two_normals_have_the_moments_they_are_given(skewness):
    means, sds = halves(np.array(-0.4), np.array(2.0), np.array(skewness))
    density = sum(0.5 * np.exp(-0.5 * ((GRID - m) / s) ** 2) / s for m, s in zip(means, sds, strict=True))
    assert moments(GRID, density) == pytest.approx((-0.4, 2.0, skewness), abs=2e-5)


def one_group(count):
    """A single coefficient with a known prior sees ``count``: its posterior is one-dimensional."""
    data = {"y": np.array([count]), "g": ["a"]}
    return bayou.Model("y ~ 0 + (1 | g)", data, family="poisson", priors={"sd": bayou.priors.HalfNormal(1.0)})


@pytest.mark.parametrize("count", [4, 12, 40])
def test_simplified_laplace_of_one_coefficient(count):
    """First order in the skewness: what is left falls with its square."""
    field = Field(one_group(count))
    theta = np.array([0.3])
    field.place(theta)
    first, skewness = simplified(field, np.eye(1), field.row_variances())
    x = field.x[0] + np.sqrt(field.variances()[0]) * np.linspace(-9, 9, 100_001)
    logs = count * x - np.exp(x) - 0.5 * x**2 / np.exp(2 * theta[0])
    mean, _, exact = moments(x, np.exp(logs - logs.max()))
    sd = np.sqrt(field.variances()[0])
    assert abs(skewness[0]) < 0.6
    assert first[0] == pytest.approx((mean - field.x[0]) / sd, abs=0.25 * skewness[0] ** 2)
    assert skewness[0] == pytest.approx(exact, abs=1.5 * abs(skewness[0]) ** 2)


def test_simplified_laplace_of_linear_combinations(rng):
    """The first order of the means is that of the whole vector: Sigma A'(½ l''' s²)."""
    data = {"y": rng.poisson(2.0, 30), "x": rng.normal(size=30), "g": np.repeat(list("abcdef"), 5)}
    field = Field(bayou.Model("y ~ x + (1 | g)", data, family="poisson"))
    field.place(np.array([-0.5]))
    directions = rng.normal(size=(4, len(field.x)))
    first, _ = simplified(field, directions, field.row_variances())
    whole = field.solve(field.project(-0.5 * field.row_slopes() * field.row_variances()))
    sds = np.sqrt([a @ field.solve(a) for a in directions])
    assert np.allclose(first * sds, directions @ whole, rtol=1e-10)
