"""Priors of correlations and shares: they integrate to one, and PC(upper, probability) reads as it says."""

import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from bayou.effects.areal import Neighbourhood
from bayou.effects.bym2 import Bym2
from bayou.errors import DataError, PriorError
from bayou.priors import Beta
from bayou.priors.structured import PCCorrelation, PCMixing

PATH = Neighbourhood(12, np.column_stack([np.arange(11), np.arange(1, 12)]))
EDGES = np.array([[0, 1], [0, 2], [1, 2], [2, 4], [5, 6], [6, 7], [7, 8]])
PARTS = Neighbourhood(10, EDGES)  # two parts, two single areas


def lattice(a, b):
    at = np.arange(a * b).reshape(a, b)
    across = np.column_stack([at[:, :-1].ravel(), at[:, 1:].ravel()])
    down = np.column_stack([at[:-1].ravel(), at[1:].ravel()])
    return Neighbourhood(a * b, np.vstack([across, down]))


def integral(prior, low=-np.inf, high=np.inf):
    """∫ p over the internal coordinate between two values of it, in pieces that the quadrature can see."""
    edges = np.unique(np.clip([low, *np.linspace(-60, 60, 49), high], max(low, -600), min(high, 4e4)))
    edges = np.concatenate([edges, [min(high, 4e4)]])
    whole = 0.0
    for a, b in zip(edges[:-1], edges[1:], strict=True):
        whole += scipy.integrate.quad(lambda t: np.exp(prior.log_density_internal(t)), a, b, epsabs=1e-11, limit=200)[0]
    return whole


def logit(p):
    return np.log(p) - np.log1p(-p)


@pytest.mark.parametrize(("upper", "probability"), [(0.9, 0.1), (0.5, 0.7), (0.99, 0.9)])
def test_correlation(upper, probability, rng):
    prior = PCCorrelation(upper, probability)
    above = integral(prior, np.arctanh(upper))
    # the tail beyond what is integrated: P(d > √(2t − log 4))
    tail = 0.5 * np.exp(-prior.rate * np.sqrt(2 * 4e4 - np.log(4)))
    np.testing.assert_allclose(2 * (above + tail), probability, rtol=1e-7)
    np.testing.assert_allclose(2 * (integral(prior, 0.0) + tail), 1.0, rtol=1e-7)
    positive = PCCorrelation(upper, probability, positive=True)
    tail = np.exp(-prior.rate * np.sqrt(4e4 - np.log(2)))
    np.testing.assert_allclose(integral(positive, logit(upper)) + tail, probability, rtol=1e-7)
    np.testing.assert_allclose(integral(positive) + tail, 1.0, rtol=1e-6)
    draws = prior.draw(rng, 20_000)
    assert abs(np.mean(np.abs(draws) > upper) - probability) < 5 * np.sqrt(probability * (1 - probability) / 20_000)
    assert abs(np.mean(draws > 0) - 0.5) < 0.02
    assert np.all(positive.draw(rng, 100) > 0)


def test_correlation_by_its_formula():
    """Sørbye & Rue (2017): (rate/2) exp(−rate √(−log(1 − rho²))) |rho| / ((1 − rho²) √(−log(1 − rho²)))."""
    prior = PCCorrelation(0.9, 0.1)
    for rho in (-0.95, -0.2, 1e-3, 0.3, 0.46, 0.47, 0.8, 0.999):
        d = np.sqrt(-np.log1p(-(rho**2)))
        expected = prior.rate / 2 * np.exp(-prior.rate * d) * abs(rho) / ((1 - rho**2) * d)
        np.testing.assert_allclose(np.exp(prior.log_density(rho)), expected, rtol=1e-10)
        doubled = PCCorrelation(0.9, 0.1, positive=True)
        np.testing.assert_allclose(np.exp(doubled.log_density(abs(rho))), 2 * expected, rtol=1e-10)
    np.testing.assert_allclose(np.exp(prior.log_density(0.0)), prior.rate / 2)
    assert np.all(np.isneginf(prior.log_density([-1.0, 1.0, 2.0])))
    assert np.isfinite([prior.log_density_internal(t) for t in (-300.0, -1e-200, 0.0, 300.0)]).all()
    with pytest.raises(PriorError, match="between 0 and 1"):
        PCCorrelation(1.2, 0.1)
    assert str(prior) == "PC(0.9, 0.1)"


def divergence_by_definition(effect, phi):
    """2 KLD from N(0, I) of the covariance (1 − phi) I + phi R⁺, on the contrasts that R⁺ has a say in."""
    m = effect.observed
    V = effect.structure.covariance(np.zeros(1))
    values, vectors = np.linalg.eigh(V)
    W = vectors[:, values > 1e-9]
    S = W.T @ ((1 - phi) * np.eye(m) + phi * V) @ W
    return np.trace(S) - W.shape[1] - np.linalg.slogdet(S)[1]


@pytest.mark.parametrize("graph", [PATH, PARTS], ids=["path", "parts"])
def test_divergence(graph):
    effect = Bym2(graph)
    for t in (-6.0, -1.0, 0.0, 1e-3, 2.0, 7.0):
        value, slope = effect.divergence(t)
        np.testing.assert_allclose(value, divergence_by_definition(effect, 1 / (1 + np.exp(-t))), rtol=1e-7)
        h = 1e-4
        found = (effect.divergence(t + h)[0] - effect.divergence(t - h)[0]) / (2 * h)
        np.testing.assert_allclose(slope, found, rtol=1e-6)
    # small shares: phi²/2 Σ (g − 1)²
    V = np.linalg.eigvalsh(effect.structure.covariance(np.zeros(1)))
    V = V[V > 1e-9]
    for t in (-15.0, -200.0):
        np.testing.assert_allclose(effect.divergence(t)[0], np.exp(2 * t) / 2 * np.sum((V - 1) ** 2), rtol=1e-4)


def test_divergence_without_eigenvalues(monkeypatch):
    graph = lattice(9, 11)
    exact = Bym2(graph)
    _ = exact.divergence(0.0)
    monkeypatch.setattr("bayou.effects.areal.DENSE", 5)
    tabled = Bym2(graph)
    assert tabled.structure.spectrum is None
    for t in np.linspace(-25, 25, 101):
        np.testing.assert_allclose(tabled.divergence(t), exact.divergence(t), rtol=1e-4)


@pytest.mark.parametrize("graph", [PATH, PARTS, lattice(6, 7)], ids=["path", "parts", "lattice"])
@pytest.mark.parametrize(("upper", "probability"), [(0.5, 1 / 3), (0.8, 0.6), (0.1, 0.05)])
def test_mixing(graph, upper, probability, rng):
    prior = PCMixing(upper, probability, Bym2(graph).divergence)
    np.testing.assert_allclose(integral(prior), 1.0, rtol=1e-6)
    np.testing.assert_allclose(integral(prior, logit(upper)), probability, rtol=1e-6, atol=1e-7)
    # and as a density of phi itself
    direct = scipy.integrate.quad(lambda x: np.exp(prior.log_density(x)), 0.05, 0.5, limit=200)[0]
    np.testing.assert_allclose(direct, integral(prior, logit(0.05), logit(0.5)), rtol=1e-7)
    draws = prior.draw(rng, 20_000)
    assert abs(np.mean(draws > upper) - probability) < 5 * np.sqrt(probability * (1 - probability) / 20_000)
    assert str(prior) == f"PC({upper:.4g}, {probability:.4g})"


def test_mixing_needs_edges():
    with pytest.raises(DataError, match="no edges"):
        _ = Bym2(Neighbourhood(4, np.zeros((0, 2)))).divergence


def test_beta(rng):
    prior = Beta(2.5, 0.7)
    x = np.array([0.01, 0.4, 0.97])
    np.testing.assert_allclose(prior.log_density(x), scipy.stats.beta(2.5, 0.7).logpdf(x), rtol=1e-12)
    np.testing.assert_allclose(integral(prior), 1.0, rtol=1e-9)
    assert scipy.stats.kstest(prior.draw(rng, 2000), scipy.stats.beta(2.5, 0.7).cdf).pvalue > 1e-4
    with pytest.raises(PriorError):
        Beta(0, 1)
