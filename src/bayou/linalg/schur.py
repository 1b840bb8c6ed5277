"""Gaussian systems of arrow shape: many small blocks on one factor, a dense border for the rest.

The unknowns are b_1 … b_J (p each, the levels of the eliminated factor) and the rest r (R of them:
the coefficients of the other factors, then the fixed effects). With w = 1/sigma²,

    log p = −½ Σ_j b_j'(w A_j + Q) b_j − w Σ_j b_j' C_j r − ½ r'(w D + P) r + w Σ_j b_j'a_j + r'(w d + h)

up to a constant; A_j, C_j, D, a_j, d are sums over rows (Z'WZ, Z'WX, …), Q, P, h come from the prior.
Each b_j is eliminated with a p x p Cholesky, which leaves the dense Schur complement for r; level j
touches only the columns ``touch[start[j]:start[j+1]]`` of the rest. One grouping factor alone costs
O(J p³ + J p² P), whatever the number of rows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bayou._types import Array, Integers
from bayou.jit import kernel
from bayou.linalg.small import (
    cholesky,
    cholesky_in_place,
    log_determinant,
    solve_lower,
    solve_lower_transposed,
)


class Arrow(NamedTuple):
    """The sums over rows that a Gaussian likelihood needs."""

    A: Array  # (J, p, p)
    a: Array  # (J, p)
    start: Integers  # (J + 1,)
    touch: Integers  # (nnz,) columns of the rest, by level
    C: Array  # (p nnz,) level j: p rows of m_j numbers, from p start[j] on
    D: Array  # (R, R)
    d: Array  # (R,)


class Border(NamedTuple):
    """The prior of the rest: where the other factors stand, and the fixed effects' precision."""

    start: Integers  # (K − 1,) first column of each further factor
    levels: Integers  # (K − 1,)
    size: Integers  # (K − 1,) coefficients a level
    fixed: int  # first column of the fixed effects
    precision: Array  # (P, P)
    linear: Array  # (P,) precision times prior mean


class Factor(NamedTuple):
    """A factorisation: scratch of one chain, rewritten by `factorise`."""

    L: Array  # (J, p, p) lower factors of w A_j + Q
    G: Array  # (p nnz,) L_j⁻¹ w C_j
    u: Array  # (J, p) L_j⁻¹ w a_j
    S: Array  # (R, R) lower factor of the Schur complement
    v: Array  # (R,) its forward-solved right-hand side


def new_factor(arrow: Arrow) -> Factor:
    """Return the scratch arrays that `factorise` fills for this system."""
    return Factor(
        np.zeros_like(arrow.A),
        np.zeros_like(arrow.C),
        np.zeros_like(arrow.a),
        np.zeros_like(arrow.D),
        np.zeros_like(arrow.d),
    )


@kernel
def factorise(arrow: Arrow, border: Border, w: float, Q: Array, out: Factor) -> tuple[bool, float, float]:
    """Factorise at precisions Q (K, p, p) and weight w.

    Returns (ok, log determinant of the whole precision, m'm), m the forward-solved right-hand side:
    the integral over all unknowns is exp(½ m'm − ½ logdet) times constants.
    """
    J, p = arrow.a.shape
    R = arrow.d.shape[0]
    L, S, u, G, v = out.L, out.S, out.u, out.G, out.v
    A, a, C, D, touch = arrow.A, arrow.a, arrow.C, arrow.D, arrow.touch
    for i in range(R):
        for k in range(i + 1):
            S[i, k] = w * D[i, k]
        v[i] = w * arrow.d[i]
    for f in range(border.start.shape[0]):
        q = border.size[f]
        for level in range(border.levels[f]):
            at = border.start[f] + level * q
            for i in range(q):
                for k in range(i + 1):
                    S[at + i, at + k] += Q[f + 1, i, k]
    at = border.fixed
    for i in range(border.precision.shape[0]):
        for k in range(i + 1):
            S[at + i, at + k] += border.precision[i, k]
        v[at + i] += border.linear[i]
    log_det = 0.0
    squares = 0.0
    for j in range(J):
        for i in range(p):
            for k in range(i + 1):
                L[j, i, k] = w * A[j, i, k] + Q[0, i, k]
            u[j, i] = w * a[j, i]
        if not cholesky(L[j], L[j], p):
            return False, 0.0, 0.0
        log_det += log_determinant(L[j], p)
        solve_lower(L[j], u[j], p)
        first = arrow.start[j]
        m = arrow.start[j + 1] - first
        base = p * first
        for i in range(p):
            squares += u[j, i] * u[j, i]
            inverse = 1.0 / L[j, i, i]
            for t in range(m):
                g = w * C[base + i * m + t]
                for k in range(i):
                    g -= L[j, i, k] * G[base + k * m + t]
                G[base + i * m + t] = g * inverse
        for t in range(m):
            row = touch[first + t]
            for i in range(p):
                g = G[base + i * m + t]
                v[row] -= g * u[j, i]
                for c in range(t + 1):
                    S[row, touch[first + c]] -= g * G[base + i * m + c]
    if R > 0:
        if not cholesky_in_place(S):
            return False, 0.0, 0.0
        log_det += log_determinant(S, R)
        solve_lower(S, v, R)
        for i in range(R):
            squares += v[i] * v[i]
    return True, log_det, squares


@kernel
def draw_scaled(
    arrow: Arrow, factor: Factor, rest: Array, b: Array, known: int, scale: float, rng: np.random.Generator
) -> None:
    """Draw (rest, b) from the factorised Gaussian, its standard deviations multiplied by ``scale``.

    The last ``known`` numbers of ``rest`` are taken as given (they were drawn from their own marginal,
    see `trailing_marginal`), the others and b are drawn given them.
    """
    J, p = b.shape
    R = rest.shape[0]
    S, v, u, G, L, touch = factor.S, factor.v, factor.u, factor.G, factor.L, arrow.touch
    free = R - known
    for i in range(free):
        t = v[i] + scale * rng.standard_normal()
        for k in range(free, R):
            t -= S[k, i] * rest[k]
        rest[i] = t
    for i in range(free - 1, -1, -1):
        t = rest[i] / S[i, i]
        rest[i] = t
        for k in range(i):
            rest[k] -= S[i, k] * t
    for j in range(J):
        first = arrow.start[j]
        m = arrow.start[j + 1] - first
        base = p * first
        for i in range(p):
            t = u[j, i] + scale * rng.standard_normal()
            for c in range(m):
                t -= G[base + i * m + c] * rest[touch[first + c]]
            b[j, i] = t
        solve_lower_transposed(L[j], b[j], p)


@kernel
def draw(arrow: Arrow, factor: Factor, rest: Array, b: Array, known: int, rng: np.random.Generator) -> None:
    """Draw (rest, b) from the factorised Gaussian; see `draw_scaled`."""
    draw_scaled(arrow, factor, rest, b, known, 1.0, rng)


@kernel(inner=True)
def trailing_marginal(factor: Factor, known: int, precision: Array, linear: Array) -> None:
    """Precision and linear term of the last ``known`` numbers of the rest, all else integrated out."""
    free = factor.v.shape[0] - known
    for i in range(known):
        h = 0.0
        for k in range(i + 1):
            t = 0.0
            for c in range(k + 1):
                t += factor.S[free + i, free + c] * factor.S[free + k, free + c]
            precision[i, k] = t
            precision[k, i] = t
        for c in range(i + 1):
            h += factor.S[free + i, free + c] * factor.v[free + c]
        linear[i] = h
