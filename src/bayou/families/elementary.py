"""Elementary functions as plain arithmetic, for loops that the compiler turns into vector instructions.

A call of the C library stops a loop from being vectorised; a polynomial does not. The polynomials are
Chebyshev fits of ours in 60-digit arithmetic, each with an error below 2e-16. Reduction of the argument:
exp(x) = 2**k exp(r) with |r| <= log(2)/2, and log(1 + f) is odd in f / (2 + f).
"""

from __future__ import annotations

import math

import numpy as np

from bayou.jit import kernel

__all__ = [
    "exp",
    "exp_parts",
    "log",
    "log1p_unit",
    "log_hazard",
    "log_normal_cdf",
    "log_rising",
    "stirling_error",
]

LOG_TWO = math.log(2.0)
PER_LOG_TWO = 1.0 / LOG_TWO
LOG_SQRT_TWO_PI = 0.5 * math.log(2.0 * math.pi)
LOG_TWO_HIGH = 0.693147180369123816490  # log 2 = high + low, the high part with trailing zeros
LOG_TWO_LOW = 1.90821492927058770002e-10
ROUNDER = 6755399441055744.0  # 1.5 * 2**52: adding it leaves the rounded number in the lowest bits


@kernel(inline=True, contract=True)
def exp_parts(x: float) -> tuple[float, float]:
    """Return exp(x) and exp(x) - 1 - x; a polynomial on |r| < log(2)/2, relative error below 3e-16."""
    # beyond these ends exp rounds to 0 and inf, as it does at them; min() and max() would swallow a NaN
    inside = -746.0 if x < -746.0 else (710.0 if x > 710.0 else x)
    k = (inside * PER_LOG_TWO + ROUNDER) - ROUNDER
    r = (inside - k * LOG_TWO_HIGH) - k * LOG_TWO_LOW
    p = 2.510038549551032e-08
    p = p * r + 2.7620088445409746e-07
    p = p * r + 2.7557268459997064e-06
    p = p * r + 2.4801521295954376e-05
    p = p * r + 0.00019841269863053618
    p = p * r + 0.0013888888917213717
    p = p * r + 0.008333333333330062
    p = p * r + 0.04166666666662413
    p = p * r + 0.16666666666666669
    p = p * r + 0.5
    # 2**k as two factors, so that neither leaves the range of a double where exp(x) does not
    half = np.floor(0.5 * k)
    first = np.int64(np.float64(half + (ROUNDER + 1023.0)).view(np.int64) << 52).view(np.float64)
    second = np.int64(np.float64((k - half) + (ROUNDER + 1023.0)).view(np.int64) << 52).view(np.float64)
    excess = r * r * p
    value = (1.0 + (r + excess)) * first * second
    return value, (excess if k == 0.0 else value - 1.0 - x)


@kernel(inline=True, contract=True)
def exp(x: float) -> float:
    """Return exp(x)."""
    return exp_parts(x)[0]


@kernel(inline=True, contract=True)
def _log_near_one(f: float) -> float:
    """Return log(1 + f) for sqrt(1/2) <= 1 + f <= sqrt(2): an odd polynomial in f / (2 + f)."""
    s = f / (2.0 + f)
    z = s * s
    p = 0.14616585424888623
    p = p * z + 0.15331710618210773
    p = p * z + 0.18182889455674947
    p = p * z + 0.22222211130259878
    p = p * z + 0.2857142862600327
    p = p * z + 0.39999999999899444
    p = p * z + 0.666666666666667
    return f - s * (f - z * p)


@kernel(inline=True, contract=True)
def log1p_unit(t: float) -> float:
    """Return log(1 + t) for 0 <= t <= 1."""
    upper = t > 0.41421356237309503
    return _log_near_one(0.5 * (t - 1.0) if upper else t) + (LOG_TWO if upper else 0.0)


@kernel(inline=True, contract=True)
def log(x: float) -> float:
    """Return log(x) for 0 < x < inf."""
    tiny = x < 2.2250738585072014e-308
    bits = np.float64(x * 18014398509481984.0 if tiny else x).view(np.int64)
    # the exponent that brings the rest of the number into [sqrt(1/2), sqrt(2))
    k = (bits - 0x3FE6A09E667F3BCD) >> 52
    rest = np.int64(bits - (k << 52)).view(np.float64)
    exponent = float(k) - (54.0 if tiny else 0.0)
    return exponent * LOG_TWO_HIGH + (_log_near_one(rest - 1.0) + exponent * LOG_TWO_LOW)


@kernel(inline=True, contract=True)
def log_normal_cdf(eta: float) -> tuple[float, float, float]:
    """Return the log of the normal distribution function, its slope m and m (m + eta)."""
    x = -eta
    if x > 6.0:  # Laplace's continued fraction of m - x, where m is the inverse Mills ratio
        fraction = x
        for k in range(28, 1, -1):
            fraction = x + k / fraction
        ratio = x + 1.0 / fraction
        return -0.5 * x * x - LOG_SQRT_TWO_PI - math.log(ratio), ratio, ratio / fraction
    tail = 0.5 * math.erfc(abs(x) * math.sqrt(0.5))
    density = math.exp(-0.5 * x * x - LOG_SQRT_TWO_PI)
    if x > 0.0:
        ratio = density / tail
        return math.log(tail), ratio, ratio * (ratio - x)
    ratio = density / (1.0 - tail)
    return math.log1p(-tail), ratio, ratio * (ratio - x)


@kernel(inline=True, contract=True)
def log_hazard(eta: float) -> tuple[float, float, float]:
    """Return log(1 - exp(-h)) at the hazard h = exp(eta), its slope g and g (h / (1 - exp(-h)) - 1)."""
    hazard = min(exp(eta), 800.0)  # exp(-800) is zero
    if hazard < 0.4:  # by Bernoulli numbers: the differences below would lose digits
        square = hazard * hazard
        series = -1.0 / 1209600.0 + square * (1.0 / 47900160.0 - square * (691.0 / 1307674368000.0))
        series = 1.0 / 12.0 - square * (1.0 / 720.0 - square * (1.0 / 30240.0 + square * series))
        excess = 0.5 * hazard + square * series
        slope = 1.0 + (excess - hazard)
        return eta - math.log1p(excess), slope, slope * excess
    survived = math.exp(-hazard)
    died = -math.expm1(-hazard)
    slope = hazard * survived / died
    return math.log1p(-survived), slope, slope * (hazard - died) / died


@kernel(inline=True, contract=True)
def stirling_error(x: float) -> float:
    """Return log Gamma(x + 1) minus Stirling's (x + 1/2) log x - x + log(2 pi)/2."""
    if x < 16.0:
        return math.lgamma(x + 1.0) - (x + 0.5) * math.log(x) + x - LOG_SQRT_TWO_PI
    s = 1.0 / (x * x)
    return (1.0 / 12.0 - s * (1.0 / 360.0 - s * (1.0 / 1260.0 - s * (1.0 / 1680.0 - s / 1188.0)))) / x


@kernel(inline=True, contract=True)
def log_rising(y: float, phi: float, error: float) -> float:
    """Return log Gamma(phi + y) - log Gamma(phi) - y log(phi), with no difference of large numbers.

    `error` is Stirling's error of phi. For phi much larger than y the answer is about y (y - 1)/(2 phi).
    """
    if y < 16.0 and phi > 1e-9:
        product = 1.0
        for k in range(1, int(y)):
            product *= 1.0 + k / phi
        return math.log(product)
    x = phi + y
    return (x - 0.5) * math.log1p(y / phi) - y + (stirling_error(x) - error)
