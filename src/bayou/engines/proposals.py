"""Metropolis proposals for coefficients that enter the rows: groups one at a time, fixed effects at once.

All work on the rows through the row kernels and keep the linear predictor eta up to date. Two kinds of
proposal for a vector x of coefficients with columns Z and prior precision Q:

- Laplace: one Newton step from the current x gives the mean, the curvature Z'WZ + Q there the precision
  (Gamerman 1997); the reverse density is evaluated at the proposed point;
- random walk: N(x, scale Sigma), as in Hoff (2009), ch. 11.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayou._types import Array, Integers
from bayou.families.rows import row_log_density, row_terms
from bayou.jit import kernel
from bayou.linalg.schur import Border
from bayou.linalg.small import (
    cholesky,
    cholesky_in_place,
    log_determinant,
    solve_lower,
    solve_lower_transposed,
)
from bayou.priors.table import prior_log_density


class Rows(NamedTuple):
    """The rows, once in the order of each factor's levels; master order is that of the first factor."""

    code: int
    y: Array  # (K, n)
    trials: Array  # (K, n)
    master: Integers  # (K, n) master row of each row in factor order
    first: Integers  # (K,) where a factor's starts begin
    start: Integers  # rows of level l of factor k: start[first[k] + l] to the next
    at_Z: Integers  # (K,)
    Z: Array  # flat, (n, p_k) row by row in factor order
    at_b: Integers  # (K,)
    levels: Integers  # (K,)
    sizes: Integers  # (K,)
    X: Array  # (n, P) master order
    offset: Array  # (n,)


class Scratch(NamedTuple):
    """Buffers of one chain."""

    eta: Array  # (n,) a proposed linear predictor
    gradient: Array  # (n,)
    curvature: Array  # (n,)
    work: Array  # (512,) for the row kernels
    H: Array  # (m, m)
    vectors: Array  # (8, m)


@kernel(inner=True)
def _normal_equations(
    Z: Array,
    at: int,
    n: int,
    p: int,
    gradient: Array,
    curvature: Array,
    Q: Array,
    x: Array,
    H: Array,
    g: Array,
) -> bool:
    """H <- factor of Z'WZ + Q, g <- Z'gradient − Q x, rows of Z (n, p) flat from ``at``."""
    for i in range(p):
        g[i] = 0.0
        for k in range(i + 1):
            H[i, k] = Q[i, k]
        for k in range(p):
            g[i] -= Q[i, k] * x[k]
    for r in range(n):
        d = gradient[r]
        # a row that is convex here (log link, Gaussian response) adds nothing to the precision
        w = max(curvature[r], 0.0)
        base = at + r * p
        for i in range(p):
            z = Z[base + i]
            g[i] += d * z
            z *= w
            for k in range(i + 1):
                H[i, k] += z * Z[base + k]
    return cholesky(H, H, p)


@kernel(inner=True)
def _quadratic(Q: Array, x: Array, p: int) -> float:
    """X'Qx."""
    t = 0.0
    for i in range(p):
        s = 0.5 * Q[i, i] * x[i]
        for k in range(i):
            s += Q[i, k] * x[k]
        t += 2.0 * x[i] * s
    return t


@kernel(inner=True)
def group_laplace(
    rows: Rows,
    weights: Array,
    dispersion: float,
    f: int,
    j: int,
    Q: Array,
    b: Array,
    eta: Array,
    scratch: Scratch,
    rng: np.random.Generator,
) -> tuple[bool, float]:
    """One Laplace proposal for level j of factor f. Returns (accepted, change of the log likelihood)."""
    p = rows.sizes[f]
    low = rows.start[rows.first[f] + j]
    n = rows.start[rows.first[f] + j + 1] - low
    y, trials = rows.y[f, low : low + n], rows.trials[f, low : low + n]
    w = weights[f, low : low + n]
    here, there = scratch.eta[:n], scratch.eta[n : 2 * n]
    gradient, curvature = scratch.gradient[:n], scratch.curvature[:n]
    x, g, z, step, new = (
        scratch.vectors[0], scratch.vectors[1], scratch.vectors[2], scratch.vectors[3], scratch.vectors[4],
    )  # fmt: skip
    H = scratch.H
    base = rows.at_b[f] + j * p
    at = rows.at_Z[f] + low * p
    for r in range(n):
        here[r] = eta[rows.master[f, low + r]]
    for i in range(p):
        x[i] = b[base + i]
    old = row_terms(rows.code, y, trials, w, here, dispersion, gradient, curvature, scratch.work)
    if not _normal_equations(rows.Z, at, n, p, gradient, curvature, Q, x, H, g):
        return False, 0.0
    ratio = -0.5 * log_determinant(H, p)
    solve_lower(H, g, p)
    for i in range(p):
        z[i] = rng.standard_normal()
        ratio += 0.5 * z[i] * z[i]
        step[i] = g[i] + z[i]
    solve_lower_transposed(H, step, p)
    for i in range(p):
        new[i] = x[i] + step[i]
    for r in range(n):
        t = here[r]
        for i in range(p):
            t += rows.Z[at + r * p + i] * step[i]
        there[r] = t
    change = row_terms(rows.code, y, trials, w, there, dispersion, gradient, curvature, scratch.work) - old
    if not change > -math.inf:
        return False, 0.0
    if not _normal_equations(rows.Z, at, n, p, gradient, curvature, Q, new, H, g):
        return False, 0.0
    ratio += 0.5 * log_determinant(H, p)
    solve_lower(H, g, p)
    for i in range(p):  # H'(−step − mean step)
        t = -g[i]
        for k in range(i, p):
            t -= H[k, i] * step[k]
        ratio -= 0.5 * t * t
    ratio += change - 0.5 * (_quadratic(Q, new, p) - _quadratic(Q, x, p))
    if not -rng.standard_exponential() < ratio:
        return False, 0.0
    for i in range(p):
        b[base + i] = new[i]
    for r in range(n):
        eta[rows.master[f, low + r]] = there[r]
    return True, change


@kernel(inner=True)
def group_random_walk(
    rows: Rows,
    weights: Array,
    dispersion: float,
    f: int,
    j: int,
    scale: float,
    L: Array,
    Q: Array,
    b: Array,
    eta: Array,
    known: float,
    scratch: Scratch,
    rng: np.random.Generator,
) -> tuple[bool, float]:
    """One step from N(b_j, scale L L') for level j of factor f; ``known``: its log likelihood, or NaN.

    Returns (accepted, log likelihood of the level's rows afterwards, less ``known`` where that is NaN:
    then the change).
    """
    p = rows.sizes[f]
    low = rows.start[rows.first[f] + j]
    n = rows.start[rows.first[f] + j + 1] - low
    y, trials = rows.y[f, low : low + n], rows.trials[f, low : low + n]
    w = weights[f, low : low + n]
    here, there = scratch.eta[:n], scratch.eta[n : 2 * n]
    x, new, z = scratch.vectors[0], scratch.vectors[1], scratch.vectors[2]
    base = rows.at_b[f] + j * p
    at = rows.at_Z[f] + low * p
    root = math.sqrt(scale)
    for i in range(p):
        z[i] = root * rng.standard_normal()
    for i in range(p):
        t = 0.0
        for k in range(i + 1):
            t += L[i, k] * z[k]
        x[i] = b[base + i]
        new[i] = x[i] + t
        z[p + i] = t
    for r in range(n):
        t = eta[rows.master[f, low + r]]
        here[r] = t
        for i in range(p):
            t += rows.Z[at + r * p + i] * z[p + i]
        there[r] = t
    old = known
    if math.isnan(known):
        old = row_log_density(rows.code, y, trials, w, here, dispersion, scratch.work)
    fresh = row_log_density(rows.code, y, trials, w, there, dispersion, scratch.work)
    ratio = fresh - old - 0.5 * (_quadratic(Q, new, p) - _quadratic(Q, x, p))
    if not -rng.standard_exponential() < ratio:
        return False, old
    for i in range(p):
        b[base + i] = new[i]
    for r in range(n):
        eta[rows.master[f, low + r]] = there[r]
    return True, fresh


@kernel(inner=True)
def log_prior_fixed(border: Border, codes: Integers, parameters: Array, beta: Array) -> float:
    """Log p(beta) up to a constant; ``beta`` may be longer scratch."""
    P = border.linear.shape[0]
    total = 0.0
    for i in range(P):
        t = 0.0
        for k in range(P):
            t += border.precision[i, k] * beta[k]
        total += beta[i] * (border.linear[i] - 0.5 * t)
    for k in range(codes.shape[0]):
        x = beta[P - codes.shape[0] + k]
        total += prior_log_density(codes[k], parameters[k, 0], parameters[k, 1], parameters[k, 2], x)
    return total


@kernel(inner=True)
def _fixed_equations(
    X: Array, gradient: Array, curvature: Array, border: Border, beta: Array, H: Array, g: Array
) -> bool:
    """Like `_normal_equations` for the fixed effects; scratch beyond the first P rows of H is not touched."""
    n, P = X.shape
    for i in range(P):
        g[i] = border.linear[i]
        for k in range(P):
            g[i] -= border.precision[i, k] * beta[k]
        for k in range(i + 1):
            H[i, k] = border.precision[i, k]
    for r in range(n):
        d, w = gradient[r], max(curvature[r], 0.0)
        for i in range(P):
            x = X[r, i]
            g[i] += d * x
            x *= w
            for k in range(i + 1):
                H[i, k] += x * X[r, k]
    return cholesky_in_place(H)


@kernel(inner=True)
def fixed_laplace(
    rows: Rows,
    weights: Array,
    dispersion: float,
    border: Border,
    codes: Integers,
    parameters: Array,
    beta: Array,
    eta: Array,
    scratch: Scratch,
    Hx: Array,
    vectors: Array,
    rng: np.random.Generator,
) -> tuple[bool, float]:
    """One Laplace proposal for all fixed effects. Returns (accepted, log likelihood afterwards)."""
    n, P = rows.X.shape
    y, trials, w = rows.y[0], rows.trials[0], weights[0]
    g, z, step, new = vectors[0], vectors[1], vectors[2], vectors[3]
    gradient, curvature = scratch.gradient, scratch.curvature
    there = scratch.eta[:n]
    old = row_terms(rows.code, y, trials, w, eta, dispersion, gradient, curvature, scratch.work)
    if not _fixed_equations(rows.X, gradient, curvature, border, beta, Hx, g):
        return False, old
    ratio = -0.5 * log_determinant(Hx, P)
    solve_lower(Hx, g, P)
    for i in range(P):
        z[i] = rng.standard_normal()
        ratio += 0.5 * z[i] * z[i]
        step[i] = g[i] + z[i]
    solve_lower_transposed(Hx, step, P)
    for i in range(P):
        new[i] = beta[i] + step[i]
    for r in range(n):
        t = eta[r]
        for i in range(P):
            t += rows.X[r, i] * step[i]
        there[r] = t
    fresh = row_terms(rows.code, y, trials, w, there, dispersion, gradient, curvature, scratch.work)
    if not fresh > -math.inf or not _fixed_equations(rows.X, gradient, curvature, border, new, Hx, g):
        return False, old
    ratio += 0.5 * log_determinant(Hx, P)
    solve_lower(Hx, g, P)
    for i in range(P):
        t = -g[i]
        for k in range(i, P):
            t -= Hx[k, i] * step[k]
        ratio -= 0.5 * t * t
    ratio += fresh - old
    ratio += log_prior_fixed(border, codes, parameters, new) - log_prior_fixed(border, codes, parameters, beta)
    if not -rng.standard_exponential() < ratio:
        return False, old
    for i in range(P):
        beta[i] = new[i]
    for r in range(n):
        eta[r] = there[r]
    return True, fresh


@kernel(inner=True)
def group_mode(
    rows: Rows,
    weights: Array,
    dispersion: float,
    f: int,
    j: int,
    Q: Array,
    b: Array,
    eta: Array,
    steps: int,
    scratch: Scratch,
) -> None:
    """Damped Newton for level j of factor f: moves b_j to the mode of its conditional."""
    p = rows.sizes[f]
    low = rows.start[rows.first[f] + j]
    n = rows.start[rows.first[f] + j + 1] - low
    y, trials = rows.y[f, low : low + n], rows.trials[f, low : low + n]
    w = weights[f, low : low + n]
    here, there = scratch.eta[:n], scratch.eta[n : 2 * n]
    x, g, new = scratch.vectors[0], scratch.vectors[1], scratch.vectors[2]
    base = rows.at_b[f] + j * p
    at = rows.at_Z[f] + low * p
    for r in range(n):
        here[r] = eta[rows.master[f, low + r]]
    for i in range(p):
        x[i] = b[base + i]
    for _ in range(steps):
        old = row_terms(
            rows.code, y, trials, w, here, dispersion, scratch.gradient[:n], scratch.curvature[:n], scratch.work
        ) - 0.5 * _quadratic(Q, x, p)
        if not _normal_equations(rows.Z, at, n, p, scratch.gradient, scratch.curvature, Q, x, scratch.H, g):
            return
        solve_lower(scratch.H, g, p)
        gain = 0.0
        for i in range(p):
            gain += g[i] * g[i]
        solve_lower_transposed(scratch.H, g, p)
        length = 1.0
        better = False
        for _halving in range(30):
            for i in range(p):
                new[i] = x[i] + length * g[i]
            for r in range(n):
                t = here[r]
                for i in range(p):
                    t += rows.Z[at + r * p + i] * length * g[i]
                there[r] = t
            value = row_log_density(rows.code, y, trials, w, there, dispersion, scratch.work)
            if value - 0.5 * _quadratic(Q, new, p) > old:
                better = True
                break
            length *= 0.5
        if not better:
            break
        for i in range(p):
            x[i] = new[i]
        for r in range(n):
            here[r] = there[r]
        if gain < 1e-8:
            break
    for i in range(p):
        b[base + i] = x[i]
    for r in range(n):
        eta[rows.master[f, low + r]] = here[r]


@kernel(inner=True)
def fixed_mode(
    rows: Rows,
    weights: Array,
    dispersion: float,
    border: Border,
    codes: Integers,
    parameters: Array,
    beta: Array,
    eta: Array,
    steps: int,
    scratch: Scratch,
    Hx: Array,
    vectors: Array,
) -> None:
    """Damped Newton for the fixed effects given the group coefficients."""
    n, P = rows.X.shape
    y, trials, w = rows.y[0], rows.trials[0], weights[0]
    g, new = vectors[0], vectors[3]
    there = scratch.eta[:n]
    for _ in range(steps):
        old = row_terms(
            rows.code, y, trials, w, eta, dispersion, scratch.gradient, scratch.curvature, scratch.work
        ) + log_prior_fixed(border, codes, parameters, beta)
        if not _fixed_equations(rows.X, scratch.gradient, scratch.curvature, border, beta, Hx, g):
            return
        solve_lower(Hx, g, P)
        gain = 0.0
        for i in range(P):
            gain += g[i] * g[i]
        solve_lower_transposed(Hx, g, P)
        length = 1.0
        better = False
        for _halving in range(30):
            for i in range(P):
                new[i] = beta[i] + length * g[i]
            for r in range(n):
                t = eta[r]
                for i in range(P):
                    t += rows.X[r, i] * length * g[i]
                there[r] = t
            value = row_log_density(rows.code, y, trials, w, there, dispersion, scratch.work)
            if value + log_prior_fixed(border, codes, parameters, new) > old:
                better = True
                break
            length *= 0.5
        if not better:
            return
        for i in range(P):
            beta[i] = new[i]
        for r in range(n):
            eta[r] = there[r]
        if gain < 1e-8:
            return
