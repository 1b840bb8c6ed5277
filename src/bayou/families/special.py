"""Functions for the log densities of users' own families, of real and of complex numbers alike."""

from __future__ import annotations

import numpy as np

from bayou.jit import kernel

__all__ = ["log_gamma"]


@kernel
def log_gamma(x: float) -> float:
    """Return log Gamma(x) for x > 0, or near the positive real line: recurrence up to 12, then Stirling's series.

    Numba has `math.lgamma` of real numbers only; a derivative by complex step needs it off the line.

    References
    ----------
    Abramowitz & Stegun (1964), 6.1.40.

    Examples
    --------
    >>> from bayou.families import log_gamma
    >>> round(log_gamma(5.0), 12), round(log_gamma(0.5), 12)
    (3.178053830348, 0.572364942925)
    """
    shift = 0.0 * x
    while x.real < 12.0:
        shift -= np.log(x)
        x = x + 1.0
    r = 1.0 / (x * x)
    series = 1 / 12 - r * (1 / 360 - r * (1 / 1260 - r * (1 / 1680 - r * (1 / 1188 - r * (691 / 360360 - r / 156)))))
    value: float = shift + (x - 0.5) * np.log(x) - x + 0.9189385332046727418 + series / x
    return value
