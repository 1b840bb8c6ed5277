"""The scalar densities as one kernel, chosen by an integer code."""

from __future__ import annotations

import math

from bayou.jit import kernel
from bayou.priors import codes

# Kernels see module-level integers as compile-time constants.
_FLAT = codes.FLAT
_NORMAL = codes.NORMAL
_STUDENT_T = codes.STUDENT_T
_HALF_NORMAL = codes.HALF_NORMAL
_HALF_T = codes.HALF_T
_EXPONENTIAL = codes.EXPONENTIAL
_UNIFORM = codes.UNIFORM
_GAMMA_PRECISION = codes.GAMMA_PRECISION
_INVERSE_GAMMA_VARIANCE = codes.INVERSE_GAMMA_VARIANCE
_LOG_FLAT = codes.LOG_FLAT
_FLAT_VARIANCE = codes.FLAT_VARIANCE
_OF_VARIANCE = codes.OF_VARIANCE
_OF_PRECISION = codes.OF_PRECISION


@kernel
def prior_log_density(code: int, a: float, b: float, c: float, x: float) -> float:
    """Return the log density of a standard deviation or a coefficient, up to a constant.

    Parameters
    ----------
    code
        One of `bayou.priors.codes`.
    a, b, c
        The numbers of that density, in the order of the class's ``parameters``.
    x
        The coefficient, or the standard deviation s. Densities of scales are -inf for s <= 0;
        ``FLAT`` is 0 everywhere, since a coefficient may be flat too.

    Notes
    -----
    ``GAMMA_PRECISION`` and ``INVERSE_GAMMA_VARIANCE`` are both p(s) ∝ s^(-2a-1) exp(-b / s²).
    """
    jacobian = 0.0
    if code >= _OF_VARIANCE:
        if x <= 0.0:
            return -math.inf
        if code >= _OF_PRECISION:
            jacobian = -3.0 * math.log(x)
            x = 1.0 / (x * x)
            code -= _OF_PRECISION
        else:
            jacobian = math.log(x)
            x = x * x
            code -= _OF_VARIANCE
    if code == _FLAT:
        return jacobian
    if code == _NORMAL:
        z = (x - a) / b
        return jacobian - 0.5 * z * z
    if code == _STUDENT_T:
        z = (x - b) / c
        return jacobian - 0.5 * (a + 1.0) * math.log1p(z * z / a)
    if code == _UNIFORM:
        return jacobian if a <= x <= b else -math.inf
    if x <= 0.0:
        return -math.inf
    if code == _HALF_NORMAL:
        z = x / a
        return jacobian - 0.5 * z * z
    if code == _HALF_T:
        z = x / b
        return jacobian - 0.5 * (a + 1.0) * math.log1p(z * z / a)
    if code == _EXPONENTIAL:
        return jacobian - a * x
    if code == _GAMMA_PRECISION or code == _INVERSE_GAMMA_VARIANCE:
        return -(2.0 * a + 1.0) * math.log(x) - b / (x * x)
    if code == _LOG_FLAT:
        return -math.log(x)
    if code == _FLAT_VARIANCE:
        return math.log(x)
    return math.nan


__all__ = ["prior_log_density"]
