"""The mixed-model equations with a Schur complement that is never formed: S = T − G'G, applied to vectors.

In whitened coordinates T is the other factors' and the fixed effects' own part, Σ w_i z_i z_i' + identity, and G_j the
row block that eliminating level j of the largest factor leaves. Both grow with the rows alone. The preconditioner is
the diagonal blocks of S, one for each level of the other factors and one for the fixed effects.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayou._types import Array, Integers
from bayou.conditional.adjoint import whitened_row
from bayou.conditional.rows import Rows
from bayou.jit import kernel, window
from bayou.linalg.iterative import Operator, Preconditioner, Run, both_triangles, new_preconditioner, new_run
from bayou.linalg.schur import Border
from bayou.linalg.small import cholesky, invert_lower, solve_lower, solve_lower_transposed

STEPS = 1_000  # of conjugate gradients


class Unformed(NamedTuple):
    """The system over the first n columns of the rest: layout, numbers, scratch."""

    operator: Operator  # T by rows, both triangles, and G
    made: Preconditioner
    run: Run
    lower: Array  # T's lower triangle by columns
    pointer: Integers  # (n + 1,) of its columns
    mirror: Integers  # where each element of the whole T stands in the triangle
    place: Integers  # (n rows, pairs) of the products of a row's other columns, lower triangle, in ``lower``
    fixed: Integers  # (1,) columns of the fixed effects that take part
    L: Array  # (J, p, p)
    u: Array  # (J, p) forward-solved right-hand side
    v: Array  # (n,) right-hand side of S
    z: Array  # (p + q,)
    X: Array  # (p, p)


def new_unformed(rows: Rows, start: Integers, touch: Integers, border: Border, n: int, p: int) -> Unformed:
    """Lay the system out over the first n columns of the rest: all of them, or all but the fixed effects."""
    free = border.fixed
    fixed = n - free
    left = len(border.linear) - fixed
    if left:
        stays = touch < free
        start = np.concatenate([[0], np.cumsum(np.diff(start) - left)]).astype(np.int64)
        touch = touch[stays]
    q = rows.others.shape[1] - len(border.linear)
    keys = []
    for at, levels, size in zip(border.start, border.levels, border.size, strict=True):
        i, k = np.tril_indices(size)
        first = at + size * np.arange(levels, dtype=np.int64)
        keys.append(((first[:, None] + k) * n + first[:, None] + i).ravel())
    i, k = np.tril_indices(q)
    pairs = rows.column[:, k] * n + rows.column[:, i]
    keys.append(np.unique(pairs[:, i != k]))
    keys.append((np.arange(free)[:, None] * n + free + np.arange(fixed)).ravel())
    a, b = np.tril_indices(fixed)
    keys.append((free + b) * n + free + a)
    known = np.unique(np.concatenate(keys))
    column, row = known // n, known % n
    pointer = np.concatenate([[0], np.cumsum(np.bincount(column, minlength=n))]).astype(np.int64)
    indptr, indices, mirror = both_triangles(pointer, row.astype(np.int64))
    J = len(start) - 1
    operator = Operator(indptr, indices, np.zeros(len(indices)), p, start, touch, np.zeros(int(p * start[-1])))
    ends = zip(border.start, border.levels, border.size, strict=True)
    blocks = [np.arange(at, at + size * levels, size) for at, levels, size in ends]
    if fixed:
        blocks.append(np.array([free]))
    return Unformed(
        operator=operator,
        made=new_preconditioner(operator, np.concatenate(blocks).astype(np.int64)),
        run=new_run(n, STEPS),
        lower=np.zeros(len(known)),
        pointer=pointer,
        mirror=mirror.astype(np.int64),
        place=np.searchsorted(known, pairs).astype(np.int64),
        fixed=np.array([fixed], dtype=np.int64),
        L=np.zeros((J, p, p)),
        u=np.zeros((J, p)),
        v=np.zeros(n),
        z=np.zeros(p + q + len(border.linear)),
        X=np.zeros((p, p)),
    )


@kernel(inner=True)
def _add_row(system: Unformed, rows: Rows, border: Border, i: int, p: int, q: int, w: float, z: Array) -> None:
    """Add w z z' of a whitened row to T's triangle; q of its numbers stand in the rest."""
    fixed = system.fixed[0]
    own = q - fixed
    lower, pointer = system.lower, system.pointer
    at = 0
    for k in range(own):
        x = w * z[p + k]
        for e in range(k + 1):
            lower[system.place[i, at]] += x * z[p + e]
            at += 1
        # the fixed effects' rows end each column
        end = pointer[rows.column[i, k] + 1] - fixed
        for e in range(fixed):
            lower[end + e] += x * z[p + own + e]
    for k in range(fixed):
        x = w * z[p + own + k]
        at = pointer[border.fixed + k]
        for e in range(k, fixed):
            lower[at + e - k] += x * z[p + own + e]


@kernel
def eliminate(
    rows: Rows, border: Border, T: Array, w: Array, r: Array, q: int, system: Unformed
) -> tuple[bool, float]:
    """Fill L, G, u, T and the right-hand side v at weights w (n,) and working residuals r (n,).

    Returns whether every level is definite, and the log determinant of their part.
    """
    J, p = system.u.shape
    start, touch, lower, v, z = system.operator.start, system.operator.touch, system.lower, system.v, system.z
    for k in range(lower.shape[0]):
        lower[k] = 0.0
    for i in range(v.shape[0]):
        v[i] = 0.0
    log_det, product = 0.0, 1.0
    for j in range(J):
        first = start[j]
        m = start[j + 1] - first
        L, u = system.L[j], system.u[j]
        G = window(system.operator.G, p * first, p * m)
        for k in range(p):
            u[k] = 0.0
            for e in range(p):
                L[k, e] = 1.0 if k == e else 0.0
        for k in range(p * m):
            G[k] = 0.0
        for i in range(rows.start[j], rows.start[j + 1]):
            whitened_row(rows, border, T, i, p, q, z)
            _add_row(system, rows, border, i, p, q, w[i], z)
            for k in range(q):
                v[rows.column[i, k]] += z[p + k] * r[i]
            for k in range(p):
                x = w[i] * z[k]
                u[k] += z[k] * r[i]
                for e in range(k + 1):
                    L[k, e] += x * z[e]
                for e in range(q):
                    G[k * m + rows.slot[i, e]] += x * z[p + e]
        if not cholesky(L, L, p):
            return False, 0.0
        solve_lower(L, u, p)
        for i in range(p):
            product *= L[i, i]
            if not 1e-100 < product < 1e100:
                log_det += math.log(product)
                product = 1.0
            for t in range(m):
                g = G[i * m + t]
                for k in range(i):
                    g -= L[i, k] * G[k * m + t]
                g /= L[i, i]
                G[i * m + t] = g
                v[touch[first + t]] -= g * u[i]
    for i in range(min(v.shape[0], border.fixed)):
        lower[system.pointer[i]] += 1.0
    for i in range(system.fixed[0]):
        v[border.fixed + i] += border.linear[i]
        at = system.pointer[border.fixed + i]
        for e in range(i, system.fixed[0]):
            lower[at + e - i] += border.precision[e, i]
    values = system.operator.values
    for k in range(values.shape[0]):
        values[k] = lower[system.mirror[k]]
    return True, 2.0 * (log_det + math.log(product))


@kernel
def forward_levels(system: Unformed, h: Array, g: Array) -> None:
    """Forward-solve the levels' part h (J, p) in place, and take it off the rest's, g (R,)."""
    J, p = h.shape
    start, touch, G = system.operator.start, system.operator.touch, system.operator.G
    for j in range(J):
        solve_lower(system.L[j], h[j], p)
        first = start[j]
        m = start[j + 1] - first
        for i in range(p):
            for c in range(m):
                g[touch[first + c]] -= h[j, i] * G[p * first + i * m + c]


@kernel
def backward_levels(system: Unformed, h: Array, g: Array) -> None:
    """Solve the levels' transposed system in place, h (J, p), given the rest g (R,)."""
    J, p = h.shape
    start, touch, G = system.operator.start, system.operator.touch, system.operator.G
    for j in range(J):
        first = start[j]
        m = start[j + 1] - first
        for i in range(p):
            t = h[j, i]
            for c in range(m):
                t -= G[p * first + i * m + c] * g[touch[first + c]]
            h[j, i] = t
        solve_lower_transposed(system.L[j], h[j], p)


@kernel
def estimate(
    rows: Rows, border: Border, T: Array, q: int, system: Unformed, x: Array, y: Array, scratch: Array, M: Array,
    leverage: Array, own: Array, rest: Array,
) -> None:  # fmt: skip
    """Estimate covariances by S⁻¹ ≈ mean of x_k y_k', x and y (n, probes) with E x y' = S⁻¹.

    M (K, p, p) <- Σ_j Cov(u_j); leverage (n,) <- a'H⁻¹a of every row; own (J, p) and rest (n,) <- variances of the
    coefficients b = T u. The last three are left alone when empty. ``scratch`` is (2, p, probes).
    """
    J, p = system.u.shape
    count = x.shape[1]
    start, touch, G = system.operator.start, system.operator.touch, system.operator.G
    X, z, s, t = system.X, system.z, scratch[0], scratch[1]
    for f in range(M.shape[0]):
        for i in range(M.shape[1]):
            for k in range(M.shape[2]):
                M[f, i, k] = 0.0
    for j in range(J):
        first = start[j]
        m = start[j + 1] - first
        invert_lower(system.L[j], X, p)
        for i in range(p):
            for k in range(count):
                s[i, k] = 0.0
                t[i, k] = 0.0
            for c in range(m):
                h = 0.0
                for k in range(i, p):
                    h += X[k, i] * G[p * first + k * m + c]
                at = touch[first + c]
                for k in range(count):
                    s[i, k] += h * x[at, k]
                    t[i, k] += h * y[at, k]
        for i in range(p):
            for k in range(p):
                a = 0.0
                for e in range(max(i, k), p):
                    a += X[e, i] * X[e, k]
                b = 0.0
                for e in range(count):
                    b += s[i, e] * t[k, e] + s[k, e] * t[i, e]
                a += 0.5 * b / count
                M[0, i, k] += a
                if own.shape[0] > 0:
                    # row i of T times Cov, entry by entry
                    for d in range(max(i, k), p):
                        own[j, d] += T[0, d, i] * a * T[0, d, k]
        if leverage.shape[0] > 0:
            for i in range(rows.start[j], rows.start[j + 1]):
                whitened_row(rows, border, T, i, p, q, z)
                h = 0.0
                for k in range(p):
                    a = 0.0
                    for e in range(k + 1):
                        a += X[k, e] * z[e]
                    h += a * a
                b = 0.0
                for e in range(count):
                    one, other = 0.0, 0.0
                    for k in range(q):
                        at = rows.column[i, k]
                        one += z[p + k] * x[at, e]
                        other += z[p + k] * y[at, e]
                    for k in range(p):
                        one -= z[k] * s[k, e]
                        other -= z[k] * t[k, e]
                    b += one * other
                leverage[i] = h + b / count
    for f in range(border.start.shape[0]):
        size = border.size[f]
        for level in range(border.levels[f]):
            at = border.start[f] + level * size
            for i in range(size):
                for k in range(size):
                    b = 0.0
                    for e in range(count):
                        b += x[at + i, e] * y[at + k, e] + x[at + k, e] * y[at + i, e]
                    b *= 0.5 / count
                    M[f + 1, i, k] += b
                    if rest.shape[0] > 0:
                        for d in range(max(i, k), size):
                            rest[at + d] += T[f + 1, d, i] * b * T[f + 1, d, k]
