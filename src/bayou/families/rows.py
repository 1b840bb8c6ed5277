"""Kernels over the rows: log likelihood, gradient and weight of every family, in one pass.

A row is a scalar function (value, gradient, curvature) of its family; a kernel is a loop over it. For the
loops to become vector instructions, `exp` and `log` are polynomials here (a call would stop it), and the values
are stored, 512 at a time, and then added pairwise (a running sum would stop it too, and round more).
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
from bayou.jit import kernel, window

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
    "add_compensated",
    "add_pairwise",
    "dispersion_terms",
    "row_derivatives",
    "row_dispersion",
    "row_log_density",
    "row_means",
    "row_terms",
    "row_values",
]

LANES = 512  # rows at a time: length of the scratch array `work`


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
def _put(
    row: tuple[float, float, float], weight: float, i: int, value: Array, gradient: Array, curvature: Array
) -> None:
    value[i] = weight * row[0]
    gradient[i] = weight * row[1]
    curvature[i] = weight * row[2]


@kernel(contract=True)
def row_derivatives(
    code: int,
    y: Array,
    trials: Array,
    weights: Array,
    eta: Array,
    dispersion: float,
    value: Array,
    gradient: Array,
    curvature: Array,
) -> None:
    """Fill in the log likelihood of each row and its two derivatives in eta.

    Parameters
    ----------
    code
        Family and link, from `bayou.codes`.
    y, trials, weights, eta
        Shape (n,), contiguous. `trials` is read for binomial families only.
    dispersion
        sigma, phi or shape; any positive number where the family has none.
    value
        Shape (n,), overwritten with l_i = weights_i times the terms of the log density that depend on eta, up
        to terms that depend on the outcome and the dispersion alone.
    gradient, curvature
        Shape (n,), overwritten with d l_i / d eta_i and -d2 l_i / d eta_i2 (observed).
    """
    n = len(y)
    precision = 1.0 / (dispersion * dispersion)
    log_dispersion = math.log(dispersion) if code == NEGATIVE_BINOMIAL_LOG else 0.0
    if code == GAUSSIAN_IDENTITY:
        for i in range(n):
            _put(_gaussian(y[i], eta[i], 1.0, 0.0, precision), weights[i], i, value, gradient, curvature)
    elif code == GAUSSIAN_LOG:
        for i in range(n):
            mu = exp(eta[i])
            _put(_gaussian(y[i], mu, mu, mu, precision), weights[i], i, value, gradient, curvature)
    elif code == BINOMIAL_LOGIT:
        for i in range(n):
            _put(_logistic(y[i], trials[i] - y[i], eta[i]), weights[i], i, value, gradient, curvature)
    elif code == BINOMIAL_PROBIT:
        for i in range(n):
            _put(_probit(y[i], trials[i] - y[i], eta[i]), weights[i], i, value, gradient, curvature)
    elif code == BINOMIAL_CLOGLOG:
        for i in range(n):
            _put(_cloglog(y[i], trials[i] - y[i], eta[i]), weights[i], i, value, gradient, curvature)
    elif code == POISSON_LOG:
        for i in range(n):
            _put(_poisson(y[i], eta[i]), weights[i], i, value, gradient, curvature)
    elif code == NEGATIVE_BINOMIAL_LOG:
        for i in range(n):
            _put(_logistic(y[i], dispersion, eta[i] - log_dispersion), weights[i], i, value, gradient, curvature)
    elif code == GAMMA_LOG:
        for i in range(n):
            _put(_gamma(y[i], eta[i], dispersion), weights[i], i, value, gradient, curvature)


@kernel(contract=True)
def row_values(code: int, y: Array, trials: Array, weights: Array, eta: Array, dispersion: float, value: Array) -> None:
    """Fill in the log likelihood of each row, as `row_derivatives` does, and nothing else."""
    n = len(y)
    precision = 1.0 / (dispersion * dispersion)
    log_dispersion = math.log(dispersion) if code == NEGATIVE_BINOMIAL_LOG else 0.0
    if code == GAUSSIAN_IDENTITY:
        for i in range(n):
            value[i] = weights[i] * _gaussian(y[i], eta[i], 1.0, 0.0, precision)[0]
    elif code == GAUSSIAN_LOG:
        for i in range(n):
            mu = exp(eta[i])
            value[i] = weights[i] * _gaussian(y[i], mu, mu, mu, precision)[0]
    elif code == BINOMIAL_LOGIT:
        for i in range(n):
            value[i] = weights[i] * _logistic(y[i], trials[i] - y[i], eta[i])[0]
    elif code == BINOMIAL_PROBIT:
        for i in range(n):
            value[i] = weights[i] * _probit(y[i], trials[i] - y[i], eta[i])[0]
    elif code == BINOMIAL_CLOGLOG:
        for i in range(n):
            value[i] = weights[i] * _cloglog(y[i], trials[i] - y[i], eta[i])[0]
    elif code == POISSON_LOG:
        for i in range(n):
            value[i] = weights[i] * _poisson(y[i], eta[i])[0]
    elif code == NEGATIVE_BINOMIAL_LOG:
        for i in range(n):
            value[i] = weights[i] * _logistic(y[i], dispersion, eta[i] - log_dispersion)[0]
    elif code == GAMMA_LOG:
        for i in range(n):
            value[i] = weights[i] * _gamma(y[i], eta[i], dispersion)[0]


@kernel
def add_pairwise(work: Array, count: int) -> float:
    """Return the sum of the first `count` numbers, added pairwise; `work` is overwritten."""
    while count > 1:
        half = count >> 1
        rest = count - half
        # the mask tells the compiler that no index is negative and counts from the end
        for i in range(half):
            work[i] += work[(rest + i) & 0x7FFFFFFFFFFFFFFF]
        count = rest
    return float(work[0])


@kernel(inner=True)
def add_compensated(total: float, lost: float, x: float) -> tuple[float, float]:
    """Return total + x and what rounding has lost so far (Neumaier 1974)."""
    new = total + x
    lost += (total - new) + x if abs(total) >= abs(x) else (x - new) + total
    return new, lost


@kernel
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
    """Return the log likelihood of all rows and fill in its two derivatives in eta.

    Parameters as in `row_derivatives`; `work` is scratch of `LANES` numbers. `trials` and `weights` may hold
    `LANES` numbers where they are the same for all rows.
    """
    n = len(y)
    own, weighted = 1 if len(trials) >= n else 0, 1 if len(weights) >= n else 0
    total, lost = 0.0, 0.0
    for a in range(0, n, LANES):
        m = min(LANES, n - a)
        row_derivatives(
            code, window(y, a, m), window(trials, a * own, m), window(weights, a * weighted, m), window(eta, a, m),
            dispersion, work, window(gradient, a, m), window(curvature, a, m),
        )  # fmt: skip
        total, lost = add_compensated(total, lost, add_pairwise(work, m))
    return total + lost if math.isfinite(total) else total


@kernel
def row_log_density(
    code: int, y: Array, trials: Array, weights: Array, eta: Array, dispersion: float, work: Array
) -> float:
    """Return the sum that `row_terms` returns, without the derivatives."""
    n = len(y)
    own, weighted = 1 if len(trials) >= n else 0, 1 if len(weights) >= n else 0
    total, lost = 0.0, 0.0
    for a in range(0, n, LANES):
        m = min(LANES, n - a)
        row_values(
            code, window(y, a, m), window(trials, a * own, m), window(weights, a * weighted, m), window(eta, a, m),
            dispersion, work,
        )  # fmt: skip
        total, lost = add_compensated(total, lost, add_pairwise(work, m))
    return total + lost if math.isfinite(total) else total


@kernel(contract=True)
def dispersion_terms(code: int, y: Array, weights: Array, dispersion: float) -> float:
    """Return the sum of the terms of the weighted log density that depend on the dispersion and not on eta."""
    total, log_dispersion = 0.0, math.log(dispersion)
    error = stirling_error(dispersion)
    step = 1 if len(weights) >= len(y) else 0
    if code == GAUSSIAN_IDENTITY or code == GAUSSIAN_LOG:
        for i in range(len(y)):  # a row of weight zero says nothing of sigma either
            total -= log_dispersion if weights[i * step] > 0.0 else 0.0
    elif code == NEGATIVE_BINOMIAL_LOG:
        for i in range(len(y)):
            total += weights[i * step] * (log_rising(y[i], dispersion, error) + y[i] * log_dispersion)
    elif code == GAMMA_LOG:
        for i in range(len(y)):
            total += weights[i * step] * (0.5 * log_dispersion - error)
    return total


@kernel(contract=True, entry=True)
def row_dispersion(code: int, y: Array, trials: Array, weights: Array, eta: Array, dispersion: float) -> float:
    """Return the sum of all terms of the weighted log density that depend on eta or on the dispersion.

    Differences of it over the dispersion are those of the log likelihood. Parameters as in `row_terms`.
    """
    total = row_log_density(code, y, trials, weights, eta, dispersion, np.empty(LANES))
    return total + dispersion_terms(code, y, weights, dispersion)


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
