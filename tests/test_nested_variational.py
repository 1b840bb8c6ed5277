"""The corrected mean is the one that minimises the Kullback-Leibler divergence, by brute force."""

import numpy as np
import pytest
from scipy import optimize

import bayou
from bayou.conditional.field import Field
from bayou.conditional.hermite import normal_rule
from bayou.engines.nested.likelihood import Likelihood
from bayou.engines.nested.variational import corrected_mean

FAMILIES = {
    "poisson": lambda rng, n: {"y": rng.poisson(1.5, n)},
    "bernoulli": lambda rng, n: {"y": rng.integers(0, 2, n)},
    "gamma": lambda rng, n: {"y": rng.gamma(2.0, 1.0, n)},
    "negative_binomial": lambda rng, n: {"y": rng.poisson(3.0, n)},
}


def field_of(family, rng):
    n = 24
    data = FAMILIES[family](rng, n) | {"x": rng.normal(size=n), "g": np.repeat(list("abcdef"), 4)}
    field = Field(bayou.Model("y ~ x + (1 | g)", data, family=family))
    theta = np.array([-0.3, 0.4][: field.size])
    field.place(theta)
    return field, theta


@pytest.mark.parametrize("family", FAMILIES)
def test_it_minimises_the_divergence(family, rng):
    field, theta = field_of(family, rng)
    rows = Likelihood(field.model)
    dispersion = rows.dispersion(field.unpack_theta(theta[None]))
    sd = np.sqrt(field.row_variances())
    move, force, settled = corrected_mean(field, rows, dispersion, sd)
    assert settled
    assert np.abs(move).max() > 1e-3
    mode = field.x.copy()
    z, w = normal_rule(9)

    def divergence(d):
        eta = field.predictor(mode + d) + z[:, None] * sd
        expected = (w @ rows.log_density(eta, dispersion)).sum()
        # log prior of the mean: the exact joint density less the likelihood
        at = field.predictor(mode + d)
        return -expected - (field.log_joint(mode + d) - rows.log_density(at, dispersion).sum())

    found = optimize.minimize(divergence, np.zeros(len(mode)), method="BFGS", options={"gtol": 1e-7})
    sds = np.sqrt(field.variances())
    assert np.allclose(found.x / sds, move / sds, atol=2e-4)
    assert divergence(move) <= found.fun + 1e-8
    assert np.allclose(field.solve(field.project(force)), move, atol=1e-4 * sds.min())


def test_a_gaussian_response_needs_none(rng):
    data = {"y": rng.normal(size=20), "g": np.repeat(list("abcd"), 5)}
    field = Field(bayou.Model("y ~ (1 | g)", data))
    field.place(np.array([-0.5, 0.1]))
    move, force, settled = corrected_mean(field, Likelihood(field.model), np.ones(20), np.ones(20))
    assert settled and not move.any() and not force.any()


@pytest.mark.parametrize("family", FAMILIES)
def test_expected_derivatives_are_means(family, rng):
    field, theta = field_of(family, rng)
    rows = Likelihood(field.model)
    dispersion = rows.dispersion(field.unpack_theta(theta[None]))
    mean, sd = rng.normal(size=rows.n), rng.uniform(0.1, 0.6, rows.n)
    first, second = rows.expected_derivatives(mean, sd, dispersion, normal_rule(25))
    z = np.linspace(-9, 9, 4001)
    weight = np.exp(-0.5 * z**2)
    weight /= weight.sum()
    eta = mean + z[:, None] * sd
    given = rows.y, eta, dispersion, rows.trials, rows.weights
    assert np.allclose(first, weight @ rows.family.gradient(*given), rtol=1e-6, atol=1e-8)
    assert np.allclose(second, weight @ rows.family.curvature(*given), rtol=1e-6, atol=1e-8)
