"""Families of the response: log density, two derivatives in eta, variance function, sampler.

Every density is written around its deviance (Loader 2000, *Fast and accurate computation of binomial
probabilities*), so that counts of 1e12 cost no digits, and in logarithms, so that no eta overflows into a
wrong answer. The kernels of `bayou.rows` know a family by its integer `code`; these methods are the plain
statement that they are tested against.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from bayou._types import Array
from bayou.errors import Unsupported
from bayou.families import codes
from bayou.families.base import CORRECT, Family, Refuse, Rows
from bayou.links import ProbabilityLink

__all__ = ["Bernoulli", "Binomial", "Family", "Gamma", "Gaussian", "NegativeBinomial", "Poisson", "get"]

HALF_LOG_TWO_PI = 0.5 * np.log(2 * np.pi)


def exp_excess(d: Array) -> Array:
    """Return exp(d) - 1 - d with all its digits near zero: half a unit deviance when d = log(mu / y)."""
    small = np.clip(d, -0.5, 0.5)
    series = np.ones_like(d)
    for k in range(17, 2, -1):
        series = 1.0 + small * series / k
    return np.where(np.abs(d) < 0.5, 0.5 * small * small * series, np.expm1(d) - d)


def stirling_error(x: Array) -> Array:
    """Return log Gamma(x + 1) minus Stirling's (x + 1/2) log x - x + log(2 pi)/2, for x > 0."""
    large = np.maximum(x, 16.0)
    square = 1.0 / (large * large)
    series = (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square * (1 / 1680 - square / 1188)))) / large
    low = np.minimum(x, 16.0)
    direct = special.gammaln(low + 1.0) - (low + 0.5) * np.log(low) + low - HALF_LOG_TWO_PI
    return np.where(x < 16.0, direct, series)


def draw_counts(rng: np.random.Generator, mu: Array) -> Array:
    """Draw Poisson counts; beyond 1e15 a double cannot tell them from their rounded normal limit."""
    counts = np.asarray(rng.poisson(np.minimum(mu, 1e15)), dtype=np.float64)
    if not np.any(mu > 1e15):
        return counts
    limit = np.where(np.isinf(mu), mu, np.rint(mu + np.sqrt(mu) * rng.standard_normal(mu.shape)))
    return np.where(mu > 1e15, limit, counts)


class Gaussian(Family):
    """Normal response: y ~ N(mu, sigma**2 / weights); a row of weight zero says nothing."""

    name = "gaussian"
    dispersion = "sigma"
    codes = {"identity": codes.GAUSSIAN_IDENTITY, "log": codes.GAUSSIAN_LOG}

    def variance(self, mu: ArrayLike, dispersion: ArrayLike | None = None) -> Array:
        """Return sigma**2."""
        return np.asarray(np.square(np.asarray(dispersion, dtype=np.float64)) + np.zeros(np.shape(mu)))

    def _log_density(self, rows: Rows) -> Array:
        y, eta, sigma, _, weights = rows
        square = weights * ((y - self.mean(eta)) / sigma) ** 2
        value = 0.5 * (np.log(weights) - square) - np.log(sigma) - HALF_LOG_TWO_PI
        return np.where(weights > 0, value, 0.0)

    def _derivatives(self, rows: Rows) -> tuple[Array, Array]:
        mu, slope = self.mean(rows.eta), self.link.derivative(rows.eta)
        # the second derivative of mu in eta is mu itself for the log link and zero for the identity
        bend = mu if self.link.name == "log" else np.zeros_like(mu)
        residual, precision = rows.y - mu, rows.dispersion**-2
        return precision * residual * slope, precision * (slope**2 - residual * bend)

    def _sample(self, rng: np.random.Generator, rows: Rows) -> Array:
        return self.mean(rows.eta) + rows.dispersion / np.sqrt(rows.weights) * rng.standard_normal(rows.eta.shape)

    def _cdf(self, rows: Rows) -> Array:
        z = (rows.y - self.mean(rows.eta)) / rows.dispersion * np.sqrt(rows.weights)
        return np.asarray(special.ndtr(z))

    def _check(self, y: Array, trials: Array, refuse: Refuse) -> None:
        """Any finite number will do."""


class Binomial(Family):
    """Successes in known numbers of trials: y ~ Binomial(trials, p), p = inverse link of eta."""

    name = "binomial"
    codes = {
        "logit": codes.BINOMIAL_LOGIT,
        "probit": codes.BINOMIAL_PROBIT,
        "cloglog": codes.BINOMIAL_CLOGLOG,
    }
    link: ProbabilityLink

    def variance(self, mu: ArrayLike, dispersion: ArrayLike | None = None) -> Array:
        """Return mu (1 - mu)."""
        return np.asarray(np.multiply(mu, np.subtract(1.0, mu)))

    def _log_density(self, rows: Rows) -> Array:
        y, failures, n = rows.y, rows.trials - rows.y, rows.trials
        success, failure = self.link.log_success(rows.eta), self.link.log_failure(rows.eta)
        edge = np.where(y > 0, y * success, 0.0) + np.where(failures > 0, failures * failure, 0.0)
        deviance = y * exp_excess(success + np.log(n / y)) + failures * exp_excess(failure + np.log(n / failures))
        constant = stirling_error(n) - stirling_error(y) - stirling_error(failures)
        inner = constant + 0.5 * np.log(n / y / failures) - HALF_LOG_TWO_PI - deviance
        return rows.weights * np.where((y > 0) & (failures > 0), inner, edge)

    def _derivatives(self, rows: Rows) -> tuple[Array, Array]:
        y, failures = rows.y, rows.trials - rows.y
        pairs = zip(self.link.success_derivatives(rows.eta), self.link.failure_derivatives(rows.eta), strict=True)
        gradient, curvature = (
            np.where(y > 0, y * success, 0.0) + np.where(failures > 0, failures * failure, 0.0)
            for success, failure in pairs
        )
        return gradient, curvature

    def _sample(self, rng: np.random.Generator, rows: Rows) -> Array:
        p, q = self.link.inverse(rows.eta), self.link.complement(rows.eta)
        rarer = np.asarray(rng.binomial(rows.trials.astype(np.int64), np.minimum(p, q)), dtype=np.float64)
        return np.where(p <= q, rarer, rows.trials - rarer)

    def _cdf(self, rows: Rows) -> Array:
        p, q = self.link.inverse(rows.eta), self.link.complement(rows.eta)
        y, n = np.floor(rows.y), rows.trials
        inner = np.clip(y, 0.0, np.maximum(n - 1.0, 0.0))
        value = np.where(p < q, special.betaincc(inner + 1.0, n - inner, p), special.betainc(n - inner, inner + 1.0, q))
        return np.where(y >= n, 1.0, np.where(y < 0, 0.0, value))

    def _check(self, y: Array, trials: Array, refuse: Refuse) -> None:
        super()._check(y, trials, refuse)
        refuse(~(trials >= 0) | (trials != np.rint(trials)), "needs whole, non-negative numbers of trials", CORRECT)
        refuse(y > trials, "has more successes than trials", f"{CORRECT} The order is proportion(successes, trials).")


class Bernoulli(Binomial):
    """A single success or failure, 1 or 0; several of them where identical rows were merged."""

    name = "bernoulli"

    def _check(self, y: Array, trials: Array, refuse: Refuse) -> None:
        counts = "For counts out of several trials take family='binomial' and proportion(successes, trials)."
        refuse((trials == 1) & (y != 0) & (y != 1), "must be 0 or 1", f"{CORRECT} {counts}")
        super()._check(y, trials, refuse)


class Poisson(Family):
    """Counts with mean and variance mu."""

    name = "poisson"
    codes = {"log": codes.POISSON_LOG}

    def variance(self, mu: ArrayLike, dispersion: ArrayLike | None = None) -> Array:
        """Return mu."""
        return np.asarray(mu, dtype=np.float64)

    def _log_density(self, rows: Rows) -> Array:
        y, eta = rows.y, rows.eta
        inner = -y * exp_excess(eta - np.log(y)) - stirling_error(y) - 0.5 * np.log(y) - HALF_LOG_TWO_PI
        return rows.weights * np.where(y > 0, inner, -self.mean(eta))

    def _derivatives(self, rows: Rows) -> tuple[Array, Array]:
        mu = self.mean(rows.eta)
        return rows.y - mu, mu

    def _sample(self, rng: np.random.Generator, rows: Rows) -> Array:
        return draw_counts(rng, self.mean(rows.eta))

    def _cdf(self, rows: Rows) -> Array:
        y = np.floor(rows.y)
        return np.where(y < 0, 0.0, special.gammaincc(np.maximum(y, 0.0) + 1.0, self.mean(rows.eta)))


class NegativeBinomial(Family):
    """Counts with mean mu and variance mu + mu**2 / phi: a Gamma(phi, phi / mu) mixture of Poissons."""

    name = "negative_binomial"
    dispersion = "phi"
    codes = {"log": codes.NEGATIVE_BINOMIAL_LOG}

    def variance(self, mu: ArrayLike, dispersion: ArrayLike | None = None) -> Array:
        """Return mu + mu**2 / phi."""
        return np.asarray(np.add(mu, np.square(mu) / np.asarray(dispersion, dtype=np.float64)))

    def _log_density(self, rows: Rows) -> Array:
        # phi/(phi + y) times the binomial probability of y successes in phi + y trials
        y, phi, odds = rows.y, rows.dispersion, rows.eta - np.log(rows.dispersion)
        success, failure, n = special.log_expit(odds), special.log_expit(-odds), rows.dispersion + rows.y
        deviance = phi * exp_excess(failure + np.log(n / phi)) + y * exp_excess(success + np.log(n / y))
        constant = stirling_error(n) - stirling_error(phi) - stirling_error(y)
        inner = constant + 0.5 * (np.log(phi / n) - np.log(y)) - HALF_LOG_TWO_PI - deviance
        return np.asarray(rows.weights * np.where(y > 0, inner, phi * failure))

    def _derivatives(self, rows: Rows) -> tuple[Array, Array]:
        odds = rows.eta - np.log(rows.dispersion)
        success, failure = special.expit(odds), special.expit(-odds)
        return rows.y * failure - rows.dispersion * success, (rows.y + rows.dispersion) * success * failure

    def _sample(self, rng: np.random.Generator, rows: Rows) -> Array:
        return draw_counts(rng, self.mean(rows.eta) * (rng.standard_gamma(rows.dispersion) / rows.dispersion))

    def _cdf(self, rows: Rows) -> Array:
        odds, y = rows.eta - np.log(rows.dispersion), np.floor(rows.y)
        inner = np.maximum(y, 0.0) + 1.0
        lower = special.betaincc(inner, rows.dispersion, special.expit(odds))
        upper = special.betainc(rows.dispersion, inner, special.expit(-odds))
        return np.where(y < 0, 0.0, np.where(odds < 0, lower, upper))


class Gamma(Family):
    """Positive response with mean mu and variance mu**2 / shape."""

    name = "gamma"
    dispersion = "shape"
    codes = {"log": codes.GAMMA_LOG}

    def variance(self, mu: ArrayLike, dispersion: ArrayLike | None = None) -> Array:
        """Return mu**2 / shape."""
        return np.asarray(np.square(mu) / np.asarray(dispersion, dtype=np.float64))

    def _log_density(self, rows: Rows) -> Array:
        log_y, shape = np.log(rows.y), rows.dispersion
        constant = 0.5 * np.log(shape) - HALF_LOG_TWO_PI - stirling_error(shape)
        return np.asarray(rows.weights * (constant - log_y - shape * exp_excess(log_y - rows.eta)))

    def _derivatives(self, rows: Rows) -> tuple[Array, Array]:
        d = np.log(rows.y) - rows.eta
        return rows.dispersion * np.expm1(d), rows.dispersion * np.exp(d)

    def _sample(self, rng: np.random.Generator, rows: Rows) -> Array:
        return self.mean(rows.eta) * (rng.standard_gamma(rows.dispersion) / rows.dispersion)

    def _cdf(self, rows: Rows) -> Array:
        scaled = rows.dispersion * np.exp(np.log(rows.y) - rows.eta)
        return np.where(rows.y > 0, special.gammainc(rows.dispersion, scaled), 0.0)

    def _check(self, y: Array, trials: Array, refuse: Refuse) -> None:
        refuse(y <= 0, "must be greater than zero", CORRECT)


FAMILIES: dict[str, type[Family]] = {
    family.name: family for family in (Gaussian, Bernoulli, Binomial, Poisson, NegativeBinomial, Gamma)
}


def get(family: str | Family) -> Family:
    """Return the family of that name (any case) with its usual link; a `Family` passes through.

    Raises
    ------
    Unsupported
        If no family has that name; the message lists those that exist.
    """
    if isinstance(family, Family):
        return family
    found = FAMILIES.get(family.strip().lower()) if isinstance(family, str) else None
    if found is None:
        raise Unsupported(f"there is no family {family!r}; bayou has: {', '.join(FAMILIES)}")
    return found()
