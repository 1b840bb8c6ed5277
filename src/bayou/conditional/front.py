"""Mixed-model equations whose Schur complement is sparse: one pass over the rows, level by level of the largest factor.

In whitened coordinates the precision of (u, r), r the coefficients of the other factors and the fixed effects, is
Σ_i w_i z_i z_i' + identity. Its part of level j, over the p coefficients of the level and the m columns of r that it
touches, is gathered in a small dense matrix

    [A_j  C_j ]          A_j = L L',  G_j = L⁻¹ C_j,   F_j <- F_j − G_j'G_j
    [C_j' F_j ],

the level is eliminated there, and what is left is added to the Schur complement S where it belongs: the first
generation of fronts of a multifrontal Cholesky factorisation (Duff & Reid 1983, ACM TOMS 9), whose later ones are
those of `bayou.linalg.sparse`. Nothing dense of the size of r is formed.
"""

from __future__ import annotations

import math

from bayou._types import Array
from bayou.conditional.adjoint import whitened_row
from bayou.conditional.front_layout import Front, Pieces
from bayou.conditional.rows import Rows
from bayou.jit import kernel, window
from bayou.linalg import sparse
from bayou.linalg.schur import Border
from bayou.linalg.small import cholesky, solve_lower, solve_lower_transposed


@kernel(inner=True, contract=True)
def _gather(
    rows: Rows, w: Array, r: Array, low: int, high: int, p: int, q: int, m: int, border: Border, T: Array, A: Array,
    a: Array, C: Array, F: Array, d: Array, z: Array,
) -> None:  # fmt: skip
    """Fill A (lower triangle), a, C (p rows of m), F and d with the sums of one level's whitened rows."""
    for k in range(p):
        a[k] = 0.0
        for e in range(k + 1):
            A[k, e] = 0.0
    for k in range(p * m):
        C[k] = 0.0
    for k in range(m * (m + 1) // 2):
        F[k] = 0.0
    for k in range(m):
        d[k] = 0.0
    for i in range(low, high):
        whitened_row(rows, border, T, i, p, q, z)
        weight, left = w[i], r[i]
        for k in range(p):
            x = weight * z[k]
            a[k] += left * z[k]
            for e in range(k + 1):
                A[k, e] += x * z[e]
            for e in range(q):
                C[k * m + rows.slot[i, e]] += x * z[p + e]
        for k in range(q):
            x, s = weight * z[p + k], rows.slot[i, k]
            d[s] += left * z[p + k]
            s = s * (s + 1) // 2
            for e in range(k + 1):
                F[s + rows.slot[i, e]] += x * z[p + e]


@kernel(inner=True, contract=True)
def _eliminate_level(L: Array, u: Array, G: Array, F: Array, d: Array, p: int, m: int) -> None:
    """G <- L⁻¹ G, and its part taken off F and d; u is forward-solved."""
    for i in range(p):
        inverse = 1.0 / L[i, i]
        row = window(G, i * m, m)
        for k in range(i):
            x, above = L[i, k], window(G, k * m, m)
            for t in range(m):
                row[t] -= x * above[t]
        for t in range(m):
            row[t] *= inverse
        at = 0
        for t in range(m):
            x = row[t]
            d[t] -= x * u[i]
            target = window(F, at, t + 1)
            for c in range(t + 1):
                target[c] -= x * row[c]
            at += t + 1


@kernel
def eliminate(
    rows: Rows, border: Border, T: Array, w: Array, r: Array, q: int, front: Front, pieces: Pieces
) -> tuple[bool, float]:
    """Fill L, G, u and S with its right-hand side v at weights w (n,) and working residuals r (n,).

    Returns whether every level is definite, and the log determinant of their part.
    """
    J, p = pieces.u.shape
    S, v, F, d = pieces.sparse.values, pieces.v, pieces.F, pieces.d
    n = v.shape[0]
    for k in range(S.shape[0]):
        S[k] = 0.0
    for i in range(n):
        v[i] = 0.0
    log_det, product = 0.0, 1.0
    for j in range(J):
        first = front.start[j]
        m = front.start[j + 1] - first - front.left
        G = window(pieces.G, p * (first - j * front.left), p * m)
        L, u = pieces.L[j], pieces.u[j]
        _gather(rows, w, r, rows.start[j], rows.start[j + 1], p, q, m, border, T, L, u, G, F, d, pieces.z)
        for i in range(p):
            L[i, i] += 1.0
        if not cholesky(L, L, p):
            return False, 0.0
        for i in range(p):
            # one logarithm for many pivots
            product *= L[i, i]
            if not 1e-100 < product < 1e100:
                log_det += math.log(product)
                product = 1.0
        solve_lower(L, u, p)
        _eliminate_level(L, u, G, F, d, p, m)
        places = window(front.place, front.pair[j], m * (m + 1) // 2)
        for k in range(m * (m + 1) // 2):
            S[places[k]] += F[k]
        for t in range(m):
            v[front.touch[first + t]] += d[t]
    for i in range(min(n, border.fixed)):
        S[front.symbolic.start[front.symbolic.inverse[i]]] += 1.0
    if front.left == 0:
        k = 0
        for i in range(border.precision.shape[0]):
            v[border.fixed + i] += border.linear[i]
            for e in range(i + 1):
                S[front.fixed[k]] += border.precision[i, e]
                k += 1
    return True, 2.0 * (log_det + math.log(product))


@kernel
def factorise(
    rows: Rows, border: Border, T: Array, w: Array, r: Array, q: int, front: Front, pieces: Pieces
) -> tuple[bool, float, float]:
    """Eliminate and factorise S; returns (ok, log determinant of the effects' part, of what the fixed effects add)."""
    ok, log_det = eliminate(rows, border, T, w, r, q, front, pieces)
    if not ok:
        return False, 0.0, 0.0
    symbolic = front.symbolic
    if not sparse.factorise_in_place(symbolic, pieces.sparse):
        return False, 0.0, 0.0
    own, fixed = 0.0, 0.0
    for k in range(symbolic.n):
        t = math.log(pieces.sparse.values[symbolic.start[k]])
        if k < border.fixed:
            own += t
        else:
            fixed += t
    sparse.forward(symbolic, pieces.sparse, pieces.v, pieces.x)
    return True, log_det + 2.0 * own, 2.0 * fixed


@kernel
def forward(front: Front, pieces: Pieces, h: Array, g: Array, x: Array) -> None:
    """Forward-solve right-hand sides h (J, p), in place, and g (R,), overwritten, into x (n,) by elimination."""
    J, p = h.shape
    for j in range(J):
        solve_lower(pieces.L[j], h[j], p)
        first = front.start[j]
        m = front.start[j + 1] - first - front.left
        base = p * (first - j * front.left)
        for i in range(p):
            t = h[j, i]
            for c in range(m):
                g[front.touch[first + c]] -= t * pieces.G[base + i * m + c]
    sparse.forward(front.symbolic, pieces.sparse, g, x)


@kernel
def backward_levels(front: Front, pieces: Pieces, h: Array, g: Array) -> None:
    """Solve the levels' transposed system in place, h (J, p), given the rest g (R,)."""
    J, p = h.shape
    for j in range(J):
        first = front.start[j]
        m = front.start[j + 1] - first - front.left
        base = p * (first - j * front.left)
        for i in range(p):
            t = h[j, i]
            for c in range(m):
                t -= pieces.G[base + i * m + c] * g[front.touch[first + c]]
            h[j, i] = t
        solve_lower_transposed(pieces.L[j], h[j], p)


@kernel
def backward(front: Front, pieces: Pieces, x: Array, h: Array, g: Array) -> None:
    """Solve the transposed system: x (n,), overwritten, and h (J, p) are forward solutions; g (R,) is zero beyond n."""
    for i in range(x.shape[0], g.shape[0]):
        g[i] = 0.0
    sparse.backward(front.symbolic, pieces.sparse, x, g)
    backward_levels(front, pieces, h, g)


@kernel
def modes(front: Front, pieces: Pieces, u: Array, rest: Array) -> None:
    """Solve for u (J, p) and r (R,) at the right-hand side of the factorisation."""
    J, p = u.shape
    for j in range(J):
        for i in range(p):
            u[j, i] = pieces.u[j, i]
    backward(front, pieces, pieces.x, u, rest)
