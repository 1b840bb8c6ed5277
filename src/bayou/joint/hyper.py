"""Hyperparameters on the real line: where theta is at a position, its log prior there and the slope of that.

Most have an internal coordinate theta that runs over the whole line and is its own position. Of a quantity v that is
uniform between two numbers the position is t = logit of its share of the way: log p(t) = log share + log(1 − share),
whatever theta is made of v. Densities of shares and correlations are read from a table: cubics between knots, at
which the prior's own log density was asked.
"""

from __future__ import annotations

import math

from bayou._types import Array
from bayou.jit import kernel
from bayou.joint.tables import Hyper
from bayou.priors import codes
from bayou.priors.table import prior_log_density

__all__ = [
    "BETWEEN_ATANH",
    "BETWEEN_LOG",
    "BETWEEN_LOGIT",
    "KNOTS",
    "REACH",
    "SCALE",
    "STEP",
    "TABLE",
    "WITHIN",
    "log_expit",
    "place_hyper",
    "prior_slope",
]

WITHIN, SCALE, TABLE, BETWEEN_LOG, BETWEEN_LOGIT, BETWEEN_ATANH = range(6)
FARTHEST = 250.0  # |q| beyond which exponentials are no numbers to work with
REACH, KNOTS = 40.0, 2_000  # of a table to either side
STEP = REACH / KNOTS

_FLAT, _NORMAL, _STUDENT_T, _HALF_NORMAL = codes.FLAT, codes.NORMAL, codes.STUDENT_T, codes.HALF_NORMAL
_HALF_T, _EXPONENTIAL, _UNIFORM = codes.HALF_T, codes.EXPONENTIAL, codes.UNIFORM
_GAMMA_PRECISION, _INVERSE_GAMMA_VARIANCE = codes.GAMMA_PRECISION, codes.INVERSE_GAMMA_VARIANCE
_LOG_FLAT, _FLAT_VARIANCE = codes.LOG_FLAT, codes.FLAT_VARIANCE
_OF_VARIANCE, _OF_PRECISION = codes.OF_VARIANCE, codes.OF_PRECISION


@kernel
def prior_slope(code: int, a: float, b: float, c: float, x: float) -> float:
    """Return the derivative by x of `bayou.priors.table.prior_log_density`; x within the support."""
    if code >= _OF_PRECISION:
        return -3.0 / x - 2.0 / (x * x * x) * _slope(code - _OF_PRECISION, a, b, c, 1.0 / (x * x))
    if code >= _OF_VARIANCE:
        return 1.0 / x + 2.0 * x * _slope(code - _OF_VARIANCE, a, b, c, x * x)
    return _slope(code, a, b, c, x)


@kernel(inner=True)
def _slope(code: int, a: float, b: float, c: float, x: float) -> float:
    if code == _NORMAL:
        return -(x - a) / (b * b)
    if code == _STUDENT_T:
        z = (x - b) / c
        return -(a + 1.0) * z / ((a + z * z) * c)
    if code == _HALF_NORMAL:
        return -x / (a * a)
    if code == _HALF_T:
        z = x / b
        return -(a + 1.0) * z / ((a + z * z) * b)
    if code == _EXPONENTIAL:
        return -a
    if code == _GAMMA_PRECISION or code == _INVERSE_GAMMA_VARIANCE:
        return -(2.0 * a + 1.0) / x + 2.0 * b / (x * x * x)
    if code == _LOG_FLAT:
        return -1.0 / x
    if code == _FLAT_VARIANCE:
        return 1.0 / x
    return 0.0


@kernel(inner=True)
def log_expit(t: float) -> float:
    """Return log(1 / (1 + exp(−t)))."""
    return -math.log1p(math.exp(-t)) if t > 0.0 else t - math.log1p(math.exp(t))


@kernel(inner=True)
def _looked_up(tables: Array, first: int, mirrored: int, t: float) -> tuple[float, float]:
    """Return the value and the slope of a table at t; beyond its ends it goes on as a line."""
    sign, x = 1.0, t
    if mirrored:
        sign = 1.0 if t >= 0.0 else -1.0
        x = abs(t)
    low, count = (0.0, KNOTS) if mirrored else (-REACH, 2 * KNOTS)
    inside = min(max(x, low), REACH)
    k = min(int((inside - low) / STEP), count - 1)
    s = inside - (low + k * STEP)
    c0, c1, c2, c3 = tables[first + k, 0], tables[first + k, 1], tables[first + k, 2], tables[first + k, 3]
    slope = c1 + s * (2.0 * c2 + s * 3.0 * c3)
    return c0 + s * (c1 + s * (c2 + s * c3)) + slope * (x - inside), sign * slope


@kernel
def place_hyper(hyper: Hyper, raw: Array, theta: Array, rate: Array, slope: Array, direct: Array) -> float:
    """Fill theta, dtheta/draw and the slopes by theta and by raw of the log prior, which is returned."""
    total = 0.0
    for k in range(raw.shape[0]):
        t, kind, power = raw[k], hyper.kind[k], hyper.power[k]
        if not abs(t) < FARTHEST:
            return -math.inf
        theta[k], rate[k], slope[k], direct[k] = t, 1.0, 0.0, 0.0
        if kind == SCALE:
            code, s = hyper.code[k], math.exp(power * t)
            a, b, c = hyper.parameters[k, 0], hyper.parameters[k, 1], hyper.parameters[k, 2]
            total += prior_log_density(code, a, b, c, s) + power * t
            slope[k] = power * (s * prior_slope(code, a, b, c, s) + 1.0)
        elif kind == TABLE:
            value, slope[k] = _looked_up(hyper.tables, hyper.table[k], hyper.mirrored[k], t)
            total += value
        elif kind != WITHIN:
            log_share, log_rest = log_expit(t), log_expit(-t)
            share, rest = math.exp(log_share), math.exp(log_rest)
            total += log_share + log_rest
            direct[k] = rest - share
            low, width = hyper.low[k], hyper.high[k] - hyper.low[k]
            value, speed = low + width * share, width * share * rest
            if kind == BETWEEN_LOG:
                log_value = math.log(value) if low > 0.0 else math.log(width) + log_share
                theta[k] = power * log_value
                rate[k] = power * (speed / value if low > 0.0 else rest)
            elif kind == BETWEEN_LOGIT:
                other = (1.0 - hyper.high[k]) + width * rest
                theta[k] = math.log(value) - math.log(other)
                rate[k] = speed / (value * other)
            else:
                theta[k] = math.atanh(value)
                rate[k] = speed / ((1.0 - value) * (1.0 + value))
    return total
