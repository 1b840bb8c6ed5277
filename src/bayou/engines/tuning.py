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
