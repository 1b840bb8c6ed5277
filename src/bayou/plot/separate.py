"""The fit of one group from its own rows alone: maximum likelihood, least squares for a normal response."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayou._types import Array
from bayou.families import Family

__all__ = ["separate_fit"]

STEPS, ENOUGH = 50, 1e-9


def separate_fit(
    family: Family, A: Array, y: Array, offset: Array, trials: Array, weights: Array, grid: Array
) -> Array | None:
    """Return the linear predictor along a grid, fitted to the rows of one group and nothing else.

    Parameters
    ----------
    family
        Its dispersion is held at 1, which changes the estimate in the negative binomial family only.
    A
        Columns of the group's rows, (n, k); they may depend on each other.
    y, offset, trials, weights
        Of those rows, (n,).
    grid
        The same columns along the grid, (points, k).

    Returns
    -------
    numpy.ndarray or None
        Shape (points,), without offset. None where the rows do not determine the line, or where the
        likelihood has no maximum (all successes, all zeros).
    """
    size = np.abs(A).max(axis=0)
    size[size == 0.0] = 1.0
    _, values, rows = np.linalg.svd(A / size, full_matrices=False)
    rank = int((values > 1e-10 * values[0]).sum()) if values.size and values[0] > 0.0 else 0
    basis = rows[:rank].T
    inside = (grid / size) @ basis
    if rank == 0 or np.abs(grid / size - inside @ basis.T).max() > 1e-6 * max(1.0, np.abs(grid / size).max()):
        return None
    Q, R = np.linalg.qr(A / size @ basis)
    along = np.linalg.solve(R.T, inside.T).T
    if family.name == "gaussian" and family.link.name == "identity":
        root = np.sqrt(weights)
        solution = np.linalg.lstsq(Q * root[:, None], (y - offset) * root, rcond=None)[0]
        return np.asarray(along @ solution)
    found = _maximum(family, Q, y, offset, trials, weights)
    return None if found is None else np.asarray(along @ found)


def _maximum(family: Family, Q: Array, y: Array, offset: Array, trials: Array, weights: Array) -> Array | None:
    """Newton's method on the log likelihood, with halved steps where it falls."""
    dispersion = None if family.dispersion is None else 1.0
    options: dict[str, Any] = {"dispersion": dispersion, "trials": trials, "weights": weights}
    start = family.link((y + 0.5) / (trials + 1.0) if family.name in ("binomial", "bernoulli") else np.maximum(y, 0.1))
    solution = Q.T @ (start - offset)

    def height(at: Array) -> float:
        with np.errstate(all="ignore"):
            return float(np.sum(family.log_density(y, offset + Q @ at, **options)))

    now = height(solution)
    for _ in range(STEPS):
        eta = offset + Q @ solution
        if not np.isfinite(now) or np.abs(eta).max() > 30.0:
            return None
        gradient = Q.T @ family.gradient(y, eta, **options)
        curvature = np.maximum(family.curvature(y, eta, **options), 1e-8)
        step = np.linalg.lstsq(Q.T @ (Q * curvature[:, None]), gradient, rcond=None)[0]
        for _ in range(30):
            then = height(solution + step)
            if then >= now:
                break
            step = step / 2.0
        else:
            return solution
        solution, gain, now = solution + step, then - now, then
        if gain < ENOUGH * (1.0 + abs(now)) and np.abs(Q @ step).max() < 1e-4:
            return np.asarray(solution)
    return None
