"""Proposals for the coefficients of every level of a factor, a batch of levels at a time.

Given all else, the levels of one factor are independent: the proposals of up to 512 rows of consecutive levels
are computed together, which lets the loops over rows run long however small the groups are, and then accepted
one level at a time. Two kinds of proposal for a level's coefficients b with columns Z and prior precision Q:

- Laplace: one Newton step from the current b gives the mean, the curvature Z'WZ + Q there the precision
  (Gamerman 1997); the reverse density is evaluated at the proposed point;
- random walk: N(b, scale Sigma), as in Hoff (2009), ch. 11.
"""

from __future__ import annotations

import math

import numpy as np

from bayou._types import Array
from bayou.engines.glmm.regression import (
    FEW,
    Rows,
    Scratch,
    add_columns,
    add_normal_equations,
    change_of_quadratic,
    reverse_density,
    total,
)
from bayou.families.rows import LANES, row_derivatives, row_values
from bayou.jit import kernel, window
from bayou.linalg.small import cholesky, solve_lower, solve_lower_transposed

SETTLED = 1e-8  # twice the gain in log density that a Newton step promises, below which it is not taken


@kernel(inner=True)
def batch_end(rows: Rows, f: int, first: int) -> int:
    """Return the level after the last of a batch that begins with level ``first``."""
    at = rows.first[f]
    low = rows.start[at + first]
    last = first + 1
    while last < rows.levels[f] and last - first < LANES and rows.start[at + last + 1] - low <= LANES:
        last += 1
    return last


@kernel(inner=True)
def gather(rows: Rows, f: int, low: int, n: int, eta: Array, here: Array) -> None:
    """Set ``here`` to eta of the n rows of factor f from ``low`` on."""
    if f == 0:
        part = window(eta, low, n)
        for r in range(n):
            here[r] = part[r]
    else:
        place = window(rows.master, (f - 1) * eta.shape[0] + low, n)
        for r in range(n):
            here[r] = eta[place[r]]


@kernel(inner=True)
def _scatter(rows: Rows, f: int, low: int, n: int, there: Array, at: int, eta: Array) -> None:
    """Eta of the n rows of factor f from ``low`` on <- there[at : at + n]."""
    if f == 0:
        new, old = window(there, at, n), window(eta, low, n)
        for r in range(n):
            old[r] = new[r]
    else:
        for r in range(n):
            eta[rows.master[f - 1, low + r]] = there[at + r]


@kernel(inner=True)
def _propose(rows: Rows, f: int, first: int, last: int, here: Array, scratch: Scratch) -> None:
    """Linear predictor of a batch after the steps: into the leading part of ``scratch.eta``."""
    at, p, stride = rows.first[f], rows.sizes[f], rows.y.shape[1]
    low = rows.start[at + first]
    n = rows.start[at + last] - low
    there = window(scratch.eta, 0, n)
    for r in range(n):
        there[r] = here[r]
    for j in range(first, last):
        a, b = rows.start[at + j], rows.start[at + j + 1]
        add_columns(
            rows.Z, rows.at_Z[f] + a, stride, b - a, p, scratch.step, (j - first) * p, window(there, a - low, b - a)
        )


@kernel(inner=True)
def equations(
    rows: Rows,
    f: int,
    low: int,
    a: int,
    m: int,
    Q: Array,
    x: Array,
    gradient: Array,
    curvature: Array,
    scratch: Scratch,
    H: Array,
    g: Array,
) -> bool:
    """H <- factor of Z'WZ + Q, g <- Z'gradient − Q x for the m rows of factor f from ``low + a`` on.

    ``gradient`` and ``curvature`` begin at row ``low``.
    """
    p = rows.sizes[f]
    if p == 1:
        # most factors: two sums in registers
        z, own, bend = window(rows.Z, rows.at_Z[f] + low + a, m), window(gradient, a, m), window(curvature, a, m)
        s, t = Q[0, 0], -Q[0, 0] * x[0]
        for r in range(m):
            s += max(bend[r], 0.0) * z[r] * z[r]
            t += own[r] * z[r]
        g[0] = t
        if not s > 0.0:
            return False
        H[0, 0] = math.sqrt(s)
        return True
    if p == 2 and m <= FEW:
        return _equations_of_two(rows, f, low, a, m, Q, x, gradient, curvature, H, g)
    for i in range(p):
        g[i] = 0.0
        for k in range(i + 1):
            H[i, k] = Q[i, k]
        for k in range(p):
            g[i] -= Q[i, k] * x[k]
    at = rows.at_Z[f] + low + a
    stride = rows.y.shape[1]
    add_normal_equations(
        rows.Z, at, stride, m, p, window(gradient, a, m), window(curvature, a, m), scratch.weighted, H, g
    )
    return cholesky(H, H, p)


@kernel(inner=True, contract=True)
def _equations_of_two(
    rows: Rows,
    f: int,
    low: int,
    a: int,
    m: int,
    Q: Array,
    x: Array,
    gradient: Array,
    curvature: Array,
    H: Array,
    g: Array,
) -> bool:
    """`equations` for two coefficients and few rows: five sums in registers, one pass."""
    at, stride = rows.at_Z[f] + low + a, rows.y.shape[1]
    z, v = window(rows.Z, at, m), window(rows.Z, at + stride, m)
    own, bend = window(gradient, a, m), window(curvature, a, m)
    first, second = -Q[0, 0] * x[0] - Q[1, 0] * x[1], -Q[1, 0] * x[0] - Q[1, 1] * x[1]
    A, B, C = Q[0, 0], Q[1, 0], Q[1, 1]
    for r in range(m):
        w = max(bend[r], 0.0)
        s = w * z[r]
        first += own[r] * z[r]
        second += own[r] * v[r]
        A += s * z[r]
        B += s * v[r]
        C += w * v[r] * v[r]
    g[0], g[1] = first, second
    if not A > 0.0:
        return False
    root = math.sqrt(A)
    below = B / root
    C -= below * below
    if not C > 0.0:
        return False
    H[0, 0], H[1, 0], H[1, 1] = root, below, math.sqrt(C)
    return True


@kernel(inner=True)
def walk_levels(
    rows: Rows,
    weights: Array,
    dispersion: float,
    f: int,
    first: int,
    last: int,
    scale: float,
    L: Array,
    Q: Array,
    b: Array,
    eta: Array,
    known: Array,
    moved: Array,
    scratch: Scratch,
    rng: np.random.Generator,
) -> int:
    """One step from N(b_j, scale L L') for each level of a batch of factor f. Returns how many were accepted.

    ``known`` (levels of the batch): log likelihood of each level's rows or NaN, kept up to date; ``moved`` gains 1
    where a step is accepted.
    """
    at, p = rows.first[f], rows.sizes[f]
    low = rows.start[at + first]
    n = rows.start[at + last] - low
    N = eta.shape[0]
    y, trials = window(rows.y, f * N + low, n), window(rows.trials, (f * N + low) * rows.trials_step, n)
    w = window(weights, (f * N + low) * rows.weights_step, n)
    here, step, z = window(scratch.here, 0, n), scratch.step, scratch.vectors[0]
    root = math.sqrt(scale)
    for j in range(last - first):
        for i in range(p):
            z[i] = root * rng.standard_normal()
        for i in range(p):
            t = 0.0
            for k in range(i + 1):
                t += L[i, k] * z[k]
            step[j * p + i] = t
    gather(rows, f, low, n, eta, here)
    for j in range(last - first):
        if math.isnan(known[j]):
            row_values(rows.code, y, trials, w, here, dispersion, scratch.value)
            for i in range(last - first):
                a = rows.start[at + first + i]
                known[i] = total(scratch.value, a - low, rows.start[at + first + i + 1] - a)
            break
    _propose(rows, f, first, last, here, scratch)
    row_values(rows.code, y, trials, w, window(scratch.eta, 0, n), dispersion, scratch.value)
    accepted = 0
    for j in range(last - first):
        a = rows.start[at + first + j]
        m = rows.start[at + first + j + 1] - a
        x = window(b, rows.at_b[f] + (first + j) * p, p)
        fresh = total(scratch.value, a - low, m)
        ratio = fresh - known[j] - 0.5 * change_of_quadratic(Q, x, step, j * p, p)
        if -rng.standard_exponential() < ratio:
            for i in range(p):
                x[i] += step[j * p + i]
            _scatter(rows, f, a, m, scratch.eta, a - low, eta)
            known[j] = fresh
            moved[j] += 1.0
            accepted += 1
    return accepted


@kernel(inner=True)
def laplace_levels(
    rows: Rows,
    weights: Array,
    dispersion: float,
    f: int,
    first: int,
    last: int,
    Q: Array,
    b: Array,
    eta: Array,
    length: float,
    moved: Array,
    scratch: Scratch,
    rng: np.random.Generator,
) -> int:
    """One Laplace proposal for each level of a batch of factor f. Returns how many were accepted.

    ``moved`` (levels of the batch) gains 1 where a proposal is accepted. With a positive ``length`` nothing is
    random: that part of the Newton step is taken where it goes uphill, and a level at its mode counts as accepted.
    """
    at, p = rows.first[f], rows.sizes[f]
    low = rows.start[at + first]
    n = rows.start[at + last] - low
    N = eta.shape[0]
    y, trials = window(rows.y, f * N + low, n), window(rows.trials, (f * N + low) * rows.trials_step, n)
    w = window(weights, (f * N + low) * rows.weights_step, n)
    here, step, ratio, H = window(scratch.here, 0, n), scratch.step, scratch.ratio, scratch.H
    gradient, curvature, value = scratch.gradient, scratch.curvature, scratch.value
    g, new, diagonal = scratch.vectors[0], scratch.vectors[1], scratch.diagonal
    gather(rows, f, low, n, eta, here)
    row_derivatives(rows.code, y, trials, w, here, dispersion, value, gradient, curvature)
    accepted = 0
    for j in range(last - first):
        a = rows.start[at + first + j] - low
        m = rows.start[at + first + j + 1] - low - a
        x = window(b, rows.at_b[f] + (first + j) * p, p)
        definite = equations(rows, f, low, a, m, Q, x, gradient, curvature, scratch, H, g)
        ratio[j] = -math.inf
        for i in range(p):
            step[j * p + i] = 0.0
        if not definite:
            continue
        solve_lower(H, g, p)
        t = -total(value, a, m)
        if length > 0.0:
            gain = 0.0
            for i in range(p):
                gain += g[i] * g[i]
                g[i] *= length
            if gain < SETTLED:
                accepted += 1
                continue
        else:
            for i in range(p):
                z = rng.standard_normal()
                t += 0.5 * z * z
                diagonal[j * p + i] = H[i, i]
                g[i] += z
        solve_lower_transposed(H, g, p)
        for i in range(p):
            step[j * p + i] = g[i]
        ratio[j] = t - 0.5 * change_of_quadratic(Q, x, step, j * p, p)
    _propose(rows, f, first, last, here, scratch)
    row_derivatives(rows.code, y, trials, w, window(scratch.eta, 0, n), dispersion, value, gradient, curvature)
    for j in range(last - first):
        a = rows.start[at + first + j] - low
        m = rows.start[at + first + j + 1] - low - a
        t = ratio[j] + total(value, a, m)
        if not t > -math.inf:
            continue
        x = window(b, rows.at_b[f] + (first + j) * p, p)
        for i in range(p):
            new[i] = x[i] + step[j * p + i]
        ok = t > 0.0
        if not length > 0.0:
            if not equations(rows, f, low, a, m, Q, new, gradient, curvature, scratch, H, g):
                continue
            solve_lower(H, g, p)
            ok = -rng.standard_exponential() < t + reverse_density(H, g, step, j * p, p, diagonal)
        if ok:
            for i in range(p):
                x[i] = new[i]
            _scatter(rows, f, low + a, m, scratch.eta, a, eta)
            moved[j] += 1.0
            accepted += 1
    return accepted
