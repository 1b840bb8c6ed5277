"""Kernels over the rows: log likelihood, gradient and weight of every family, in one pass.

A row is a scalar function (value, gradient, curvature) of its family; a kernel is a loop over it. For the
loops to become vector instructions, `exp` and `log` are polynomials here (a call would stop it), and the sum
is kept in 512 lanes that are added pairwise at the end (a running sum would stop it too, and round more).

A kernel that visits many small groups should `borrow` its arrays before it slices them (see `bayou.jit`).
"""

from __future__ import annotations

import math

import numpy as np

from bayou._types import Array
from bayou.families.codes import (
    BINOMIAL_CLOGLOG,
    BINOMIAL_LOGIT,
    BINOMIAL_PROBIT,
    GAMMA_LOG,
    GAUSSIAN_IDENTITY,
    GAUSSIAN_LOG,
    NEGATIVE_BINOMIAL_LOG,
    POISSON_LOG,
)
from bayou.families.elementary import (
    exp,
    exp_parts,
    log,
    log1p_unit,
    log_hazard,
    log_normal_cdf,
    log_rising,
    stirling_error,
)
from bayou.jit import borrow, kernel

__all__ = [
    "BINOMIAL_CLOGLOG",
    "BINOMIAL_LOGIT",
    "BINOMIAL_PROBIT",
    "GAMMA_LOG",
    "GAUSSIAN_IDENTITY",
    "GAUSSIAN_LOG",
    "LANES",
    "NEGATIVE_BINOMIAL_LOG",
    "POISSON_LOG",
    "row_dispersion",
    "row_log_density",
    "row_means",
    "row_terms",
]

LANES = 512  # length of the scratch array `work`


@kernel(inline=True, contract=True)
def _gaussian(y: float, mu: float, slope: float, bend: float, precision: float) -> tuple[float, float, float]:
    residual = y - mu
    scaled = precision * residual
    return -0.5 * scaled * residual, scaled * slope, precision * slope * slope - scaled * bend


@kernel(inline=True, contract=True)
def _logistic(successes: float, failures: float, eta: float) -> tuple[float, float, float]:
    """Return successes log p + failures log(1 - p), p = 1 / (1 + exp(-eta)), without cancellation."""
    t = exp(-abs(eta))
    larger = 1.0 / (1.0 + t)
    smaller = t * larger
    p = larger if eta >= 0.0 else smaller
    q = smaller if eta >= 0.0 else larger
    total = successes + failures
    value = (-failures if eta >= 0.0 else successes) * eta - total * log1p_unit(t)
    return value, successes * q - failures * p, total * (larger * smaller)


@kernel(inline=True, contract=True)
def _probit(successes: float, failures: float, eta: float) -> tuple[float, float, float]:
    value, gradient, curvature = 0.0, 0.0, 0.0
    if successes > 0.0:
        v, g, c = log_normal_cdf(eta)
        value, gradient, curvature = successes * v, successes * g, successes * c
    if failures > 0.0:
        v, g, c = log_normal_cdf(-eta)
        value, gradient, curvature = value + failures * v, gradient - failures * g, curvature + failures * c
    return value, gradient, curvature


@kernel(inline=True, contract=True)
def _cloglog(successes: float, failures: float, eta: float) -> tuple[float, float, float]:
    value, gradient, curvature = 0.0, 0.0, 0.0
    if successes > 0.0:
        v, g, c = log_hazard(eta)
        value, gradient, curvature = successes * v, successes * g, successes * c
    if failures > 0.0:
        lost = failures * exp(eta)
        value, gradient, curvature = value - lost, gradient - lost, curvature + lost
    return value, gradient, curvature


@kernel(inline=True, contract=True)
def _poisson(y: float, eta: float) -> tuple[float, float, float]:
    mu = exp(eta)
    return y * eta - mu, y - mu, mu


@kernel(inline=True, contract=True)
def _gamma(y: float, eta: float, shape: float) -> tuple[float, float, float]:
    """Return minus the shape times half the unit deviance, and its derivatives, through log(y / mu)."""
    d = log(y) - eta
    ratio, excess = exp_parts(d)
    return -shape * excess, shape * (d + excess), shape * ratio


@kernel(inline=True, contract=True)
def _at(start: int, i: int) -> int:
    # Python's negative indices count from the end; the mask tells the compiler that there are none here
    return (start + i) & 0x7FFFFFFFFFFFFFFF


@kernel(inline=True, contract=True)
def _put(
    row: tuple[float, float, float],
    weight: float,
    lane: int,
    j: int,
    work: Array,
    gradient: Array,
    curvature: Array,
) -> None:
    work[lane] += weight * row[0]
    gradient[j] = weight * row[1]
    curvature[j] = weight * row[2]


@kernel
def _add_lanes(work: Array, count: int) -> float:
    """Return the sum of the first `count` lanes, added pairwise; `work` is overwritten."""
    while count > 1:
        half = count >> 1
        rest = count - half
        for i in range(half):
            work[i] += work[_at(rest, i)]
        count = rest
    return float(work[0])


@kernel(contract=True)
def row_terms(
    code: int,
    y: Array,
    trials: Array,
    weights: Array,
    eta: Array,
    dispersion: float,
    gradient: Array,
    curvature: Array,
    work: Array,
) -> float:
    """Return the log likelihood of the rows and fill in its two derivatives in eta.

    Parameters
    ----------
    code
        Family and link, from `bayou.codes`.
    y, trials, weights, eta
        Shape (n,), contiguous. `trials` is read for binomial families only.
    dispersion
        sigma, phi or shape; any positive number where the family has none.
    gradient, curvature
        Shape (n,), overwritten with d l_i / d eta_i and -d2 l_i / d eta_i2 (observed).
    work
        Scratch of `LANES` numbers.

    Returns
    -------
    float
        The sum of l_i = weights_i times the terms of the log density that depend on eta, up to terms that
        depend on the outcome and the dispersion alone.
    """
    y, trials, weights, eta = borrow(y), borrow(trials), borrow(weights), borrow(eta)
    gradient, curvature, work = borrow(gradient), borrow(curvature), borrow(work)
    n = len(y)
    lanes = min(n, LANES)
    if n == 0:
        return 0.0
    for i in range(lanes):
        work[i] = 0.0
    precision = 1.0 / (dispersion * dispersion)
    log_dispersion = math.log(dispersion) if code == NEGATIVE_BINOMIAL_LOG else 0.0
    for start in range(0, n, LANES):
        count = min(LANES, n - start)
        if code == GAUSSIAN_IDENTITY:
            for i in range(count):
                j = _at(start, i)
                _put(_gaussian(y[j], eta[j], 1.0, 0.0, precision), weights[j], i, j, work, gradient, curvature)
        elif code == GAUSSIAN_LOG:
            for i in range(count):
                j = _at(start, i)
                mu = exp(eta[j])
                _put(_gaussian(y[j], mu, mu, mu, precision), weights[j], i, j, work, gradient, curvature)
        elif code == BINOMIAL_LOGIT:
            for i in range(count):
                j = _at(start, i)
                _put(_logistic(y[j], trials[j] - y[j], eta[j]), weights[j], i, j, work, gradient, curvature)
        elif code == BINOMIAL_PROBIT:
            for i in range(count):
                j = _at(start, i)
                _put(_probit(y[j], trials[j] - y[j], eta[j]), weights[j], i, j, work, gradient, curvature)
        elif code == BINOMIAL_CLOGLOG:
            for i in range(count):
                j = _at(start, i)
                _put(_cloglog(y[j], trials[j] - y[j], eta[j]), weights[j], i, j, work, gradient, curvature)
        elif code == POISSON_LOG:
            for i in range(count):
                j = _at(start, i)
                _put(_poisson(y[j], eta[j]), weights[j], i, j, work, gradient, curvature)
        elif code == NEGATIVE_BINOMIAL_LOG:
            for i in range(count):
                j = _at(start, i)
                _put(
                    _logistic(y[j], dispersion, eta[j] - log_dispersion),
                    weights[j],
                    i,
                    j,
                    work,
                    gradient,
                    curvature,
                )
        elif code == GAMMA_LOG:
            for i in range(count):
                j = _at(start, i)
                _put(_gamma(y[j], eta[j], dispersion), weights[j], i, j, work, gradient, curvature)
    return _add_lanes(work, lanes)


@kernel(contract=True)
def row_log_density(
    code: int, y: Array, trials: Array, weights: Array, eta: Array, dispersion: float, work: Array
) -> float:
    """Return the sum that `row_terms` returns, without the derivatives."""
    y, trials, weights, eta, work = borrow(y), borrow(trials), borrow(weights), borrow(eta), borrow(work)
    n = len(y)
    lanes = min(n, LANES)
    if n == 0:
        return 0.0
    for i in range(lanes):
        work[i] = 0.0
    precision = 1.0 / (dispersion * dispersion)
    log_dispersion = math.log(dispersion) if code == NEGATIVE_BINOMIAL_LOG else 0.0
    for start in range(0, n, LANES):
        count = min(LANES, n - start)
        if code == GAUSSIAN_IDENTITY:
            for i in range(count):
                j = _at(start, i)
                work[i] += weights[j] * _gaussian(y[j], eta[j], 1.0, 0.0, precision)[0]
        elif code == GAUSSIAN_LOG:
            for i in range(count):
                j = _at(start, i)
                mu = exp(eta[j])
                work[i] += weights[j] * _gaussian(y[j], mu, mu, mu, precision)[0]
        elif code == BINOMIAL_LOGIT:
            for i in range(count):
                j = _at(start, i)
                work[i] += weights[j] * _logistic(y[j], trials[j] - y[j], eta[j])[0]
        elif code == BINOMIAL_PROBIT:
            for i in range(count):
                j = _at(start, i)
                work[i] += weights[j] * _probit(y[j], trials[j] - y[j], eta[j])[0]
        elif code == BINOMIAL_CLOGLOG:
            for i in range(count):
                j = _at(start, i)
                work[i] += weights[j] * _cloglog(y[j], trials[j] - y[j], eta[j])[0]
        elif code == POISSON_LOG:
            for i in range(count):
                j = _at(start, i)
                work[i] += weights[j] * _poisson(y[j], eta[j])[0]
        elif code == NEGATIVE_BINOMIAL_LOG:
            for i in range(count):
                j = _at(start, i)
                work[i] += weights[j] * _logistic(y[j], dispersion, eta[j] - log_dispersion)[0]
        elif code == GAMMA_LOG:
            for i in range(count):
                j = _at(start, i)
                work[i] += weights[j] * _gamma(y[j], eta[j], dispersion)[0]
    return _add_lanes(work, lanes)


@kernel(contract=True)
def row_dispersion(code: int, y: Array, trials: Array, weights: Array, eta: Array, dispersion: float) -> float:
    """Return the sum of all terms of the weighted log density that depend on eta or on the dispersion.

    Differences of it over the dispersion are those of the log likelihood. Parameters as in `row_terms`.
    """
    total = row_log_density(code, y, trials, weights, eta, dispersion, np.empty(LANES))
    log_dispersion = math.log(dispersion)
    error = stirling_error(dispersion)
    if code == GAUSSIAN_IDENTITY or code == GAUSSIAN_LOG:
        for i in range(len(y)):  # a row of weight zero says nothing of sigma either
            total -= log_dispersion if weights[i] > 0.0 else 0.0
    elif code == NEGATIVE_BINOMIAL_LOG:
        for i in range(len(y)):
            total += weights[i] * (log_rising(y[i], dispersion, error) + y[i] * log_dispersion)
    elif code == GAMMA_LOG:
        for i in range(len(y)):
            total += weights[i] * (0.5 * log_dispersion - error)
    return total


@kernel(contract=True)
def row_means(code: int, eta: Array, out: Array) -> None:
    """Fill `out` with the means (binomial: probabilities) at `eta`, both of shape (n,)."""
    if code == GAUSSIAN_IDENTITY:
        for i in range(len(eta)):  # out[:] = eta takes seconds to compile
            out[i] = eta[i]
    elif code == BINOMIAL_LOGIT:
        for i in range(len(eta)):
            out[i] = _logistic(1.0, 0.0, -eta[i])[1]  # the slope of log p at -eta is p at eta
    elif code == BINOMIAL_PROBIT:
        for i in range(len(eta)):
            out[i] = 0.5 * math.erfc(-eta[i] * math.sqrt(0.5))
    elif code == BINOMIAL_CLOGLOG:
        for i in range(len(eta)):
            out[i] = -math.expm1(-exp(eta[i]))
    else:
        for i in range(len(eta)):
            out[i] = exp(eta[i])
