"""The joint density integrates to the marginal likelihood: sums over a grid of positions against exact integrals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from bayou import Model
from bayou.joint import JointDensity, joint_density
from bayou.joint.pointer import call
from bayou.priors import HalfNormal, InverseGamma, Normal, Uniform

NODES = np.arange(-7.2, 7.21, 0.3)  # the trapezoid rule is exact to rounding for a Gaussian with steps below its sd


def log_integral(density: JointDensity, ranges: list[np.ndarray]) -> float:
    """log ∫ exp(density) over a grid with even steps."""
    grid = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, len(ranges))
    gradient = np.zeros(density.size)
    values = np.array([call(density.job, q, gradient) for q in np.ascontiguousarray(grid)])
    steps = sum(np.log(r[1] - r[0]) for r in ranges)
    return float(np.logaddexp.reduce(values) + steps)


def given_theta(density: JointDensity, first: np.ndarray) -> float:
    """log ∫ exp(density) of a density that is Gaussian given its first number: its exact integral, then a sum."""
    values, k = [], density.size - 1
    for t in first:
        q = np.concatenate([[t], np.zeros(k)])
        value, gradient = density.evaluate(q)
        H = -np.array([density.evaluate(q + e)[1] - gradient for e in np.eye(k + 1)[1:]])[:, 1:]
        step = np.linalg.solve(H, gradient[1:])
        top = density.evaluate(q + np.concatenate([[0.0], step]))[0]
        assert top == pytest.approx(value + 0.5 * gradient[1:] @ step, rel=1e-9)
        values.append(top - 0.5 * np.linalg.slogdet(H / (2.0 * np.pi))[1])
    return float(np.logaddexp.reduce(values) + np.log(first[1] - first[0]))


def over_sd(log_marginal, log_prior, lower: float = 0.0, upper: float = np.inf) -> float:
    """log ∫ p(y | sd) p(sd) dsd."""
    top = max(log_marginal(s) for s in np.geomspace(0.05, 5.0, 40))
    value, error = integrate.quad(
        lambda s: np.exp(log_marginal(s) - top + log_prior(s)), lower, upper, epsabs=1e-13, epsrel=1e-11, limit=500
    )
    assert error < 1e-9 * value
    return float(np.log(value) + top)


Y, SE = np.array([0.7, -0.4]), np.array([0.5, 0.8])
SIMPLE = {"y": Y, "se": SE, "g": ["a", "b"]}


@pytest.mark.parametrize("coordinates", ["whitened", "centered"])
@pytest.mark.parametrize("prior", [HalfNormal(1.0), Uniform(0.0, 2.0)], ids=str)
def test_two_groups(prior, coordinates: str) -> None:
    model = Model("measured(y, se) ~ 0 + (1 | g)", SIMPLE, priors={"sd_g": prior})
    exact = over_sd(
        lambda s: float(stats.norm.logpdf(Y, 0.0, np.sqrt(SE**2 + s * s)).sum()),
        lambda s: float(prior.log_density(s)),
        upper=2.0 if isinstance(prior, Uniform) else np.inf,
    )
    # p(log sd) ends like sd
    first = np.arange(-20.0, 20.0, 0.1) if isinstance(prior, Uniform) else np.arange(-20.0, 3.0, 0.1)
    assert given_theta(joint_density(model, coordinates), first) == pytest.approx(exact, abs=1e-6)


@pytest.mark.parametrize("coordinates", ["whitened", "centered", "laplace"])
def test_a_walk(coordinates: str) -> None:
    y, se = np.array([0.2, 1.1, 0.6]), np.array([0.6, 0.5, 0.9])
    model = Model("measured(y, se) ~ 0 + rw1(t)", {"y": y, "se": se, "t": [1, 2, 4]}, priors={"sd_t": HalfNormal(1.0)})
    unit = model.effects[0].covariance(np.zeros(1))
    exact = over_sd(
        lambda s: float(stats.multivariate_normal.logpdf(y, np.zeros(3), s * s * unit + np.diag(se**2))),
        lambda s: float(HalfNormal(1.0).log_density(s)),
    )
    first = np.arange(-20.0, 3.0, 0.1)
    assert given_theta(joint_density(model, coordinates), first) == pytest.approx(exact, abs=1e-6)


def test_counts() -> None:
    y = np.array([3.0, 0.0])
    prior = Uniform(0.0, 1.5)
    model = Model("y ~ 0 + (1 | g)", {"y": y, "g": ["a", "b"]}, "poisson", priors={"sd_g": prior})

    def one(count: float, s: float) -> float:
        b = np.linspace(-12.0 * s, 12.0 * s, 4001)
        terms = stats.poisson.logpmf(count, np.exp(b)) + stats.norm.logpdf(b, 0.0, s)
        return float(np.logaddexp.reduce(terms) + np.log(b[1] - b[0]))

    exact = over_sd(lambda s: one(3.0, s) + one(0.0, s), lambda s: float(prior.log_density(s)), 1e-4, 1.5)
    density = joint_density(model, "whitened")
    # what is left out below 1e-4 is that part of the prior
    lost = 1e-4 / 1.5 * np.exp(one(3.0, 1e-4) + one(0.0, 1e-4) - exact)
    found = log_integral(density, [np.arange(-20.0, 20.0, 0.25), NODES, NODES])
    assert found == pytest.approx(exact + np.log1p(lost), abs=1e-6)


@pytest.mark.parametrize("prior", [Normal(0.3, 1.5), Uniform(-2.0, 3.0)], ids=str)
@pytest.mark.parametrize("coordinates", ["whitened", "laplace"])
def test_a_line_with_its_variance(prior, coordinates: str) -> None:
    y = np.array([0.4, 1.3, -0.2, 0.9])
    model = Model("y ~ 1", {"y": y}, priors={"beta": prior, "sigma2": InverseGamma(2.0, 1.0)})
    of_variance = InverseGamma(2.0, 1.0)

    def given(s: float) -> float:
        """log ∫ p(y | beta, s) p(beta) dbeta."""
        beta = np.linspace(-2.0, 3.0, 8001) if isinstance(prior, Uniform) else np.linspace(-15.0, 15.0, 20001)
        terms = stats.norm.logpdf(y[:, None], beta, s).sum(axis=0) + prior.log_density(beta)
        if isinstance(prior, Uniform):
            return float(np.log(integrate.simpson(np.exp(terms), x=beta)))
        return float(np.logaddexp.reduce(terms) + np.log(beta[1] - beta[0]))

    exact = over_sd(given, lambda s: float(of_variance.sd_log_density(s)), lower=0.03)
    density = joint_density(model, coordinates)
    # a bounded coefficient has a logistic tail, and in "laplace" a small unit
    wide = np.arange(-14.0, 14.0, 0.1) if isinstance(prior, Normal) else np.arange(-80.0, 80.0, 0.2)
    first = np.arange(-14.0, 20.0, 0.1) if coordinates == "laplace" else np.arange(-4.0, 10.0, 0.1)
    found = log_integral(density, [first, wide])
    assert found == pytest.approx(exact, abs=1e-6)
