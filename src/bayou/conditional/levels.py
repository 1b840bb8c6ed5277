"""Modes of the coefficients of one grouping factor, level by level, in standard coordinates.

The coefficients of level j are b_j = T u_j with u_j ~ N(0, I), T lower triangular and possibly singular, and
its rows have eta = fixed + Z b_j. With l the rows' log likelihoods, the mode maximises

    f(u) = Σ_i l_i(eta_i) − ½ u'u,    gradient T'Z'l' − u,    curvature H = I + T'Z'W Z T,  W = −l''.

In u there is no inverse of T: a coefficient whose sd is zero is no special case.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayou._types import Array, Integers
from bayou.families.rows import row_derivatives
from bayou.jit import kernel, window
from bayou.linalg.small import cholesky, solve_lower, solve_lower_transposed

__all__ = ["FactorRows", "LevelWork", "Levels", "level_eta", "level_mode", "new_level_work", "new_levels"]

BLOCK_ROWS, BLOCK_LEVELS = 512, 128  # rows and levels that are worked on together
STEPS, HALVINGS = 200, 60
CONVERGED = 1e-20  # of the squared Newton step in units of the curvature
ROUNDING = 1e-12  # below it a step that does not shrink any more is rounding error


class FactorRows(NamedTuple):
    """The rows of a model with one grouping factor, sorted by level."""

    code: int  # family and link
    row_start: Integers  # (J + 1,)
    y: Array  # (n,)
    trials: Array  # (n,)
    weights: Array  # (n,) prior weights; Gaussian with several sigmas: over sigma², and dispersion 1
    fixed: Array  # (n,) offset + X beta: the caller writes it before each evaluation
    Z: Array  # (n, p)


class Levels(NamedTuple):
    """What is known of each level: read as the start of the next search, and left behind by it."""

    u: Array  # (J, p) modes
    L: Array  # (J, p, p) lower factors of the curvatures there


class LevelWork(NamedTuple):
    """Scratch of one thread: rows of a block of levels, sums over the rows of a level, vectors and matrices."""

    eta: Array  # (R,)
    mode_value: Array  # (R,) terms of the log likelihood at the mode, with two derivatives and the third
    mode_gradient: Array
    mode_curvature: Array
    mode_slope: Array
    value: Array  # (R,) the same at a node
    gradient: Array
    curvature: Array
    mean_value: Array  # (R,) sums over the nodes
    mean_gradient: Array
    c: Array  # (B, p) Z'l' at the mode
    K: Array  # (B, p, p) Z'WZ at the mode
    inverse: Array  # (B, p, p) inverses of the factors
    mass: Array  # (B,) sums over the nodes of their terms, and of the terms times …
    mass_x: Array  # (B, p) x
    mass_xx: Array  # (B, p, p) x x'
    mass_c: Array  # (B, p) Z'l'
    mass_cx: Array  # (B, p, p) Z'l' x'
    vectors: Array  # (8, p)
    H: Array  # (p, p) and further such scratch
    F: Array
    M: Array
    N: Array


def new_levels(levels: int, dimension: int) -> Levels:
    """Return modes at zero."""
    return Levels(np.zeros((levels, dimension)), np.zeros((levels, dimension, dimension)))


def new_level_work(row_start: Integers, dimension: int) -> LevelWork:
    """Return the scratch for levels that begin at these rows."""
    p, largest = dimension, int(np.diff(row_start).max(initial=1))
    rows, levels = max(BLOCK_ROWS, largest), BLOCK_LEVELS
    blocks = (levels, p), (levels, p, p), (levels, p, p), levels, (levels, p), (levels, p, p), (levels, p)
    shapes = [*[rows] * 10, *blocks, (levels, p, p), (8, p), *[(p, p)] * 4]
    return LevelWork(*(np.zeros(shape) for shape in shapes))


@kernel(inner=True)
def level_eta(rows: FactorRows, low: int, count: int, T: Array, u: Array, b: Array, eta: Array, at: int) -> None:
    """eta[at + i] <- fixed + Z T u for `count` rows from `low` on; b <- T u."""
    p = T.shape[0]
    for a in range(p):
        t = 0.0
        for k in range(a + 1):
            t += T[a, k] * u[k]
        b[a] = t
    fixed, Z = window(rows.fixed, low, count), window(rows.Z, low * p, count * p)
    out = window(eta, at, count)
    for i in range(count):
        out[i] = fixed[i] + Z[i * p] * b[0]
    for a in range(1, p):
        for i in range(count):
            out[i] += Z[i * p + a] * b[a]


@kernel(inner=True)
def _add_up(x: Array) -> float:
    """Return the sum, by parts of 256 so that a large level rounds less."""
    total = 0.0
    for a in range(0, len(x), 256):
        part = 0.0
        for i in range(a, min(a + 256, len(x))):
            part += x[i]
        total += part
    return total


@kernel(inner=True)
def _climb(
    rows: FactorRows, j: int, T: Array, dispersion: float, u: Array, b: Array, work: LevelWork, at: int
) -> float:
    """Return f(u); the rows' values and derivatives go to the mode's part of `work`, from `at` on."""
    low, count = rows.row_start[j], rows.row_start[j + 1] - rows.row_start[j]
    level_eta(rows, low, count, T, u, b, work.eta, at)
    value = window(work.mode_value, at, count)
    row_derivatives(
        rows.code, window(rows.y, low, count), window(rows.trials, low, count), window(rows.weights, low, count),
        window(work.eta, at, count), dispersion, value,
        window(work.mode_gradient, at, count), window(work.mode_curvature, at, count),
    )  # fmt: skip
    total = _add_up(value)
    for a in range(T.shape[0]):
        total -= 0.5 * u[a] * u[a]
    return total


@kernel(inner=True)
def _sums(rows: FactorRows, low: int, count: int, work: LevelWork, at: int, s: int, lowest: float) -> None:
    """C <- Z'l', K <- Z'WZ of the level at place s; curvatures below `lowest` count as `lowest`."""
    p = work.c.shape[1]
    gradient, curvature = window(work.mode_gradient, at, count), window(work.mode_curvature, at, count)
    Z = window(rows.Z, low * p, count * p)
    for a in range(p):
        total = 0.0
        for i in range(count):
            total += gradient[i] * Z[i * p + a]
        work.c[s, a] = total
        for d in range(a + 1):
            total = 0.0
            for i in range(count):
                total += max(curvature[i], lowest) * Z[i * p + a] * Z[i * p + d]
            work.K[s, a, d] = total
            work.K[s, d, a] = total


@kernel(inner=True)
def _factorise(T: Array, work: LevelWork, s: int) -> bool:
    """F <- lower factor of I + T'KT; False if it is not positive definite."""
    p = T.shape[0]
    for a in range(p):
        for d in range(a + 1):
            total = 1.0 if a == d else 0.0
            for k in range(a, p):
                for m in range(d, p):
                    total += T[k, a] * work.K[s, k, m] * T[m, d]
            work.H[a, d] = total
    return cholesky(work.H, work.F, p)


@kernel(inner=True)
def level_mode(
    rows: FactorRows, j: int, T: Array, dispersion: float, levels: Levels, work: LevelWork, at: int, s: int
) -> float:
    """Find the mode of level j by damped Newton steps from `levels.u[j]`; return f there, or nan.

    A step is halved until f rises by a part of what its gradient promises (undamped steps diverge on strongly
    separated binary data). Where a family is not log-concave and H is not positive definite, curvatures below
    zero are cut for the direction; the mode itself has the whole curvature. Source: Nocedal and Wright 2006,
    chapter 3.

    Leaves the mode and the factor in `levels`, the rows' derivatives from `at` on and the sums c and K at place s
    of `work`. nan says: no finite f at the start, no positive definite curvature, or no convergence.
    """
    p = T.shape[0]
    low, count = rows.row_start[j], rows.row_start[j + 1] - rows.row_start[j]
    u = window(levels.u, j * p, p)
    b, g = window(work.vectors, 0, p), window(work.vectors, p, p)
    step, trial = window(work.vectors, 2 * p, p), window(work.vectors, 3 * p, p)
    f = _climb(rows, j, T, dispersion, u, b, work, at)
    last = np.inf
    for _ in range(STEPS):
        if not math.isfinite(f):
            return math.nan
        _sums(rows, low, count, work, at, s, -np.inf)
        exact = _factorise(T, work, s)
        if not exact:
            _sums(rows, low, count, work, at, s, 0.0)
            if not _factorise(T, work, s):
                return math.nan
        for a in range(p):
            total = -u[a]
            for k in range(a, p):
                total += T[k, a] * work.c[s, k]
            g[a] = total
            step[a] = total
        solve_lower(work.F, step, p)
        decrement = 0.0
        for a in range(p):
            decrement += step[a] * step[a]
        if exact and (decrement <= CONVERGED or (decrement < ROUNDING and decrement > 0.25 * last)):
            for a in range(p):
                for d in range(a + 1):
                    levels.L[j, a, d] = work.F[a, d]
            return f
        last = decrement
        solve_lower_transposed(work.F, step, p)
        scale, risen = 1.0, False
        for _ in range(HALVINGS):
            for a in range(p):
                trial[a] = u[a] + scale * step[a]
            new = _climb(rows, j, T, dispersion, trial, b, work, at)
            risen = new >= f + 1e-4 * scale * decrement - 1e-12 * (1.0 + abs(f))
            if risen:
                break
            scale *= 0.5
        if not risen:
            return math.nan
        f = new
        for a in range(p):
            u[a] = trial[a]
    return math.nan
