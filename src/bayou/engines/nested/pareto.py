"""Pareto-smoothed importance weights and the shape of their tail."""

from __future__ import annotations

import numpy as np

from bayou._types import Array

__all__ = ["generalised_pareto", "smoothed"]


def generalised_pareto(x: Array) -> tuple[float, float]:
    """Return shape k and scale of a generalised Pareto distribution fitted to exceedances (n,), increasing.

    The quasi-Bayesian estimate of Zhang & Stephens (2009, Technometrics 51), with the weak pull of k towards one half
    of Vehtari, Simpson, Gelman, Yao & Gabry (2024, JMLR 25), worth ten observations.
    """
    n = len(x)
    m = 30 + int(np.sqrt(n))
    quarter = x[int(0.25 * n + 0.5) - 1]
    theta = 1.0 / x[-1] + (1.0 - np.sqrt(m / (np.arange(1, m + 1) - 0.5))) / (3.0 * quarter)
    k = np.log1p(-theta[:, None] * x).mean(axis=1)
    profile = n * (np.log(-theta / k) - k - 1.0)
    weight = np.exp(profile - profile.max())
    chosen = float(theta @ weight / weight.sum())
    shape = float(np.log1p(-chosen * x).mean())
    scale = -shape / chosen
    return (n * shape + 5.0) / (n + 10.0), scale


def smoothed(log_weights: Array) -> tuple[Array, float]:
    """Return normalised importance weights (M,) with a smoothed tail, and k-hat; infinite where there are too few.

    The largest 3 √M weights (at most a fifth of all) become the expected order statistics of the generalised Pareto
    distribution fitted to them, cut off at the largest raw weight.
    """
    M = len(log_weights)
    top = float(log_weights.max())
    if not np.isfinite(top):
        return np.full(M, np.nan), np.inf
    raw = np.exp(log_weights - top)
    tail = int(min(0.2 * M, 3.0 * np.sqrt(M)))
    order = np.argsort(log_weights, kind="stable")
    if tail < 5:
        return raw / raw.sum(), np.inf
    last = order[-tail:]
    threshold = raw[order[-tail - 1]]
    excess = raw[last] - threshold
    if not excess[0] > 0.0 or excess[-1] < 1e-10 * max(threshold, 1e-300):
        # equal weights, or ties at the threshold: nothing to smooth
        varied = excess[excess > 1e-12]
        k = generalised_pareto(varied)[0] if len(varied) >= 5 and excess[-1] > 1e-8 else -np.inf
        return raw / raw.sum(), k
    k, scale = generalised_pareto(excess)
    if np.isfinite(k) and np.isfinite(scale):
        chance = (np.arange(1, tail + 1) - 0.5) / tail
        quantile = -np.log1p(-chance) if abs(k) < 1e-12 else np.expm1(-k * np.log1p(-chance)) / k
        raw[last] = np.minimum(threshold + scale * quantile, 1.0)
    return raw / raw.sum(), float(k)
