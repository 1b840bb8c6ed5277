"""Covariances where the Schur complement is sparse: what gradients and prediction errors read of its inverse.

The elements of V = S⁻¹ on the pattern of the factor (`bayou.linalg.selected`) include every pair of columns that one
level touches. So level j has all that it needs,

    Cov(u_j) = L⁻ᵀ (I + G V_j G') L⁻¹,   Cov(u_j, r_j) = −L⁻ᵀ G V_j,   Cov(r_j) = V_j,

V_j being V over the columns it touches (Takahashi, Fagan & Chen 1973).
"""

from __future__ import annotations

from bayou._types import Array, Integers
from bayou.conditional.adjoint import Adjoint, assembled, turned, whitened_row
from bayou.conditional.front import backward, forward
from bayou.conditional.front_layout import Front, Pieces
from bayou.conditional.mode import Point, System
from bayou.conditional.rows import Rows
from bayou.jit import kernel, window
from bayou.linalg.schur import Border
from bayou.linalg.selected import selected_inverse
from bayou.linalg.small import invert_lower


@kernel(inner=True, contract=True)
def _level_covariance(front: Front, pieces: Pieces, j: int) -> int:
    """Fill F with V_j (its lower triangle), and X, C, H and Y of level j; returns how many columns it touches."""
    p = pieces.u.shape[1]
    first = front.start[j]
    m = front.start[j + 1] - first - front.left
    base = p * (first - j * front.left)
    X, C, H, Y, V = pieces.X, pieces.C, pieces.H, pieces.Y, pieces.F
    places = window(front.place, front.pair[j], m * (m + 1) // 2)
    for k in range(m * (m + 1) // 2):
        V[k] = pieces.inverse[places[k]]
    invert_lower(pieces.L[j], X, p)
    for i in range(p):
        for t in range(m):
            s = 0.0
            for k in range(i, p):
                s += X[k, i] * pieces.G[base + k * m + t]
            H[i, t] = s
            Y[i, t] = 0.0
    at = 0
    for t in range(m):
        for i in range(p):
            h, s = H[i, t], 0.0
            for c in range(t):
                s += H[i, c] * V[at + c]
                Y[i, c] += h * V[at + c]
            Y[i, t] += s + h * V[at + t]
        at += t + 1
    for i in range(p):
        for k in range(i + 1):
            s = 0.0
            for e in range(i, p):
                s += X[e, i] * X[e, k]
            for t in range(m):
                s += Y[i, t] * H[k, t]
            C[i, k] = s
            C[k, i] = s
    return m


@kernel(inner=True)
def _leverage(z: Array, slot: Integers, i: int, p: int, q: int, pieces: Pieces) -> float:
    """a'H⁻¹a of a whitened row z, whose level's covariances are at hand."""
    C, Y, V = pieces.C, pieces.Y, pieces.F
    h = 0.0
    for k in range(p):
        for e in range(k):
            h += 2.0 * z[k] * z[e] * C[k, e]
        h += z[k] * z[k] * C[k, k]
        for e in range(q):
            h -= 2.0 * z[k] * z[p + e] * Y[k, slot[i, e]]
    for k in range(q):
        s = slot[i, k]
        at = s * (s + 1) // 2
        t = 0.5 * z[p + k] * V[at + s]
        for e in range(k):
            t += z[p + e] * V[at + slot[i, e]]
        h += 2.0 * z[p + k] * t
    return h


@kernel(inner=True)
def _own_moments(border: Border, front: Front, pieces: Pieces, M: Array) -> None:
    """Fill M[1:] with Σ Cov(u_j) over the levels of the other factors."""
    at = 0
    for f in range(border.start.shape[0]):
        size = border.size[f]
        for i in range(size):
            for k in range(size):
                M[f + 1, i, k] = 0.0
        for _ in range(border.levels[f]):
            for i in range(size):
                for k in range(i + 1):
                    M[f + 1, i, k] += pieces.inverse[front.own[at]]
                    at += 1
        for i in range(size):
            for k in range(i):
                M[f + 1, k, i] = M[f + 1, i, k]


@kernel
def covariances(
    rows: Rows, border: Border, T: Array, q: int, front: Front, pieces: Pieces, M: Array, leverage: Array
) -> None:
    """M (K, p, p) <- Σ_j Cov(u_j) of every factor, and leverage (n,) <- a'H⁻¹a of every row, if it is not empty."""
    J, p = pieces.u.shape
    selected_inverse(front.symbolic, pieces.sparse, pieces.inverse)
    for i in range(M.shape[1]):
        for k in range(M.shape[2]):
            M[0, i, k] = 0.0
    for j in range(J):
        _level_covariance(front, pieces, j)
        for i in range(p):
            for k in range(p):
                M[0, i, k] += pieces.C[i, k]
        if leverage.shape[0] > 0:
            for i in range(rows.start[j], rows.start[j + 1]):
                whitened_row(rows, border, T, i, p, q, pieces.z)
                leverage[i] = _leverage(pieces.z, rows.slot, i, p, q, pieces)
    _own_moments(border, front, pieces, M)


@kernel
def variances(border: Border, T: Array, front: Front, pieces: Pieces, own: Array, rest: Array) -> None:
    """Prediction error variances of b = T u: own (J, p), rest (R,), the fixed effects' where they take part."""
    J, p = pieces.u.shape
    V = pieces.inverse
    selected_inverse(front.symbolic, pieces.sparse, V)
    for j in range(J):
        _level_covariance(front, pieces, j)
        for i in range(p):
            s = 0.0
            for k in range(i + 1):
                for e in range(i + 1):
                    s += T[0, i, k] * pieces.C[k, e] * T[0, i, e]
            own[j, i] = s
    at = 0
    for f in range(border.start.shape[0]):
        size = border.size[f]
        for level in range(border.levels[f]):
            for i in range(size):
                s = 0.0
                for k in range(i + 1):
                    for e in range(i + 1):
                        place = at + max(k, e) * (max(k, e) + 1) // 2 + min(k, e)
                        s += T[f + 1, i, k] * V[front.own[place]] * T[f + 1, i, e]
                rest[border.start[f] + level * size + i] = s
            at += size * (size + 1) // 2
    for i in range(border.fixed, front.symbolic.n):
        rest[i] = V[front.symbolic.start[front.symbolic.inverse[i]]]


@kernel(entry=True)
def gradient(
    system: System, point: Point, work: Adjoint, T: Array, dispersion: float, q: int, front: Front, pieces: Pieces
) -> None:
    """Fill ``work.eta`` and ``work.T`` at the mode, as `bayou.conditional.adjoint.gradient` does for a dense S.

    The leverages and moments of `covariances` must be there.
    """
    turned(system, point, work, T, dispersion, q)
    forward(front, pieces, work.v, work.v_rest, pieces.x)
    backward(front, pieces, pieces.x, work.v, work.v_rest)
    assembled(system, point, work, T, q)
