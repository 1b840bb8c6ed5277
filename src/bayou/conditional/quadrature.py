"""Adaptive Gauss-Hermite quadrature for one grouping factor, with its exact gradient (`bayou.conditional.moving`).

The likelihood of level j is ∫ exp f(u) (2 pi)^{-p/2} du with f of `bayou.conditional.levels`. With û its mode,
H = L L' the curvature there, x_k and w_k a rule for N(0, I),

    log likelihood_j = f(û) − log|L| + log Σ_k w_k exp(x_k'x_k / 2 + f(u_k) − f(û)),    u_k = û + L'⁻¹ x_k

(Naylor and Smith 1982; Pinheiro and Bates 1995). One node is the Laplace approximation.
"""

from __future__ import annotations

import math

from bayou._types import Array
from bayou.conditional.levels import BLOCK_LEVELS, FactorRows, Levels, LevelWork, level_eta, level_mode
from bayou.conditional.moving import block_slopes
from bayou.families.codes import GAMMA_LOG, GAUSSIAN_IDENTITY, GAUSSIAN_LOG, NEGATIVE_BINOMIAL_LOG
from bayou.families.rows import row_derivatives, row_values
from bayou.jit import kernel, window
from bayou.linalg.small import fill, invert_lower

__all__ = ["quadrature"]


@kernel(inner=True)
def _clear(work: LevelWork, size: int, count: int) -> None:
    """Set the sums over the nodes to zero, for `size` rows and `count` levels."""
    p = work.c.shape[1]
    for i in range(size):
        work.mean_value[i], work.mean_gradient[i] = 0.0, 0.0
    for s in range(count):
        work.mass[s] = 0.0
        for a in range(p):
            work.mass_x[s, a], work.mass_c[s, a] = 0.0, 0.0
            for d in range(p):
                work.mass_xx[s, a, d], work.mass_cx[s, a, d] = 0.0, 0.0


@kernel(inner=True)
def _add_node(
    rows: FactorRows, first: int, count: int, points: Array, log_weights: Array, k: int, T: Array, dispersion: float,
    levels: Levels, work: LevelWork, slopes: bool,
) -> None:  # fmt: skip
    """Add node k of each of `count` levels to the sums; without slopes only its mass."""
    p, start = T.shape[0], rows.row_start[first]
    size = rows.row_start[first + count] - start
    u, b, away = window(work.vectors, 0, p), window(work.vectors, p, p), window(work.vectors, 2 * p, p)
    for s in range(count):
        for a in range(p):
            t = 0.0
            for d in range(a, p):
                t += work.inverse[s, d, a] * points[k, d]
            u[a] = levels.u[first + s, a] + t
        low = rows.row_start[first + s]
        level_eta(rows, low, rows.row_start[first + s + 1] - low, T, u, b, work.eta, low - start)
    y, trials = window(rows.y, start, size), window(rows.trials, start, size)
    weights = window(rows.weights, start, size)
    eta, value = window(work.eta, 0, size), window(work.value, 0, size)
    gradient = window(work.gradient, 0, size)
    if slopes:
        row_derivatives(
            rows.code, y, trials, weights, eta, dispersion, value, gradient, window(work.curvature, 0, size)
        )
    else:
        row_values(rows.code, y, trials, weights, eta, dispersion, value)
    for s in range(count):
        at, end = rows.row_start[first + s] - start, rows.row_start[first + s + 1] - start
        rise = log_weights[k]
        for i in range(at, end):  # differences first: a level of many rows rounds less
            rise += value[i] - work.mode_value[i]
        for a in range(p):
            t = 0.0
            for d in range(a, p):
                t += work.inverse[s, d, a] * points[k, d]
            rise -= t * (levels.u[first + s, a] + 0.5 * t)
        term = math.exp(rise)
        work.mass[s] += term
        if not slopes or term == 0.0:  # far out a family may overflow, at no weight
            continue
        for i in range(at, end):
            work.mean_value[i] += term * value[i]
            work.mean_gradient[i] += term * gradient[i]
        Z = window(rows.Z, (start + at) * p, (end - at) * p)
        for a in range(p):
            t = 0.0
            for i in range(end - at):
                t += gradient[at + i] * Z[i * p + a]
            away[a] = t
        for a in range(p):
            work.mass_x[s, a] += term * points[k, a]
            work.mass_c[s, a] += term * away[a]
            for d in range(p):
                work.mass_xx[s, a, d] += term * points[k, a] * points[k, d]
                work.mass_cx[s, a, d] += term * away[a] * points[k, d]


@kernel(entry=True)
def quadrature(
    rows: FactorRows, points: Array, log_weights: Array, T: Array, dispersion: float, low: int, high: int,
    levels: Levels, work: LevelWork, slopes: bool, d_eta: Array, d_T: Array, d_dispersion: Array,
) -> float:  # fmt: skip
    """Return the log likelihood of levels low to high − 1, b integrated out, and fill in its derivatives.

    Parameters
    ----------
    rows
        The rows, sorted by level. The log likelihood has the terms of `bayou.families.rows.row_terms`: what depends
        on the outcome and the dispersion alone is the caller's to add.
    points, log_weights
        Of `hermite_grid`, shapes (m, p) and (m,).
    T
        Shape (p, p), lower triangular; zeros and negative numbers on its diagonal are as good as others.
    dispersion
        sigma, phi or shape; any positive number where the family has none.
    levels
        Where the search for the modes begins; overwritten with the modes and the factors of their curvatures.
    work
        Scratch, one per thread.
    slopes
        Whether the derivatives are asked for; if not the last three are left as they are.
    d_eta
        Shape (n,), the rows of these levels: derivatives in `rows.fixed`; those in beta are X'd_eta.
    d_T
        Shape (p, p), overwritten: derivatives in the lower triangle of T, of these levels.
    d_dispersion
        Shape (n,), the rows of these levels, for families with a dispersion: derivatives in its logarithm of the whole
        log density, the terms that `row_terms` leaves out among them, row by row (so that rows may have several).

    Returns
    -------
    nan where a mode was not found (see `level_mode`), not from zero either; the derivatives then mean nothing.
    """
    p = T.shape[0]
    has_dispersion = rows.code in (GAUSSIAN_IDENTITY, GAUSSIAN_LOG, NEGATIVE_BINOMIAL_LOG, GAMMA_LOG)
    total, room = 0.0, len(work.eta)
    if slopes:
        fill(d_T, 0.0)
    first = low
    while first < high:
        start, count = rows.row_start[first], 1
        while first + count < high and count < BLOCK_LEVELS and rows.row_start[first + count + 1] - start <= room:
            count += 1
        size = rows.row_start[first + count] - start
        part = 0.0
        for s in range(count):
            j = first + s
            peak = level_mode(rows, j, T, dispersion, levels, work, rows.row_start[j] - start, s)
            if not math.isfinite(peak):  # from afar, where exp(eta) is huge, the way back can be too long
                for a in range(p):
                    levels.u[j, a] = 0.0
                peak = level_mode(rows, j, T, dispersion, levels, work, rows.row_start[j] - start, s)
            if not math.isfinite(peak):
                return math.nan
            part += peak
            F, inverse = work.F, window(work.inverse, s * p * p, p * p)
            invert_lower(F, work.H, p)
            for a in range(p):
                part -= math.log(F[a, a])
                for d in range(p):
                    inverse[a * p + d] = work.H[a, d]
        _clear(work, size, count)
        for k in range(len(log_weights)):
            _add_node(rows, first, count, points, log_weights, k, T, dispersion, levels, work, slopes)
        for s in range(count):
            part += math.log(work.mass[s])
        total += part
        if slopes:
            block_slopes(rows, first, count, T, dispersion, levels, work, has_dispersion, d_eta, d_T, d_dispersion)
        first += count
    return total
