"""Directions along which a likelihood does not fall to zero (separation), by linear programming.

A row *may fall* when its likelihood keeps a positive limit as eta → −∞ (no success, a count of zero)
and *may rise* when it does so as eta → +∞ (no failure). A direction d ≠ 0 of the coefficients along
which every row stands still or moves the way it may is a direction of recession: under a flat prior
the posterior mass along it is infinite.

References
----------
Albert and Anderson (1984), Biometrika 71, 1-10; Speckman, Lee and Sun (2009), IMS Collections 6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bayou._types import Array

if TYPE_CHECKING:
    from bayou.design import Design, Grouping
    from bayou.families import Family

FIRST_ROWS = 2000
LEAST_MOVE = 1e-5
"""A direction inside the unit box counts when it moves something by more than this; the solver's own
constraints hold to 1e-7."""


def rows_that_stay(design: Design) -> tuple[Any, Any]:
    """Return which rows may fall and which may rise, as booleans (n,)."""
    family, y = design.family, design.y
    never = np.zeros(len(y), dtype=bool)
    if family.name in ("bernoulli", "binomial"):
        return y == 0.0, y == design.trials
    if family.name in ("poisson", "negative_binomial"):
        return y == 0.0, never
    if family.name == "gaussian":
        return (never if family.link.name == "identity" else ~never), never
    if family.name == "gamma":
        return never, never
    return tails(family, y, design.trials)


def tails(family: Family, y: Array, trials: Array) -> tuple[Any, Any]:
    """Return which rows may fall and rise by looking far out, for a family without a rule, as booleans (n,).

    A row stays where its log density at eta = ±1e5 has not fallen by .01 from that at ±1e4.
    """
    dispersion = None if family.dispersion is None else 1.0
    near, far = (
        [np.asarray(family.log_density(y, side * eta, dispersion, trials)) for side in (-1.0, 1.0)]
        for eta in (1e4, 1e5)
    )
    falls, rises = (np.isfinite(b) & (b > a - 0.01) for a, b in zip(near, far, strict=True))
    return falls, rises


def _null_space(matrix: Array) -> Array:
    """Return an orthonormal basis of {d: matrix d = 0}, columns being in comparable units."""
    count = matrix.shape[1]
    if len(matrix) == 0:
        return np.eye(count)
    R = np.linalg.qr(matrix, mode="r") if len(matrix) > count else matrix
    _, values, rows = np.linalg.svd(R, full_matrices=True)
    rank = int(np.sum(values > 1e-10 * max(float(values[0]), 1e-300)))
    return np.asarray(rows[rank:].T)


def recession(X: Array, falls: Any, rises: Any, target: int | None = None) -> Array | None:
    """Return a direction d along which the likelihood does not fall to zero, or None.

    Parameters
    ----------
    X
        Columns of the flat coefficients (n, k).
    falls, rises
        Which rows may fall and rise (n,).
    target
        Only look for directions that move this coefficient.
    """
    scale = np.abs(X).max(axis=0, initial=0.0)
    scale[scale == 0.0] = 1.0
    X = X / scale
    still = ~(falls | rises)
    basis = _null_space(X[still])
    if basis.shape[1] == 0:
        return None
    moving = ~still
    A = (np.where(rises[moving], 1.0, -1.0)[:, None] * X[moving]) @ basis
    d = _improving_direction(A, None if target is None else basis[target])
    return None if d is None else basis @ d / scale


def _improving_direction(A: Array, coefficient: Array | None) -> Array | None:
    """Return d with A d ≥ 0 that moves something: some row of A, or the given combination of d.

    Constraints enter as they are violated, so that a million rows cost a few small programs.
    """
    from scipy.optimize import linprog

    count = A.shape[1]
    active = np.unique(np.linspace(0, max(len(A) - 1, 0), min(FIRST_ROWS, len(A))).astype(int))
    while True:
        rows = A[active]
        goals = [-rows.sum(axis=0)] if coefficient is None else [-coefficient, coefficient]
        best, most = None, LEAST_MOVE
        for goal in goals:
            size = float(np.abs(goal).max(initial=0.0)) or 1.0
            found = linprog(
                goal / size,
                A_ub=-rows if len(rows) else None,
                b_ub=np.zeros(len(rows)) if len(rows) else None,
                bounds=[(-1.0, 1.0)] * count,
                method="highs",
            )
            if found.status != 0:
                continue
            moved = rows @ found.x if coefficient is None else np.abs(coefficient @ found.x)
            if float(np.max(moved, initial=0.0)) > most:
                best, most = np.asarray(found.x), float(np.max(moved))
        if best is None:
            if coefficient is not None or len(active) == len(A) or _null_space(rows).shape[1] == 0:
                return None
            active = np.arange(len(A))
            continue
        broken = A @ best
        worst = np.argsort(broken)[:500]
        worst = worst[broken[worst] < -1e-6]
        worst = np.setdiff1d(worst, active)
        if len(worst) == 0:
            return best
        active = np.union1d(active, worst)


def informative_levels(design: Design, grouping: Grouping, columns: list[int], column: int, stop: int) -> int:
    """Count levels that inform one group coefficient on their own, up to ``stop``.

    A Gaussian level informs it when the coefficient can be estimated from the level's rows among
    ``columns`` (those with an improper sd); other families need that no direction of recession
    moves it: both successes and failures, a positive count.
    """
    used = (design.weights > 0.0) & (design.trials > 0.0)
    falls, rises = rows_that_stay(design)
    order = np.flatnonzero(used)[np.argsort(grouping.codes[used], kind="stable")]
    bounds = np.searchsorted(grouping.codes[order], np.arange(len(grouping.levels) + 1))
    target = columns.index(column)
    Z = grouping.Z[:, columns]
    found = 0
    for start, end in zip(bounds[:-1], bounds[1:], strict=True):
        rows = order[start:end]
        if len(rows) == 0 or not np.any(Z[rows, target]):
            continue
        free = falls[rows] | rises[rows]
        # Rows that must stand still often pin the coefficient down without a linear program.
        basis = _null_space(_unit(Z[rows][~free]))
        if np.any(np.abs(basis[target]) > 1e-9) and (
            not free.any() or recession(Z[rows], falls[rows], rises[rows], target) is not None
        ):
            continue
        found += 1
        if found >= stop:
            break
    return found


def moved_rows(X: Array, falls: Any, rises: Any) -> Any:
    """Return which rows some direction of recession moves, (n,): those that it may move all at once.

    The directions of recession are a cone; the rows that none of them moves span what the data hold fast, so that
    the likelihood integrated over all coefficients growing like t falls as t to minus their rank.

    Parameters
    ----------
    X
        Columns (n, k).
    falls, rises
        Which rows may fall and rise (n,).
    """
    from scipy import sparse
    from scipy.optimize import linprog

    moved = np.zeros(len(X), dtype=bool)
    unit = _unit(X)
    free = np.flatnonzero(falls | rises)
    basis = _null_space(unit[~(falls | rises)])
    if len(free) == 0 or basis.shape[1] == 0:
        return moved
    both = (falls & rises)[free]
    A = (np.where(rises[free], 1.0, -1.0)[:, None] * unit[free]) @ basis
    moved[free[both]] = np.any(np.abs(A[both]) > LEAST_MOVE, axis=1)
    A, free = A[~both], free[~both]
    n, k = A.shape
    if n == 0:
        return moved
    # Each row gets a share in [0, 1] of its own move; a cone lets all that can have some have the whole.
    found = linprog(
        np.append(np.zeros(k), -np.ones(n)),
        A_ub=sparse.hstack([sparse.csr_array(-A), sparse.eye_array(n)]),
        b_ub=np.zeros(n),
        bounds=[(-1e4, 1e4)] * k + [(0.0, 1.0)] * n,
        method="highs",
    )
    if found.status == 0:
        moved[free] = found.x[k:] > 1e-3
    return moved


def _unit(matrix: Array) -> Array:
    scale = np.abs(matrix).max(axis=0, initial=0.0)
    scale[scale == 0.0] = 1.0
    return np.asarray(matrix / scale)
