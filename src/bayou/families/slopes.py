"""Kernels over the rows for derivatives of a Laplace approximation: how curvatures change with eta and dispersion.

The approximation holds log|H|, H a sum of row curvatures w = −d²l/deta². Its gradient needs dw/deta (minus the third
derivative of the log density) and, for a dispersion phi, dl, dl' and dw over log phi.
"""

from __future__ import annotations

import math

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
from bayou.families.elementary import log_hazard, log_normal_cdf
from bayou.jit import kernel

__all__ = ["digamma", "dispersion_slopes", "row_slopes"]


@kernel
def digamma(x: float) -> float:
    """Return psi(x) for x > 0: recurrence up to 10, then the asymptotic series (Abramowitz & Stegun 6.3.18)."""
    shift = 0.0
    while x < 10.0:
        shift -= 1.0 / x
        x += 1.0
    r = 1.0 / (x * x)
    series = r * (1 / 12 - r * (1 / 120 - r * (1 / 252 - r * (1 / 240 - r * (1 / 132 - r * (691 / 32760 - r / 12))))))
    return shift + math.log(x) - 0.5 / x - series


@kernel(inner=True)
def _rise(y: float, phi: float) -> float:
    """psi(phi + y) − psi(phi), without cancellation for the small counts that are most of them."""
    if y <= 32.0:
        total = 0.0
        for k in range(int(y)):
            total += 1.0 / (phi + k)
        return total
    return digamma(phi + y) - digamma(phi)


@kernel(inner=True)
def _logistic_slope(total: float, eta: float) -> float:
    """Return the derivative of total p (1 − p) in eta: total p q (q − p)."""
    t = math.exp(-abs(eta))
    larger = 1.0 / (1.0 + t)
    smaller = t * larger
    slope = total * larger * smaller * (larger - smaller)
    return -slope if eta > 0.0 else slope


@kernel(inner=True)
def _probit_slope(eta: float) -> float:
    """Return the derivative of the curvature c of log Phi(eta): with g its gradient, g' = −c and c = g (eta + g)."""
    _, g, c = log_normal_cdf(eta)
    return -c * (eta + g) + g * (1.0 - c)


@kernel(inner=True)
def _hazard_slope(eta: float) -> float:
    """Return the derivative of the curvature c of log(1 − exp(−mu)), mu = exp(eta): g' = −c and c = g (mu + g − 1)."""
    _, g, c = log_hazard(eta)
    mu = math.exp(min(eta, 700.0))
    if g == 0.0:
        return 0.0
    return -c * (mu + g - 1.0) + g * (mu - c)


@kernel
def row_slopes(code: int, y: Array, trials: Array, weights: Array, eta: Array, dispersion: float, slope: Array) -> None:
    """Fill in d w_i / d eta_i, w the curvature that `bayou.families.rows.row_derivatives` gives; all of shape (n,)."""
    n = len(y)
    precision = 1.0 / (dispersion * dispersion)
    for i in range(n):
        t = 0.0
        if code == GAUSSIAN_LOG:
            mu = math.exp(eta[i])
            t = precision * mu * (4.0 * mu - y[i])
        elif code == BINOMIAL_LOGIT:
            t = _logistic_slope(trials[i], eta[i])
        elif code == BINOMIAL_PROBIT:
            if y[i] > 0.0:
                t += y[i] * _probit_slope(eta[i])
            if trials[i] > y[i]:
                t -= (trials[i] - y[i]) * _probit_slope(-eta[i])
        elif code == BINOMIAL_CLOGLOG:
            if y[i] > 0.0:
                t += y[i] * _hazard_slope(eta[i])
            if trials[i] > y[i]:
                t += (trials[i] - y[i]) * math.exp(eta[i])
        elif code == POISSON_LOG:
            t = math.exp(eta[i])
        elif code == NEGATIVE_BINOMIAL_LOG:
            t = _logistic_slope(y[i] + dispersion, eta[i] - math.log(dispersion))
        elif code == GAMMA_LOG:
            t = -dispersion * math.exp(math.log(y[i]) - eta[i])
        slope[i] = weights[i] * t


@kernel
def dispersion_slopes(
    code: int,
    y: Array,
    weights: Array,
    eta: Array,
    dispersion: float,
    value: Array,
    gradient: Array,
    curvature: Array,
) -> None:
    """Fill in d/d log(dispersion) of each row's whole log density, of its gradient and of its curvature in eta.

    For families with a dispersion: sigma, phi (negative binomial) or shape (gamma). Shapes (n,).
    """
    n = len(y)
    precision = 1.0 / (dispersion * dispersion)
    if code == NEGATIVE_BINOMIAL_LOG:
        log_phi = math.log(dispersion)
        for i in range(n):
            odds = eta[i] - log_phi
            t = math.exp(-abs(odds))
            larger = 1.0 / (1.0 + t)
            s, f = (larger, t * larger) if odds >= 0.0 else (t * larger, larger)
            phi = dispersion
            log_f = -math.log1p(t) - (odds if odds > 0.0 else 0.0)
            value[i] = weights[i] * phi * (_rise(y[i], phi) + log_f + 1.0 - (phi + y[i]) * f / phi)
            gradient[i] = weights[i] * s * f * (y[i] + phi - phi / f)
            curvature[i] = weights[i] * s * f * (phi - (y[i] + phi) * (f - s))
    elif code == GAMMA_LOG:
        constant = math.log(dispersion) + 1.0 - digamma(dispersion)
        for i in range(n):
            d = math.log(y[i]) - eta[i]
            ratio = math.exp(d)
            value[i] = weights[i] * dispersion * (constant + d - ratio)
            gradient[i] = weights[i] * dispersion * (ratio - 1.0)
            curvature[i] = weights[i] * dispersion * ratio
    elif code == GAUSSIAN_IDENTITY or code == GAUSSIAN_LOG:
        for i in range(n):
            mu = math.exp(eta[i]) if code == GAUSSIAN_LOG else eta[i]
            d = mu if code == GAUSSIAN_LOG else 1.0
            bend = mu if code == GAUSSIAN_LOG else 0.0
            r = y[i] - mu
            w = weights[i] * precision
            value[i] = w * r * r - (1.0 if weights[i] > 0.0 else 0.0)
            gradient[i] = -2.0 * w * r * d
            curvature[i] = -2.0 * w * (d * d - r * bend)
    else:
        for i in range(n):
            value[i], gradient[i], curvature[i] = 0.0, 0.0, 0.0
