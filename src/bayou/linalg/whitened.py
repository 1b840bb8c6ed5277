"""The arrow system of `schur` in whitened coordinates, where a covariance may be singular.

With b_j = T u_j, u_j ~ N(0, I), for the levels of every factor (T lower triangular, one per factor), the unknowns
(u, beta) have precision

    M = T' Z'WZ T + I   (beside it X'WX + P and T' Z'WX),

which is well conditioned however small T is: a variance of zero is a number like any other (Bates et al. 2015,
*J. Stat. Software* 67(1), section 3). The eliminated factor comes first, then the coefficients of the others, the
fixed effects last; `n` counts the columns of the rest that take part: all R of them, or R − P when the fixed
effects are given.
"""

from __future__ import annotations

import math

from bayou._types import Array, Integers
from bayou.jit import kernel, window
from bayou.linalg.schur import Arrow, Border, Factor
from bayou.linalg.small import (
    cholesky,
    cholesky_leading,
    log_determinant,
    solve_lower,
    solve_lower_transposed,
)


@kernel(inner=True)
def _factor_at(border: Border, f: int, column: int) -> int:
    """Return the factor (1 …) whose coefficients stand at this column of the rest; 0 for a fixed effect."""
    if column >= border.fixed:
        return 0
    while f < border.start.shape[0] and column >= border.start[f]:
        f += 1
    return f


@kernel
def whiten_rest(arrow: Arrow, border: Border, w: float, T: Array, n: int, S: Array) -> None:
    """S <- W' (w D) W + identity or prior precision: the rest's own part, lower triangle, before elimination."""
    for i in range(n):
        for k in range(i + 1):
            S[i, k] = w * arrow.D[i, k]
    for f in range(border.start.shape[0]):
        q = border.size[f]
        for level in range(border.levels[f]):
            at = border.start[f] + level * q
            # whole diagonal block for the two products
            for i in range(q):
                for k in range(i + 1, q):
                    S[at + i, at + k] = S[at + k, at + i]
            for i in range(at, n):
                for c in range(q):
                    t = 0.0
                    for e in range(c, q):
                        t += S[i, at + e] * T[f + 1, e, c]
                    S[i, at + c] = t
            for k in range(at + q):
                for c in range(q):
                    t = 0.0
                    for e in range(c, q):
                        t += T[f + 1, e, c] * S[at + e, k]
                    S[at + c, k] = t
            for i in range(q):
                S[at + i, at + i] += 1.0
    for i in range(n - border.fixed):
        for k in range(i + 1):
            S[border.fixed + i, border.fixed + k] += border.precision[i, k]


@kernel
def whiten_linear(arrow: Arrow, border: Border, w: float, T: Array, n: int, v: Array) -> None:
    """V <- W' (w d), with the prior's linear term for the fixed effects: the right-hand side of the rest."""
    for i in range(n):
        v[i] = w * arrow.d[i]
    for f in range(border.start.shape[0]):
        q = border.size[f]
        for level in range(border.levels[f]):
            at = border.start[f] + level * q
            for c in range(q):
                t = 0.0
                for e in range(c, q):
                    t += T[f + 1, e, c] * v[at + e]
                v[at + c] = t
    for i in range(n - border.fixed):
        v[border.fixed + i] += border.linear[i]


@kernel(inner=True)
def whiten_level(arrow: Arrow, border: Border, w: float, T: Array, j: int, m: int, G: Array) -> None:
    """Row block of level j in G <- T' (w C_j) W, its first m columns; the stride stays that of C."""
    p = arrow.a.shape[1]
    first = arrow.start[j]
    stride = arrow.start[j + 1] - first
    base = p * first
    for c in range(p):
        row = window(G, base + c * stride, m)
        for e in range(c, p):
            own, x = window(arrow.C, base + e * stride, m), w * T[0, e, c]
            for t in range(m):
                row[t] = x * own[t] if e == c else row[t] + x * own[t]
    t = 0
    f = 0
    while t < m:
        f = _factor_at(border, f, arrow.touch[first + t])
        if f == 0:
            break  # fixed effects stand last and are not whitened
        q = border.size[f - 1]
        for c in range(p):
            row = base + c * stride + t
            for k in range(q):
                s = 0.0
                for e in range(k, q):
                    s += G[row + e] * T[f, e, k]
                G[row + k] = s
        t += q


@kernel(inner=True, contract=True)
def take_off(g: Array, touch: Integers, u: float, S: Array, v: Array) -> None:
    """S <- S − g g' and v <- v − g u, where g stands at the columns ``touch`` (ascending); lower triangle."""
    m = g.shape[0]
    low = touch[0]
    if touch[m - 1] - low == m - 1:
        # the level touches a stretch without gaps: loops that become vector instructions
        for t in range(m):
            x = g[t]
            v[low + t] -= x * u
            row = window(S, (low + t) * S.shape[1] + low, m)
            for c in range(t + 1):
                row[c] -= x * g[c]
        return
    for t in range(m):
        x, place = g[t], touch[t]
        v[place] -= x * u
        row = window(S, place * S.shape[1], place + 1)
        for c in range(t + 1):
            row[touch[c]] -= x * g[c]


@kernel(inner=True, contract=True)
def _pivot(A: Array, a: Array, w: float, T: Array, j: int, p: int, L: Array, u: Array) -> float:
    """L_j <- factor of T'(w A_j) T + I, u_j <- L_j⁻¹ T'(w a_j); returns the determinant, 0 if there is none.

    One and two coefficients, nearly all there are, in registers.
    """
    if p == 1:
        t = T[0, 0, 0]
        d = w * t * t * A[j, 0, 0] + 1.0
        if not d > 0.0:
            return 0.0
        root = math.sqrt(d)
        L[j, 0, 0] = root
        u[j, 0] = w * t * a[j, 0] / root
        return d
    if p == 2:
        t, s, r = T[0, 0, 0], T[0, 1, 0], T[0, 1, 1]
        x, y, z = A[j, 0, 0], A[j, 1, 0], A[j, 1, 1]
        d = w * (t * t * x + 2.0 * t * s * y + s * s * z) + 1.0
        if not d > 0.0:
            return 0.0
        root = math.sqrt(d)
        below = w * r * (t * y + s * z) / root
        e = w * r * r * z + 1.0 - below * below
        if not e > 0.0:
            return 0.0
        L[j, 0, 0], L[j, 1, 0], L[j, 1, 1] = root, below, math.sqrt(e)
        first = w * (t * a[j, 0] + s * a[j, 1]) / root
        u[j, 0] = first
        u[j, 1] = (w * r * a[j, 1] - below * first) / L[j, 1, 1]
        return d * e
    for i in range(p):
        s = 0.0
        for e in range(i, p):
            s += T[0, e, i] * a[j, e]
        u[j, i] = w * s
        for k in range(i + 1):
            s = 1.0 if i == k else 0.0
            for e in range(i, p):
                t = 0.0
                for c in range(k, p):
                    t += A[j, e, c] * T[0, c, k]
                s += w * T[0, e, i] * t
            L[j, i, k] = s
    if p > 0:
        if not cholesky(L[j], L[j], p):
            return 0.0
        solve_lower(L[j], u[j], p)
    total = 1.0
    for i in range(p):
        total *= L[j, i, i] * L[j, i, i]
    return total


@kernel
def eliminate(arrow: Arrow, border: Border, w: float, T: Array, n: int, out: Factor) -> tuple[bool, float, float]:
    """Take the levels out of the whitened precision: ``out.S`` and ``out.v`` are what they leave of the rest's system.

    Returns (ok, log determinant of the pivots, squares of the forward-solved right-hand sides). Of systems that share
    the rest, S and v add up (the prior of the rest in one of them).
    """
    J, p = arrow.a.shape
    L, S, u, G, v = out.L, out.S, out.u, out.G, out.v
    left = arrow.d.shape[0] - n  # columns of the rest that take no part
    whiten_rest(arrow, border, w, T, n, S)
    whiten_linear(arrow, border, w, T, n, v)
    log_det = 0.0
    squares = 0.0
    for j in range(J):
        pivot = _pivot(arrow.A, arrow.a, w, T, j, p, L, u)
        if not pivot > 0.0:
            return False, 0.0, 0.0
        log_det += math.log(pivot)
        first = arrow.start[j]
        stride = arrow.start[j + 1] - first
        m = stride - left
        base = p * first
        whiten_level(arrow, border, w, T, j, m, G)
        for i in range(p):
            squares += u[j, i] * u[j, i]
            row = window(G, base + i * stride, m)
            for k in range(i):
                above, x = window(G, base + k * stride, m), L[j, i, k]
                for t in range(m):
                    row[t] -= x * above[t]
            inverse = 1.0 / L[j, i, i]
            for t in range(m):
                row[t] *= inverse
        if m == 0:
            continue
        for i in range(p):
            take_off(window(G, base + i * stride, m), window(arrow.touch, first, m), u[j, i], S, v)
    return True, log_det, squares


@kernel
def factorise_whitened(
    arrow: Arrow, border: Border, w: float, T: Array, n: int, out: Factor
) -> tuple[bool, float, float, float]:
    """Factorise the whitened precision of u and the first n columns of the rest.

    Returns (ok, log determinant of u's part, of what the fixed effects add, m'm) with m the forward-solved
    right-hand side: the minimum of the penalised squares is w y'Wy − m'm.
    """
    S, v = out.S, out.v
    P = border.precision.shape[0]
    ok, log_det, squares = eliminate(arrow, border, w, T, n, out)
    if not ok:
        return False, 0.0, 0.0, 0.0
    log_det_fixed = 0.0
    if n > 0:
        if not cholesky_leading(S, n):
            return False, 0.0, 0.0, 0.0
        effects = min(n, arrow.d.shape[0] - P)
        log_det += log_determinant(S, effects)
        log_det_fixed = log_determinant(S, n) - log_determinant(S, effects)
        solve_lower(S, v, n)
        for i in range(n):
            squares += v[i] * v[i]
    return True, log_det, log_det_fixed, squares


@kernel
def forward_levels(arrow: Arrow, factor: Factor, n: int, h: Array, g: Array) -> float:
    """Overwrite h (J, p) with its forward solution, and take its part off g (R,); returns the sum of squares."""
    J, p = h.shape
    left = g.shape[0] - n
    squares = 0.0
    for j in range(J):
        solve_lower(factor.L[j], h[j], p)
        first = arrow.start[j]
        stride = arrow.start[j + 1] - first
        base = p * first
        for i in range(p):
            t = h[j, i]
            squares += t * t
            for c in range(stride - left):
                g[arrow.touch[first + c]] -= t * factor.G[base + i * stride + c]
    return squares


@kernel
def backward_levels(arrow: Arrow, factor: Factor, n: int, h: Array, g: Array) -> None:
    """Overwrite forward solutions h (J, p) with those of the whole system, whose rest is g (R,)."""
    J, p = h.shape
    left = g.shape[0] - n
    for j in range(J):
        first = arrow.start[j]
        stride = arrow.start[j + 1] - first
        base = p * first
        for i in range(p):
            t = h[j, i]
            for c in range(stride - left):
                t -= factor.G[base + i * stride + c] * g[arrow.touch[first + c]]
            h[j, i] = t
        solve_lower_transposed(factor.L[j], h[j], p)


@kernel
def forward(arrow: Arrow, factor: Factor, n: int, h: Array, g: Array) -> float:
    """Overwrite right-hand sides h (J, p) and g (R,) with their forward solutions; returns the sum of squares."""
    squares = forward_levels(arrow, factor, n, h, g)
    solve_lower(factor.S, g, n)
    for i in range(n):
        squares += g[i] * g[i]
    return squares


@kernel
def backward(arrow: Arrow, factor: Factor, n: int, h: Array, g: Array) -> None:
    """Overwrite forward solutions with those of the transposed system: after `forward`, h and g solve M x = (h, g)."""
    solve_lower_transposed(factor.S, g, n)
    backward_levels(arrow, factor, n, h, g)


@kernel
def modes(arrow: Arrow, factor: Factor, n: int, u: Array, rest: Array) -> None:
    """Solve for u (J, p) and the rest (R,) at the factorised right-hand side; the rest is zero from column n on."""
    J, p = u.shape
    for i in range(rest.shape[0]):
        rest[i] = factor.v[i] if i < n else 0.0
    for j in range(J):
        for i in range(p):
            u[j, i] = factor.u[j, i]
    backward(arrow, factor, n, u, rest)


@kernel
def centre_at(arrow: Arrow, factor: Factor, n: int, u: Array, rest: Array) -> None:
    """Set the forward-solved right-hand side to that whose solution is u (J, p) and rest (R,)."""
    J, p = u.shape
    left = rest.shape[0] - n
    for i in range(n):
        t = 0.0
        for k in range(i, n):
            t += factor.S[k, i] * rest[k]
        factor.v[i] = t
    for j in range(J):
        first = arrow.start[j]
        stride = arrow.start[j + 1] - first
        base = p * first
        for i in range(p):
            t = 0.0
            for k in range(i, p):
                t += factor.L[j, k, i] * u[j, k]
            for c in range(stride - left):
                t += factor.G[base + i * stride + c] * rest[arrow.touch[first + c]]
            factor.u[j, i] = t
