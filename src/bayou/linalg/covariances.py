"""Posterior covariances of a whitened arrow system: what gradients and prediction errors need of the inverse.

With Lj L_j' the pivot of level j, G_j its row of the factor and V the inverse of the Schur complement,

    Cov(u_j, u_j) = L_j⁻ᵀ (I + G_j V G_j') L_j⁻¹,   Cov(u_j, rest) = −L_j⁻ᵀ G_j V,   Cov(rest) = V

(Takahashi, Fagan & Chen 1973, for this shape): only the elements where level j touches the rest are formed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bayou._types import Array
from bayou.jit import kernel
from bayou.linalg.schur import Arrow, Border, Factor
from bayou.linalg.small import invert_lower

TILE = 32
BY_HAND = 64  # columns up to which loops invert as fast as LAPACK is called


class Inverse(NamedTuple):
    """Scratch of the covariances of one level, and the inverse of the Schur complement."""

    V: Array  # (R, R) symmetric
    X: Array  # (p, p) L_j⁻¹
    C: Array  # (p, p) Cov(u_j)
    H: Array  # (p, m) L_j⁻ᵀ G_j
    Y: Array  # (p, m) H V: minus Cov(u_j, rest)


def new_inverse(arrow: Arrow) -> Inverse:
    """Allocate for this system."""
    p, R = arrow.a.shape[1], arrow.d.shape[0]
    m = int(np.diff(arrow.start).max(initial=0))
    return Inverse(np.zeros((R, R)), np.zeros((p, p)), np.zeros((p, p)), np.zeros((p, m)), np.zeros((p, m)))


@kernel
def invert_by_hand(S: Array, n: int, V: Array) -> None:
    """V <- (S S')⁻¹ of the leading n rows and columns, both triangles."""
    invert_lower(S, V, n)
    # V's lower triangle holds S⁻¹; its own product overwrites it row by row from the top
    for i in range(n):
        for j in range(i + 1):
            t = 0.0
            for k in range(i, n):
                t += V[k, i] * V[k, j]
            V[i, j] = t
    for i in range(n):
        for j in range(i):
            V[j, i] = V[i, j]


@kernel
def both_triangles(lower: Array, n: int, V: Array) -> None:
    """V <- the symmetric matrix whose lower triangle is given, tile by tile as a cache likes it."""
    for low in range(0, n, TILE):
        for left in range(0, low + TILE, TILE):
            for i in range(low, min(low + TILE, n)):
                for k in range(left, min(left + TILE, i + 1)):
                    V[i, k] = lower[i, k]
                    V[k, i] = lower[i, k]


def invert(S: Array, n: int, V: Array) -> None:
    """V <- (S S')⁻¹ of the leading n rows and columns, both triangles, at any size."""
    if n <= BY_HAND:
        invert_by_hand(S, n, V)
        return
    from scipy.linalg.lapack import dpotri

    # what LAPACK reads by columns is the transpose: its upper factor
    inverse, _ = dpotri(S[:n, :n].T, lower=0)
    both_triangles(inverse.T, n, V)


@kernel
def level_covariance(arrow: Arrow, factor: Factor, n: int, j: int, out: Inverse) -> int:
    """Fill X, C, H and Y for level j; returns how many columns of the rest it touches."""
    p = arrow.a.shape[1]
    first = arrow.start[j]
    stride = arrow.start[j + 1] - first
    m = stride - (arrow.d.shape[0] - n)
    base = p * first
    invert_lower(factor.L[j], out.X, p)
    for t in range(m):
        for i in range(p):
            s = 0.0
            for k in range(i, p):
                s += out.X[k, i] * factor.G[base + k * stride + t]
            out.H[i, t] = s
    for t in range(m):
        row = arrow.touch[first + t]
        for i in range(p):
            s = 0.0
            for c in range(m):
                s += out.H[i, c] * out.V[row, arrow.touch[first + c]]
            out.Y[i, t] = s
    for i in range(p):
        for k in range(i + 1):
            s = 0.0
            for e in range(i, p):
                s += out.X[e, i] * out.X[e, k]
            for t in range(m):
                s += out.Y[i, t] * out.H[k, t]
            out.C[i, k] = s
            out.C[k, i] = s
    return m


@kernel
def second_moments(arrow: Arrow, border: Border, factor: Factor, n: int, inverse: Inverse, out: Array) -> None:
    """Out (K, p, p) <- Σ_j Cov(u_j) of every factor."""
    J, p = arrow.a.shape
    for f in range(out.shape[0]):
        for i in range(out.shape[1]):
            for k in range(out.shape[2]):
                out[f, i, k] = 0.0
    for j in range(J):
        level_covariance(arrow, factor, n, j, inverse)
        for i in range(p):
            for k in range(p):
                out[0, i, k] += inverse.C[i, k]
    for f in range(border.start.shape[0]):
        q = border.size[f]
        for level in range(border.levels[f]):
            at = border.start[f] + level * q
            for i in range(q):
                for k in range(q):
                    out[f + 1, i, k] += inverse.V[at + i, at + k]


@kernel
def variances(
    arrow: Arrow, border: Border, factor: Factor, n: int, inverse: Inverse, T: Array, own: Array, rest: Array
) -> None:
    """Prediction error variances of the coefficients themselves, b = T u: own (J, p), rest (R,).

    The fixed effects have theirs in the last columns of ``rest``; columns from n on are left alone.
    """
    J, p = arrow.a.shape
    for j in range(J):
        level_covariance(arrow, factor, n, j, inverse)
        for i in range(p):
            s = 0.0
            for k in range(i + 1):
                for e in range(i + 1):
                    s += T[0, i, k] * inverse.C[k, e] * T[0, i, e]
            own[j, i] = s
    for f in range(border.start.shape[0]):
        q = border.size[f]
        for level in range(border.levels[f]):
            at = border.start[f] + level * q
            for i in range(q):
                s = 0.0
                for k in range(i + 1):
                    for e in range(i + 1):
                        s += T[f + 1, i, k] * inverse.V[at + k, at + e] * T[f + 1, i, e]
                rest[at + i] = s
    for i in range(border.fixed, n):
        rest[i] = inverse.V[i, i]


@kernel
def divided(T: Array, f: int, p: int, M: Array, out: Array) -> None:
    """Out <- T⁻ᵀ M for the p x p leading parts of factor f."""
    for c in range(p):
        for i in range(p - 1, -1, -1):
            t = M[f, i, c]
            for k in range(i + 1, p):
                t -= T[f, k, i] * out[f, k, c]
            out[f, i, c] = t / T[f, i, i]


__all__ = [
    "Inverse",
    "divided",
    "invert",
    "invert_by_hand",
    "level_covariance",
    "new_inverse",
    "second_moments",
    "variances",
]
