"""Laws of every (family, link) pair, against arithmetic of hundreds of digits, scipy.stats and each other."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from decimal import Context, Decimal, localcontext
from functools import cache

import numpy as np
import pytest
from scipy import integrate, stats

from bayou import families, links
from bayou.errors import DataError, Unsupported
from bayou.families import Bernoulli, Binomial, Family, Gamma, Gaussian, NegativeBinomial, Poisson

STEP = Decimal("1e-20")

PAIRS = [
    Gaussian(), Gaussian(link="log"), Bernoulli(), Bernoulli(link="probit"), Bernoulli(link="cloglog"),
    Binomial(), Binomial(link="probit"), Binomial(link="cloglog"), Poisson(), NegativeBinomial(), Gamma(),
]  # fmt: skip
ETAS = [
    -700.0,
    -300.0,
    -40.0,
    -9.5,
    -6.1,
    -3.0,
    -0.9,
    -1e-3,
    0.0,
    0.3,
    1.7,
    5.9,
    8.5,
    27.631,
    45.0,
    300.0,
    700.0,
]


def rows_of(family: Family) -> list[tuple[float, float | None, float]]:
    """(y, dispersion, trials): the ordinary and the extreme."""
    counts = [0.0, 1.0, 3.0, 25.0, 1e6, 1e12]
    match family.name:
        case "gaussian":
            return [(y, sigma, 1.0) for y in (-2.0, 0.0, 3.5, 1e6) for sigma in (0.01, 1.0, 300.0)]
        case "bernoulli":
            return [(0.0, None, 1.0), (1.0, None, 1.0)]
        case "binomial":
            pairs = [(0, 1), (1, 1), (0, 5), (2, 5), (5, 5), (0, 0), (1, 1e12), (5e11, 1e12), (1e12, 1e12)]
            return [(float(y), None, float(n)) for y, n in pairs]
        case "poisson":
            return [(y, None, 1.0) for y in counts]
        case "negative_binomial":
            return [(y, phi, 1.0) for y in counts for phi in (1e-3, 0.7, 20.0, 1e12)]
        case _:
            return [(y, shape, 1.0) for y in (1e-300, 1e-3, 1.0, 40.0, 1e300) for shape in (0.3, 5.0, 1e12)]


def precise(eta: float) -> Context:
    # enough digits for second differences of 1e12 |eta| to show a curvature of exp(-|eta|) * exp(-|eta|)
    return Context(prec=80 + int(0.9 * abs(eta)), Emin=-999999999, Emax=999999999, traps=[])


def arctan_inverse(n: int) -> Decimal:
    term = total = Decimal(1) / n
    k = 1
    while abs(term) > Decimal("1e-130"):
        term /= -n * n
        k += 2
        total += term / k
    return total


@cache
def pi() -> Decimal:
    with localcontext(precise(60.0)):
        return 16 * arctan_inverse(5) - 4 * arctan_inverse(239)


def log_of_rest(u: Decimal) -> Decimal:
    """log(1 - u), as a series where u is too small for the digits at hand."""
    return (1 - u).ln() if u > Decimal("1e-25") else -u * (1 + u / 2 + u * u / 3 + u**3 / 4)


def log_normal_tail(x: Decimal) -> tuple[Decimal, Decimal]:
    """(log Phi(-x), log(1 - Phi(-x))) for x >= 0: a series below 10, Laplace's continued fraction above."""
    with localcontext(precise(45.0)):
        density = (-x * x / 2).exp() / (2 * pi()).sqrt()
        if x < 10:
            term, total, k = x, x, 1
            while term > Decimal("1e-125"):
                k += 2
                term *= x * x / k
                total += term
            tail = Decimal("0.5") - density * total
        else:
            fraction = x
            for k in range(200, 0, -1):
                fraction = x + k / fraction
            tail = density / fraction
        return tail.ln(), log_of_rest(tail)


@cache
def exp(x: Decimal) -> Decimal:
    return x.exp()


@cache
def log_probabilities(link: str, eta: Decimal) -> tuple[Decimal, Decimal]:
    if link == "logit":
        return -(1 + exp(-eta)).ln(), -(1 + exp(eta)).ln()
    if link == "cloglog":
        return log_of_rest(exp(-exp(eta))), -exp(eta)
    tail, rest = log_normal_tail(abs(eta))
    return (rest, tail) if eta > 0 else (tail, rest)


def log_gamma(x: Decimal) -> Decimal:
    shift = Decimal(0)
    while x < 60:
        shift -= x.ln()
        x += 1
    series = Decimal(0)
    bernoulli = ["1/6", "-1/30", "1/42", "-1/30", "5/66", "-691/2730", "7/6", "-3617/510", "43867/798"]
    for k, text in enumerate(bernoulli, start=1):
        top, bottom = text.split("/")
        series += Decimal(top) / Decimal(bottom) / (2 * k * (2 * k - 1)) / x ** (2 * k - 1)
    return shift + (x - Decimal("0.5")) * x.ln() - x + (2 * pi()).ln() / 2 + series


def part_with_eta(family: Family, y: Decimal, d: Decimal, n: Decimal) -> Callable[[Decimal], Decimal]:
    """The terms of the log density that depend on eta, as the textbooks write them."""
    if family.name == "gaussian":
        return lambda eta: -(((y - (exp(eta) if family.link.name == "log" else eta)) / d) ** 2) / 2
    if family.name == "poisson":
        return lambda eta: y * eta - exp(eta)
    if family.name == "negative_binomial":
        return lambda eta: y * eta - (y + d) * (exp(eta) + d).ln()
    if family.name == "gamma":
        return lambda eta: -d * (eta + y * exp(-eta))

    def binomial(eta: Decimal) -> Decimal:
        log_p, log_q = log_probabilities(family.link.name, eta)
        return y * log_p + (n - y) * log_q

    return binomial


@cache
def constants(family: Family, y: Decimal, d: Decimal, n: Decimal) -> Decimal:
    with localcontext(precise(0.0)):
        return constant_terms(family, y, d, n)


def constant_terms(family: Family, y: Decimal, d: Decimal, n: Decimal) -> Decimal:
    if family.name == "gaussian":
        return -d.ln() - (2 * pi()).ln() / 2
    if family.name == "poisson":
        return -log_gamma(y + 1)
    if family.name == "negative_binomial":
        return log_gamma(y + d) - log_gamma(d) - log_gamma(y + 1) + d * d.ln()
    if family.name == "gamma":
        return d * d.ln() + (d - 1) * y.ln() - log_gamma(d)
    return log_gamma(n + 1) - log_gamma(y + 1) - log_gamma(n - y + 1)


def exact(family: Family, y: float, d: float | None, n: float, eta: float) -> tuple[float, float, float]:
    with localcontext(precise(abs(eta) + (abs(np.log(y)) if y > 0 else 0.0))):
        dispersion = Decimal(1 if d is None else d)
        f = part_with_eta(family, Decimal(y), dispersion, Decimal(n))
        x = Decimal(eta)
        low, middle, high = f(x - STEP), f(x), f(x + STEP)
        value = middle + constants(family, Decimal(y), dispersion, Decimal(n))
        return float(value), float((high - low) / (2 * STEP)), float((2 * middle - high - low) / STEP**2)


@pytest.mark.parametrize("family", PAIRS, ids=str)
def test_density_and_derivatives_are_exact_for_every_eta(family: Family) -> None:
    for y, d, n in rows_of(family):
        for eta in ETAS:
            value, slope, curvature = exact(family, y, d, n, eta)
            # what one rounding of eta, of log(y) or of log(phi) can do
            reach = max(abs(eta), abs(np.log(max(y, 1e-300))), abs(np.log(d or 1.0)))
            noise = 8 * abs(slope) * np.spacing(reach)
            scale = (n if family.name == "binomial" else max(y, 0.0)) * 1e-15
            where = f"y={y}, dispersion={d}, trials={n}, eta={eta}"
            got = float(family.log_density(y, eta, d, n))
            assert got == pytest.approx(value, rel=2e-13, abs=1e-13 + noise), where
            got = float(family.gradient(y, eta, d, n))
            assert got == pytest.approx(slope, rel=1e-12, abs=scale + 1e-300), where
            got = float(family.curvature(y, eta, d, n))
            assert got == pytest.approx(curvature, rel=1e-12, abs=1e-300), where


@pytest.mark.parametrize("family", PAIRS, ids=str)
def test_log_density_is_that_of_scipy(family: Family) -> None:
    mu = family.mean(np.array([[-1.1], [0.2], [1.4]]))
    eta = np.array([[-1.1], [0.2], [1.4]])
    y = np.array([0.0, 1.0]) if family.name == "bernoulli" else np.array([0.0, 1.0, 2.0, 7.0])
    if family.name == "gaussian":
        reference, d = stats.norm.logpdf(y, mu, 1.3), 1.3
    elif family.name in ("bernoulli", "binomial"):
        reference, d = stats.binom.logpmf(y, 1 if family.name == "bernoulli" else 7, mu), None
    elif family.name == "poisson":
        reference, d = stats.poisson.logpmf(y, mu), None
    elif family.name == "negative_binomial":
        reference, d = stats.nbinom.logpmf(y, 2.5, 2.5 / (2.5 + mu)), 2.5
    else:
        y = y + 0.5
        reference, d = stats.gamma.logpdf(y, 2.5, scale=mu / 2.5), 2.5
    trials = 7.0 if family.name == "binomial" else 1.0
    np.testing.assert_allclose(family.log_density(y, eta, d, trials), reference, rtol=1e-12, atol=1e-12)
    if family.name != "gaussian":
        weighted = family.log_density(y, eta, d, trials, weights=0.3)
        np.testing.assert_allclose(weighted, 0.3 * reference, rtol=1e-12, atol=1e-12)
    else:
        weighted = family.log_density(y, eta, d, trials, weights=4.0)
        np.testing.assert_allclose(weighted, stats.norm.logpdf(y, mu, 1.3 / 2), rtol=1e-12)
        assert family.log_density(1.0, 0.0, 1.3, weights=0.0) == 0.0


@pytest.mark.parametrize("family", PAIRS, ids=str)
def test_cdf_adds_up_the_density(family: Family) -> None:
    trials, d = (9.0 if family.name == "binomial" else 1.0), (None if family.dispersion is None else 1.7)
    for eta in (-1.3, 0.1, 0.8):
        if family.name in ("gaussian", "gamma"):
            low = 1e-12 if family.name == "gamma" else -30.0
            area = integrate.quad(lambda y, eta: np.exp(family.log_density(y, eta, d)), low, 1.6, (eta,))[0]
            assert float(family.cdf(1.6, eta, d)) == pytest.approx(area, rel=1e-6)
            continue
        y = np.arange(0.0, (trials if family.name in ("bernoulli", "binomial") else 60.0) + 1)
        total = np.cumsum(np.exp(family.log_density(y, eta, d, trials)))
        np.testing.assert_allclose(family.cdf(y, eta, d, trials), total, rtol=1e-10)
        assert family.cdf(-1.0, eta, d, trials) == 0.0
        assert total[-1] == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize("family", PAIRS, ids=str)
def test_sampler_has_the_mean_and_variance_of_the_table(family: Family) -> None:
    rng = np.random.default_rng(8)
    eta = np.array([[-0.7], [0.4]])
    trials, d = (6.0 if family.name == "binomial" else 1.0), (None if family.dispersion is None else 2.2)
    y = family.sample(rng, eta, d, trials, weights=np.ones(40_000))
    assert y.shape == (2, 40_000)
    assert y.dtype == np.float64
    family.check(y.ravel(), np.full(y.size, trials))
    mu = family.mean(eta)[:, 0]
    variance = trials * family.variance(mu, d)
    np.testing.assert_allclose(y.mean(axis=1), trials * mu, atol=5 * np.sqrt(variance.max() / 40_000))
    np.testing.assert_allclose(y.var(axis=1), variance, rtol=0.08)
    again = family.sample(np.random.default_rng(8), eta, d, trials, weights=np.ones(40_000))
    np.testing.assert_array_equal(y, again)


@pytest.mark.parametrize("family", PAIRS, ids=str)
def test_expected_score_is_zero(family: Family) -> None:
    rng = np.random.default_rng(3)
    trials, d = (6.0 if family.name == "binomial" else 1.0), (None if family.dispersion is None else 2.2)
    y = family.sample(rng, np.full(60_000, 0.35), d, trials)
    score = family.gradient(y, 0.35, d, trials)
    assert abs(score.mean()) < 5 * score.std() / np.sqrt(len(y))
    # second Bartlett identity: the mean curvature is the variance of the score
    assert family.curvature(y, 0.35, d, trials).mean() == pytest.approx(score.var(), rel=0.05)


def test_samplers_far_out() -> None:
    rng = np.random.default_rng(1)
    large = Poisson().sample(rng, np.full(2000, np.log(1e12)))
    assert abs(large.mean() - 1e12) < 5e6 / np.sqrt(2000) * 1.1
    assert np.all(Poisson().sample(rng, np.full(3, 60.0)) > 1e25)
    assert Poisson().sample(rng, 800.0) == np.inf
    assert Binomial().sample(rng, 700.0, trials=1e12) == 1e12
    assert Binomial(link="cloglog").sample(rng, -700.0, trials=1e12) == 0.0
    assert Bernoulli(link="probit").sample(rng, np.full(5, 700.0)).sum() == 5


@pytest.mark.parametrize("link", links.LINKS.values(), ids=str)
def test_links_invert_and_differentiate(link: links.Link) -> None:
    eta = np.linspace(-3.0, 2.0, 41)
    np.testing.assert_allclose(link(link.inverse(eta)), eta, rtol=1e-10, atol=1e-12)
    step = 1e-6
    slope = (link.inverse(eta + step) - link.inverse(eta - step)) / (2 * step)
    np.testing.assert_allclose(link.derivative(eta), slope, rtol=1e-7)
    if isinstance(link, links.ProbabilityLink):
        np.testing.assert_allclose(link.inverse(eta) + link.complement(eta), 1.0, rtol=1e-14)
        np.testing.assert_allclose(np.exp(link.log_success(eta)), link.inverse(eta), rtol=1e-13)
        np.testing.assert_allclose(np.exp(link.log_failure(eta)), link.complement(eta), rtol=1e-13)


def test_leading_dimensions_broadcast() -> None:
    eta, phi = np.zeros((4, 10, 3)), np.ones((4, 10, 1))
    assert NegativeBinomial().log_density(np.arange(3.0), eta, phi).shape == (4, 10, 3)
    assert NegativeBinomial().sample(np.random.default_rng(0), eta, phi).shape == (4, 10, 3)


IMPOSSIBLE = [
    (Poisson(), [1.0, 2.5, -1.0], 1.0, "negative.*row 2 has -1"),
    (Poisson(), [1.0, 2.5, 0.5, 0.25, 9.75], 1.0, "whole number.*row 1 has 2.5.*1 more row"),
    (NegativeBinomial(), [0.0, 1.5], 1.0, "negative_binomial.*whole number.*row 1"),
    (Poisson(), [1.0, np.inf], 1.0, "finite.*row 1 has inf"),
    (Binomial(), [3.0, 5.0], [4.0, 4.0], "more successes than trials.*row 1 has 5"),
    (Binomial(), [1.0, 1.0], [2.0, 2.5], "trials.*row 1"),
    (Bernoulli(), [0.0, 2.0], 1.0, "0 or 1.*row 1 has 2"),
    (Gamma(), [1.0, 0.0], 1.0, "greater than zero.*row 1 has 0"),
    (Gaussian(), [1.0, np.nan], 1.0, "finite.*row 1 has nan"),
]


@pytest.mark.parametrize(("family", "y", "trials", "message"), IMPOSSIBLE)
def test_impossible_responses_are_refused(family: Family, y: list[float], trials: float, message: str) -> None:
    with pytest.raises(DataError, match=f"(?s){message}"):
        family.check(np.array(y), np.array(trials))


def test_refusal_names_the_rows_by_their_labels() -> None:
    with pytest.raises(DataError, match="row mouse7 has -1"):
        Poisson().check(np.array([0.0, -1.0]), rows_label=["mouse1", "mouse7"])


def test_possible_responses_pass() -> None:
    Binomial().check(np.array([0.0, 0.0, 5.0]), np.array([0.0, 3.0, 5.0]))
    Poisson().check(np.array([0.0, 1e12]))


def test_names_are_resolved() -> None:
    assert families.get("Poisson") == Poisson()
    assert families.get(" negative_binomial ") == NegativeBinomial()
    probit = Binomial(link="probit")
    assert families.get(probit) is probit
    assert Binomial(link=links.Probit()) == probit != Binomial()
    assert len({family.code for family in PAIRS}) == 8
    with pytest.raises(Unsupported, match="gaussian, bernoulli, binomial, poisson, negative_binomial, gamma"):
        families.get("weibull")
    with pytest.raises(Unsupported, match="no log link; it has: logit, probit, cloglog"):
        Binomial(link="log")
    with pytest.raises(Unsupported, match="there is no link 'cauchit'"):
        Binomial(link="cauchit")
    with pytest.raises(DataError, match="needs a value of its phi"):
        NegativeBinomial().log_density(1.0, 0.0)


def test_families_do_not_load_numba() -> None:
    code = "import sys, bayou.families; assert not {'numba', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
