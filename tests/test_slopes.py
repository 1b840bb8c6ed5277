"""Third derivatives and derivatives in the dispersion against finite differences of the families' own methods."""

import numpy as np
import pytest
from scipy import special

from bayou import families
from bayou.families.slopes import digamma, dispersion_slopes, row_slopes

CASES = [
    ("gaussian", "identity"), ("gaussian", "log"), ("binomial", "logit"), ("binomial", "probit"),
    ("binomial", "cloglog"), ("poisson", "log"), ("negative_binomial", "log"), ("gamma", "log"),
]  # fmt: skip


def rows(name: str, link: str, rng: np.random.Generator):
    family = families.FAMILIES[name](link=link) if hasattr(families, "FAMILIES") else type(families.get(name))(link=link)
    eta = rng.uniform(-2.5, 2.0, 60)
    trials = rng.integers(1, 9, 60).astype(float)
    weights = rng.uniform(0.5, 2.0, 60)
    y = {
        "gaussian": np.exp(eta) + 0.3 * rng.standard_normal(60),
        "binomial": np.minimum(trials, rng.integers(0, 9, 60)).astype(float),
        "gamma": np.exp(eta) * rng.gamma(2.0, 0.5, 60),
    }.get(name, rng.integers(0, 90, 60).astype(float))
    return family, y, trials, weights, eta


@pytest.mark.parametrize("name,link", CASES)
def test_slope_of_curvature(name, link, rng):
    family, y, trials, weights, eta = rows(name, link, rng)
    out = np.empty_like(y)
    row_slopes(family.code, y, trials, weights, eta, 1.7, out)
    h = 1e-5
    above, below = (family.curvature(y, eta + s * h, 1.7, trials, weights) for s in (1, -1))
    np.testing.assert_allclose(out, (above - below) / (2 * h), rtol=2e-7, atol=2e-7 * np.abs(out).max() + 1e-9)


@pytest.mark.parametrize("name,link", [c for c in CASES if c[0] in ("gaussian", "negative_binomial", "gamma")])
def test_slopes_in_the_dispersion(name, link, rng):
    family, y, trials, weights, eta = rows(name, link, rng)
    out = np.empty((3, len(y)))
    dispersion_slopes(family.code, y, weights, eta, 1.7, *out)
    h = 1e-5
    for k, method in enumerate((family.log_density, family.gradient, family.curvature)):
        above, below = (method(y, eta, 1.7 * np.exp(s * h), trials, weights) for s in (1, -1))
        np.testing.assert_allclose(out[k], (above - below) / (2 * h), rtol=1e-6, atol=1e-6 * np.abs(out[k]).max())


def test_digamma():
    x = np.concatenate([np.geomspace(1e-6, 1e9, 60), [1.0, 2.0, 9.999, 10.0]])
    np.testing.assert_allclose([digamma(float(v)) for v in x], special.digamma(x), rtol=1e-13, atol=1e-14)
