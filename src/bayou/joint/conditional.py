"""Coordinates that are about standard normal given the hyperparameters and the data, whatever the hyperparameters are.

Of a level with prior b = L u, u standard normal, let −½ b'Wb + b'r be about the log likelihood, W and r taken at the
posterior mode. Given theta, u is then N(A⁻¹ L'r, A⁻¹) with A = I + L'WL = C C', so that z in

    u = C'⁻¹ (z + C⁻¹ L'r),       log p(z) = constant − ½ u'u − log|C|,

is standard normal given theta and the data as far as the parabola holds; the density is exact whatever W and r are.
Where the data say nothing (W = 0) z is whitened, where they say all it is b in its own units. Large blocks, built
after the others, let r fall with fixed effects and the coefficients k of small blocks by V k. A coordinate of a
structure on a basis is a level with one coefficient. Sources: the idea is that of conditioning block by block, as
in Betancourt & Girolami (2015), Hamiltonian Monte Carlo for hierarchical models, and Papaspiliopoulos, Roberts &
Sköld (2007); the derivative of a factor is that of Murray (2016), Differentiation of the Cholesky decomposition.
"""

from __future__ import annotations

import math

from bayou._types import Array
from bayou.jit import kernel, window
from bayou.joint.tables import Parts, Work
from bayou.linalg.small import cholesky, solve_lower, solve_lower_transposed

__all__ = [
    "build_level",
    "build_one",
    "fill_right",
    "give_back",
    "normal_of",
    "pull_level",
    "pull_one",
]


@kernel(inner=True)
def fill_right(parts: Parts, work: Work, c: int, count: int) -> None:
    """Fill r of an effect's coefficients, for where fixed effects and other coefficients are."""
    P, first = work.printed.shape[0], parts.cross_at[c]
    right = window(work.right, parts.start[c] - P, count)
    for i in range(count):
        t = parts.right[parts.right_at[c] + i]
        if first >= 0:
            for e in range(parts.cross_start[first + i], parts.cross_start[first + i + 1]):
                k = parts.cross_column[e]
                t -= parts.cross[e] * (work.beta[k] if k < P else work.u[k - P])
        right[i] = t


@kernel(inner=True)
def give_back(parts: Parts, work: Work, c: int, count: int) -> None:
    """Add to the slopes of fixed effects and other coefficients what r, whose slope stands in its place, does."""
    P, first = work.printed.shape[0], parts.cross_at[c]
    if first < 0:
        return
    slope = window(work.right, parts.start[c] - P, count)
    for i in range(count):
        for e in range(parts.cross_start[first + i], parts.cross_start[first + i + 1]):
            k = parts.cross_column[e]
            t = parts.cross[e] * slope[i]
            if k < P:
                work.side[k] -= t
            else:
                work.u_slope[k - P] -= t


# ---- one coefficient -----------------------------------------------------------------------


@kernel(inner=True)
def build_one(z: float, sd: float, curvature: float, right: float) -> tuple[float, float]:
    """Return u and the log density, without constant."""
    A = 1.0 + sd * sd * curvature
    u = z / math.sqrt(A) + sd * right / A
    return u, -0.5 * (u * u + math.log(A))


@kernel(inner=True)
def normal_of(u: float, sd: float, curvature: float, right: float) -> float:
    """Return z."""
    A = 1.0 + sd * sd * curvature
    return (u - sd * right / A) * math.sqrt(A)


@kernel(inner=True)
def pull_one(
    z: float, sd: float, curvature: float, right: float, u: float, given: float
) -> tuple[float, float, float]:
    """Return slopes by z, by log sd and by r from that by the coefficient sd u."""
    more = sd * sd * curvature
    A = 1.0 + more
    C = math.sqrt(A)
    by_u = given * sd - u
    by_log = given * sd * u + by_u * (sd * right / A * (1.0 - more) - z * more / C) / A - more / A
    return by_u / C, by_log, by_u * sd / A


# ---- several ------------------------------------------------------------------------------


@kernel(inner=True)
def build_level(
    p: int, L: Array, curvature: Array, corner: Array, at: int, right: Array, z: Array, u: Array, small: Array
) -> float:
    """Fill C and u of one level; returns the log density, without constant."""
    W, C, A = window(curvature, at, p * p), window(corner, at, p * p), small[0]
    for i in range(p):
        for k in range(i + 1):
            t = 1.0 if i == k else 0.0
            for a in range(i, p):
                for b in range(k, p):
                    t += L[a, i] * W[a * p + b] * L[b, k]
            A[i, k] = t
    if not cholesky(A, A, p):
        return -math.inf
    total = 0.0
    for i in range(p):
        for k in range(i + 1):
            C[i * p + k] = A[i, k]
        t = 0.0
        for a in range(i, p):
            t += L[a, i] * right[a]
        u[i] = t
        total -= math.log(A[i, i])
    solve_lower(A, u, p)
    for i in range(p):
        u[i] += z[i]
    solve_lower_transposed(A, u, p)
    for i in range(p):
        total -= 0.5 * u[i] * u[i]
    return total


@kernel(inner=True)
def pull_level(
    p: int,
    L: Array,
    G: Array,
    curvature: Array,
    corner: Array,
    at: int,
    right: Array,
    z: Array,
    u: Array,
    given: Array,
    out: Array,
    line: Array,
    small: Array,
) -> None:
    """Fill the slope by z, put that by r in its place, and add to G that by L; ``given`` is that by L u."""
    W, flat = window(curvature, at, p * p), window(corner, at, p * p)
    C, K, S = small[0], small[1], small[2]
    for i in range(p):
        for k in range(i + 1):
            C[i, k] = flat[i * p + k]
    for k in range(p):
        t = -u[k]
        for i in range(k, p):
            t += L[i, k] * given[i]
        out[k] = t
    solve_lower(C, out, p)
    for k in range(p):
        line[k] = out[k]
    solve_lower_transposed(C, line, p)  # the slope by L'r
    # K <- that by C, lower: −u out' − line h' and −1 / C_aa, h = C'u − z
    for b in range(p):
        h = -z[b]
        for a in range(b, p):
            h += C[a, b] * u[a]
        for a in range(b, p):
            K[a, b] = -u[a] * out[b] - line[a] * h - (1.0 / C[a, a] if a == b else 0.0)
    # S <- C'⁻¹ Phi(C'K) C⁻¹, Phi the lower triangle with half its diagonal
    for a in range(p):
        for b in range(p):
            t = 0.0
            if a >= b:
                for i in range(a, p):
                    t += C[i, a] * K[i, b]
            S[a, b] = 0.5 * t if a == b else t
    for b in range(p):
        for a in range(p - 1, -1, -1):
            t = S[a, b]
            for i in range(a + 1, p):
                t -= C[i, a] * S[i, b]
            S[a, b] = t / C[a, a]
    for a in range(p):
        for b in range(p - 1, -1, -1):
            t = S[a, b]
            for i in range(b + 1, p):
                t -= S[a, i] * C[i, b]
            S[a, b] = t / C[b, b]
    # G += given u' + r line' + W L (S + S')
    for i in range(p):
        for k in range(p):
            t = 0.0
            for j in range(k + 1):
                t += L[k, j] * (S[j, i] + S[i, j])
            K[k, i] = t
    for i in range(p):
        for k in range(i + 1):
            t = given[i] * u[k] + right[i] * line[k]
            for a in range(p):
                t += W[i * p + a] * K[a, k]
            G[i, k] += t
    for i in range(p - 1, -1, -1):
        t = 0.0
        for k in range(i + 1):
            t += L[i, k] * line[k]
        right[i] = t
