"""Average information of the covariance factors: the curvature that starts a descent, and that REML is famous for.

For y ~ N(X beta, V), V = R + Z T T' Z', and V_a = Z (E T' + T E') Z' the derivative in an entry of T,

    AI_ab = ½ y'P V_a P V_b P y = ½ q_a'P q_b,   q_a = V_a P y = R-weighted Z v_a,   v_a = E u + T E'(Z'R⁻¹ e),

e the residuals and u the whitened coefficients at their mode (Gilmour, Thompson & Cullis 1995, Biometrics 51). Each
P q costs one pass over the sums and one solve with the factor that is there anyway.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bayou._types import Array, Integers
from bayou.conditional.rows import whiten
from bayou.jit import kernel
from bayou.linalg.schur import Arrow, Border, Factor
from bayou.linalg.whitened import forward


@kernel
def scores(arrow: Arrow, b: Array, rest: Array, s: Array, s_rest: Array) -> None:
    """Fill s (J, p) and s_rest (R,) with Z'W(y − fit) of the eliminated factor and the rest; b, rest as fitted."""
    J, p = b.shape
    R = rest.shape[0]
    for i in range(R):
        t = arrow.d[i]
        for k in range(i + 1):
            t -= arrow.D[i, k] * rest[k]
        for k in range(i + 1, R):
            t -= arrow.D[k, i] * rest[k]
        s_rest[i] = t
    for j in range(J):
        first = arrow.start[j]
        m = arrow.start[j + 1] - first
        base = p * first
        for i in range(p):
            t = arrow.a[j, i]
            for k in range(p):
                t -= arrow.A[j, i, k] * b[j, k]
            for c in range(m):
                e = arrow.C[base + i * m + c]
                t -= e * rest[arrow.touch[first + c]]
                s_rest[arrow.touch[first + c]] -= e * b[j, i]
            s[j, i] = t


@kernel(inner=True)
def _direction(
    border: Border, T: Array, f: int, k: int, c: int, unit: float, u: Array, rest: Array, s: Array, s_rest: Array,
    v: Array, v_rest: Array,
) -> None:  # fmt: skip
    """Fill v_a of one entry (k, c) of factor f: v (J, p) if f is the eliminated one, else v_rest (R,)."""
    if f == 0:
        J, p = v.shape
        for j in range(J):
            for i in range(p):
                v[j, i] = unit * T[0, i, c] * s[j, k]
            v[j, k] += unit * u[j, c]
        return
    for i in range(v_rest.shape[0]):
        v_rest[i] = 0.0
    q = border.size[f - 1]
    for level in range(border.levels[f - 1]):
        at = border.start[f - 1] + level * q
        for i in range(q):
            v_rest[at + i] = unit * T[f, i, c] * s_rest[at + k]
        v_rest[at + k] += unit * rest[at + c]


@kernel(inner=True)
def _image(arrow: Arrow, f: int, v: Array, v_rest: Array, h: Array, g: Array) -> None:
    """Return Z'W Z v for all coefficients: h (J, p) and g (R,)."""
    J, p = v.shape
    R = v_rest.shape[0]
    for i in range(R):
        g[i] = 0.0
    if f > 0:
        for i in range(R):
            if v_rest[i] != 0.0:
                for k in range(i + 1):
                    g[k] += arrow.D[i, k] * v_rest[i]
                for k in range(i + 1, R):
                    g[k] += arrow.D[k, i] * v_rest[i]
    for j in range(J):
        first = arrow.start[j]
        m = arrow.start[j + 1] - first
        base = p * first
        for i in range(p):
            t = 0.0
            if f == 0:
                for k in range(p):
                    t += arrow.A[j, i, k] * v[j, k]
                for c in range(m):
                    g[arrow.touch[first + c]] += arrow.C[base + i * m + c] * v[j, i]
            else:
                for c in range(m):
                    t += arrow.C[base + i * m + c] * v_rest[arrow.touch[first + c]]
            h[j, i] = t


class Averages(NamedTuple):
    """Scratch of `average_information`, and what it returns."""

    b: Array  # (J, p) coefficients as fitted
    coloured: Array  # (R,)
    s: Array  # (J, p) scores
    s_rest: Array  # (R,)
    v: Array  # (J, p)
    v_rest: Array  # (R,)
    own: Array  # (2, d, J, p)
    shared: Array  # (2, d, R)
    information: Array  # (d, d) q_a'P q_b / 2 at unit residual variance
    mixed: Array  # (d,) q_a'Py / 2


def new_averages(u: Array, rest: Array, d: int) -> Averages:
    """Allocate for modes of these shapes and d parameters."""
    return Averages(
        b=np.zeros_like(u),
        coloured=np.zeros_like(rest),
        s=np.zeros_like(u),
        s_rest=np.zeros_like(rest),
        v=np.zeros_like(u),
        v_rest=np.zeros_like(rest),
        own=np.zeros((2, d, *u.shape)),
        shared=np.zeros((2, d, *rest.shape)),
        information=np.zeros((d, d)),
        mixed=np.zeros(d),
    )


@kernel
def average_information(
    arrow: Arrow,
    border: Border,
    factor: Factor,
    n: int,
    T: Array,
    which: Integers,
    row: Integers,
    column: Integers,
    unit: Array,
    u: Array,
    rest: Array,
    work: Averages,
) -> None:
    """Fill ``work.information`` and ``work.mixed`` for parameters that stand in T as `Parameters` says.

    ``u``, ``rest``: modes in whitened coordinates; the `scores` must be in ``work``; n columns of the rest take part.
    """
    s, s_rest, v, v_rest, own, shared = work.s, work.s_rest, work.v, work.v_rest, work.own, work.shared
    out, mixed = work.information, work.mixed
    d = unit.shape[0]
    J, p = u.shape
    R = rest.shape[0]
    for a in range(d):
        f, k, c = which[a], row[a], column[a]
        _direction(border, T, f, k, c, unit[a], u, rest, s, s_rest, v, v_rest)
        h, g = own[0, a], shared[0, a]
        _image(arrow, f, v, v_rest, h, g)
        t = 0.0
        if f == 0:
            for j in range(J):
                t += s[j, k] * u[j, c]
        else:
            q = border.size[f - 1]
            for level in range(border.levels[f - 1]):
                at = border.start[f - 1] + level * q
                t += s_rest[at + k] * rest[at + c]
        mixed[a] = unit[a] * t
        x, y = own[1, a], shared[1, a]
        for j in range(J):
            for i in range(p):
                x[j, i] = h[j, i]
        for i in range(R):
            y[i] = g[i]
        whiten(border, T, x, y)
        forward(arrow, factor, n, x, y)
    for b in range(d):
        f = which[b]
        _direction(border, T, f, row[b], column[b], unit[b], u, rest, s, s_rest, v, v_rest)
        for a in range(b + 1):
            t = 0.0
            for j in range(J):
                for i in range(p):
                    if f == 0:
                        t += v[j, i] * own[0, a, j, i]
                    t -= own[1, a, j, i] * own[1, b, j, i]
            for i in range(R):
                if f > 0:
                    t += v_rest[i] * shared[0, a, i]
                if i < n:
                    t -= shared[1, a, i] * shared[1, b, i]
            out[a, b] = 0.5 * t
            out[b, a] = 0.5 * t
