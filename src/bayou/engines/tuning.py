"""When and how proposals are fitted to the draws of the warm-up."""

from __future__ import annotations

import numpy as np

from bayou._types import Array


def next_boundary(scan: int) -> int:
    """Return the next of the scans 100, 300, 700, 1500, …: each stretch is twice the one before."""
    edge = 100
    while edge <= scan:
        edge = 2 * edge + 100
    return edge


def refit(draws: Array, centre: Array, spread: Array) -> tuple[Array, Array]:
    """Centre and spread of the proposal from warm-up draws (n, d), shrunk to ``spread`` when few.

    Very few draws leave both as they are.
    """
    n, d = draws.shape
    if n < 10 * d:
        return centre, spread
    covariance = np.atleast_2d(np.cov(draws.T))
    keep = n / (n + 20.0 * d)
    before = spread @ spread.T
    # the last term keeps a direction that the draws did not move in; it is in the coordinates' own units
    mixed = keep * covariance + (1.0 - keep) * before + 1e-10 * np.diag(np.diag(before))
    return draws.mean(axis=0), np.linalg.cholesky(mixed)


def looks_normal(draws: Array) -> bool:
    """Whether no coordinate of the draws (n, d) has heavy tails or leans to one side."""
    n = len(draws)
    if n < 50:
        return False
    z = (draws - draws.mean(axis=0)) / draws.std(axis=0)
    noise = np.sqrt(24.0 / n)  # standard error of the kurtosis of independent normal draws
    return bool((np.abs((z**3).mean(axis=0)) < 0.5 + noise).all() and ((z**4).mean(axis=0) - 3.0 < 0.5 + noise).all())
