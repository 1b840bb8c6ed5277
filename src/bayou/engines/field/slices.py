"""Slice sampling of one number, by stepping out and shrinking.

Neal, "Slice sampling", Annals of Statistics 31 (2003), figures 3 and 5.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

STEPS, SHRINKS = 8, 60


def slice_step(
    log_density: Callable[[float], float], at: float, value: float, width: float, rng: np.random.Generator
) -> tuple[float, float]:
    """Return a new number and its log density.

    Parameters
    ----------
    log_density
        Minus infinity where it cannot be computed.
    at, value
        Where the chain is, and the log density there.
    width
        About the spread of the distribution.
    """
    level = value + math.log(max(rng.random(), 1e-300))
    low = at - width * rng.random()
    high = low + width
    before = int(STEPS * rng.random())
    after = STEPS - 1 - before
    while before > 0 and log_density(low) > level:
        low, before = low - width, before - 1
    while after > 0 and log_density(high) > level:
        high, after = high + width, after - 1
    for _ in range(SHRINKS):
        new = low + (high - low) * rng.random()
        found = log_density(new)
        if found > level:
            return new, found
        if new < at:
            low = new
        else:
            high = new
    return at, value
