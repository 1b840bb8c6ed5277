"""The log likelihood of all rows and its slopes by coefficients, fixed effects and dispersions, in one pass.

Rows go through in runs of `LANES`, so that eta and its slope stay near. A column of fixed effects that within each
level of a factor is a multiple of a column that varies by the factor is lifted: its product with the coefficient is
added to the factor's coefficients, level by level, and no row needs it (hierarchical centring as a way of computing).
"""

from __future__ import annotations

import math

from bayou._types import Array
from bayou.families.calling import outside_rows
from bayou.families.codes import GAMMA_LOG, GAUSSIAN_IDENTITY, GAUSSIAN_LOG, NEGATIVE_BINOMIAL_LOG
from bayou.families.rows import LANES, dispersion_terms, row_terms
from bayou.families.slopes import dispersion_slopes
from bayou.jit import kernel, window
from bayou.joint.tables import Rows, Work

__all__ = ["likelihood"]

POSITIVE = 0x7FFFFFFFFFFFFFFF  # the mask tells the compiler that no index is negative


@kernel(inner=True)
def _lift(rows: Rows, printed: Array, seen: Array) -> None:
    """Seen += what fixed effects do to whole levels."""
    for h in range(rows.lifted.shape[0]):
        beta, at, step = printed[rows.lifted[h, 0]], rows.lifted[h, 1], rows.lifted[h, 2]
        values = window(rows.lift, rows.lifted[h, 4], rows.lifted[h, 3])
        for j in range(rows.lifted[h, 3]):
            seen[(at + j * step) & POSITIVE] += beta * values[j]


@kernel(inner=True)
def _lower(rows: Rows, slope: Array, printed_slope: Array) -> None:
    for h in range(rows.lifted.shape[0]):
        at, step, total = rows.lifted[h, 1], rows.lifted[h, 2], 0.0
        values = window(rows.lift, rows.lifted[h, 4], rows.lifted[h, 3])
        for j in range(rows.lifted[h, 3]):
            total += slope[(at + j * step) & POSITIVE] * values[j]
        printed_slope[rows.lifted[h, 0]] += total


@kernel(inner=True, contract=True)
def _predict(rows: Rows, work: Work, a: int, m: int) -> None:
    """Fill eta of rows a … a + m."""
    n, eta, offset = rows.y.shape[0], work.eta, window(rows.offset, a, m)
    for i in range(m):
        eta[i] = offset[i]
    for s in range(rows.seen.shape[0]):
        index = window(rows.seen, s * n + a, m)
        if rows.value_at[s] < 0:
            for i in range(m):
                eta[i] += work.seen[index[i] & POSITIVE]
        else:
            value = window(rows.value, rows.value_at[s] * n + a, m)
            for i in range(m):
                eta[i] += value[i] * work.seen[index[i] & POSITIVE]
    for k in range(rows.X.shape[0]):
        beta, x = work.printed[rows.column[k]], window(rows.X, k * n + a, m)
        for i in range(m):
            eta[i] += beta * x[i]


@kernel(inner=True, contract=True)
def _gather(rows: Rows, work: Work, a: int, m: int) -> None:
    """Add the slopes of rows a … a + m to those of what they saw."""
    n, gradient = rows.y.shape[0], work.gradient
    for s in range(rows.seen.shape[0]):
        index = window(rows.seen, s * n + a, m)
        if rows.value_at[s] < 0:
            for i in range(m):
                work.u_slope[index[i] & POSITIVE] += gradient[i]
        else:
            value = window(rows.value, rows.value_at[s] * n + a, m)
            for i in range(m):
                work.u_slope[index[i] & POSITIVE] += value[i] * gradient[i]
    for k in range(rows.X.shape[0]):
        x = window(rows.X, k * n + a, m)
        s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
        even = m - m % 4
        for i in range(0, even, 4):
            s0 += x[i] * gradient[i]
            s1 += x[i + 1] * gradient[i + 1]
            s2 += x[i + 2] * gradient[i + 2]
            s3 += x[i + 3] * gradient[i + 3]
        for i in range(even, m):
            s0 += x[i] * gradient[i]
        work.printed_slope[rows.column[k]] += (s0 + s1) + (s2 + s3)


@kernel(inner=True)
def likelihood(rows: Rows, work: Work) -> float:
    """Return the log likelihood at u and the printed fixed effects, up to a constant; fills their slopes.

    That by theta is added to the slopes of the logarithms of the dispersions, the last of theta.
    """
    code, known = rows.code, rows.levels == 0
    gaussian = code == GAUSSIAN_IDENTITY or code == GAUSSIAN_LOG
    for j in range(work.u.shape[0]):
        work.seen[j] = work.u[j]
        work.u_slope[j] = 0.0
    for k in range(work.printed.shape[0]):
        work.printed_slope[k] = 0.0
    _lift(rows, work.printed, work.seen)
    total = 0.0
    for level in range(rows.level.shape[0] - 1):
        at = work.theta.shape[0] - rows.levels + level
        dispersion = 1.0 if known else math.exp(work.theta[at])
        sum_of_rows, by_dispersion = 0.0, 0.0
        for a in range(rows.level[level], rows.level[level + 1], LANES):
            m = min(LANES, rows.level[level + 1] - a)
            _predict(rows, work, a, m)
            y, weights, eta = window(rows.y, a, m), window(rows.weights, a, m), window(work.eta, 0, m)
            gradient, curvature = window(work.gradient, 0, m), window(work.curvature, 0, m)
            slopes = window(work.slopes, 0, m)
            if rows.outside != 0:
                sum_of_rows += outside_rows(rows.outside, y, weights, eta, dispersion, curvature, gradient, slopes)
                for i in range(m):
                    by_dispersion += slopes[i]
            else:
                sum_of_rows += row_terms(
                    code, y, window(rows.trials, a, m), weights, eta, dispersion, gradient, curvature, work.lanes
                )
            _gather(rows, work, a, m)
            if not known and not gaussian and rows.outside == 0:
                dispersion_slopes(
                    code, y, weights, eta, dispersion, slopes, window(work.slopes, LANES, m),
                    window(work.slopes, 2 * LANES, m),
                )  # fmt: skip
                for i in range(m):
                    by_dispersion += slopes[i]
        if gaussian:
            sum_of_rows -= 0.5 * rows.squares[level] / (dispersion * dispersion)
        total += sum_of_rows
        if known:
            continue
        if gaussian:
            total -= rows.counted[level] * work.theta[at]
            by_dispersion = -2.0 * sum_of_rows - rows.counted[level]
        elif code == NEGATIVE_BINOMIAL_LOG or code == GAMMA_LOG:
            first = rows.distinct_at[level]
            count = rows.distinct_at[level + 1] - first
            total += dispersion_terms(
                code, window(rows.distinct, first, count), window(rows.distinct_weight, first, count), dispersion
            )
        work.slope[at] += by_dispersion
    _lower(rows, work.u_slope, work.printed_slope)
    return total
