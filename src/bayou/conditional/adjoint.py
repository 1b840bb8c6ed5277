"""The gradient of a Laplace approximation, every term of it.

f = l(eta) − ½ u'u − ½ log|H|, H = T'Z'WZT + I at the mode u. Writing a for a row of Z T (and X, if the fixed effects
are integrated), h = a'H⁻¹a for its leverage, w' = dw/deta, and

    t = −½ h w',   v = H⁻¹ Σ a t   (how the log determinant moves the mode),

the derivative of f in what a row's eta is given is l' + t − w a'v; in an entry of T it is that times z u', plus
z l' v', plus the explicit part −½ d log|H|; in a dispersion Σ dl − ½ h dw + (a'v) dl' (Skaug & Fournier 2006, *Comp.
Stat. Data Anal.* 51, have the scheme; the mode enters only through the log determinant).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from bayou._types import Array
from bayou.conditional.mode import Point, System
from bayou.conditional.rows import Rows, colour, predictor, project, whiten
from bayou.families.slopes import dispersion_slopes, row_slopes
from bayou.jit import kernel
from bayou.linalg.covariances import Inverse, divided, level_covariance, second_moments
from bayou.linalg.schur import Arrow, Border, Factor
from bayou.linalg.whitened import backward, forward


class Adjoint(NamedTuple):
    """What the gradient is made of, and scratch."""

    inverse: Inverse
    leverage: Array  # (n,)
    t: Array  # (n,)
    av: Array  # (n,) a'v
    eta: Array  # (n,) derivative of f in what a row's eta is given
    v: Array  # (J, p)
    v_rest: Array  # (R,)
    b: Array  # (J, p)
    coloured: Array  # (R,)
    by_eta: Array  # (J, p) Z'd_eta
    by_eta_rest: Array  # (R,)
    score: Array  # (J, p) Z'l'
    score_rest: Array  # (R,)
    moments: Array  # (K, p, p)
    T: Array  # (K, p, p) the gradient in T
    rows: Array  # (3, n) derivatives in the dispersion
    z: Array  # (p + q,) a whitened row
    by_level: Array  # (n,) derivative of f in log dispersion, row by row


def new_adjoint(shapes: dict[str, Any], inverse: Inverse, row: int) -> Adjoint:
    """Allocate; shapes as in `bayou.conditional.mode.new_point`, with those of the factors "K"."""
    sizes = {"v": "Jp", "b": "Jp", "by_eta": "Jp", "score": "Jp", "v_rest": "R", "coloured": "R", "by_eta_rest": "R"}
    sizes |= {"score_rest": "R", "moments": "K", "T": "K"}
    arrays: dict[str, Any] = {name: np.zeros(shapes[sizes.get(name, "n")]) for name in Adjoint._fields}
    own: dict[str, Any] = {"inverse": inverse, "rows": np.zeros((3, shapes["n"])), "z": np.zeros(row)}
    return Adjoint(**{**arrays, **own})


@kernel
def whitened_row(rows: Rows, border: Border, T: Array, i: int, p: int, q: int, z: Array) -> None:
    """Fill z with row i of Z T and of the first q columns of the rest, whitened likewise."""
    for k in range(p):
        t = 0.0
        for e in range(k, p):
            t += rows.Z[i, e] * T[0, e, k]
        z[k] = t
    at = 0
    for f in range(border.start.shape[0]):
        size = border.size[f]
        for k in range(size):
            t = 0.0
            for e in range(k, size):
                t += rows.others[i, at + e] * T[f + 1, e, k]
            z[p + at + k] = t
        at += size
    for k in range(at, q):
        z[p + k] = rows.others[i, k]


@kernel
def leverages(
    rows: Rows, arrow: Arrow, border: Border, factor: Factor, n: int, q: int, T: Array, inverse: Inverse, z: Array,
    out: Array,
) -> None:  # fmt: skip
    """Out (n,) <- a'H⁻¹a of every row."""
    J, p = arrow.a.shape
    for j in range(rows.start.shape[0] - 1):
        if j < J:
            level_covariance(arrow, factor, n, j, inverse)
        for i in range(rows.start[j], rows.start[j + 1]):
            whitened_row(rows, border, T, i, p, q, z)
            h = 0.0
            for k in range(p):
                for e in range(k):
                    h += 2.0 * z[k] * z[e] * inverse.C[k, e]
                h += z[k] * z[k] * inverse.C[k, k]
                for e in range(q):
                    h -= 2.0 * z[k] * z[p + e] * inverse.Y[k, rows.slot[i, e]]
            for k in range(q):
                row = rows.column[i, k]
                for e in range(k):
                    h += 2.0 * z[p + k] * z[p + e] * inverse.V[row, rows.column[i, e]]
                h += z[p + k] * z[p + k] * inverse.V[row, row]
            out[i] = h


@kernel
def turned(system: System, point: Point, work: Adjoint, T: Array, dispersion: float, q: int) -> None:
    """Fill t from the leverages, and v with the whitened right-hand side Σ a t."""
    row_slopes(system.code, system.y, system.trials, system.weights, point.eta, dispersion, work.t)
    for i in range(point.eta.shape[0]):
        work.t[i] *= -0.5 * work.leverage[i]
        work.av[i] = 0.0
    project(system.rows, work.t, q, work.v, work.v_rest)
    whiten(system.border, T, work.v, work.v_rest)


@kernel
def assembled(system: System, point: Point, work: Adjoint, T: Array, q: int) -> None:
    """Fill ``work.eta`` and ``work.T``, v solved for and the covariances Σ_j Cov(u_j) in ``work.moments``."""
    rows, border, M = system.rows, system.border, work.moments
    J, p = point.u.shape
    colour(border, T, work.v, work.v_rest, work.b, work.coloured)
    predictor(rows, work.b, work.coloured, q, work.av)
    for i in range(point.eta.shape[0]):
        work.eta[i] = point.gradient[i] + work.t[i] - point.weight[i] * work.av[i]
    project(rows, work.eta, q, work.by_eta, work.by_eta_rest)
    project(rows, point.gradient, q, work.score, work.score_rest)
    for i in range(p):
        M[0, i, i] -= J
    for f in range(border.start.shape[0]):
        for i in range(border.size[f]):
            M[f + 1, i, i] -= border.levels[f]
    for f in range(M.shape[0]):
        divided(T, f, p if f == 0 else border.size[f - 1], M, work.T)
    for j in range(J):
        for k in range(p):
            for c in range(k + 1):
                work.T[0, k, c] += work.by_eta[j, k] * point.u[j, c] + work.score[j, k] * work.v[j, c]
    for f in range(border.start.shape[0]):
        size = border.size[f]
        for level in range(border.levels[f]):
            at = border.start[f] + level * size
            for k in range(size):
                for c in range(k + 1):
                    work.T[f + 1, k, c] += (
                        work.by_eta_rest[at + k] * point.rest[at + c] + work.score_rest[at + k] * work.v_rest[at + c]
                    )


@kernel(entry=True)
def gradient(system: System, point: Point, work: Adjoint, T: Array, dispersion: float, n: int, q: int) -> None:
    """Fill ``work.eta`` and ``work.T`` at the mode; the inverse of the Schur complement must be in ``work.inverse``."""
    rows, arrow, border, factor = system.rows, system.arrow, system.border, system.factor
    leverages(rows, arrow, border, factor, n, q, T, work.inverse, work.z, work.leverage)
    turned(system, point, work, T, dispersion, q)
    forward(arrow, factor, n, work.v, work.v_rest)
    backward(arrow, factor, n, work.v, work.v_rest)
    second_moments(arrow, border, factor, n, work.inverse, work.moments)
    assembled(system, point, work, T, q)


@kernel
def dispersion_gradient(system: System, point: Point, work: Adjoint, dispersion: float) -> None:
    """Fill ``work.by_level`` with each row's part of df / d log(dispersion)."""
    dispersion_slopes(
        system.code, system.y, system.weights, point.eta, dispersion, work.rows[0], work.rows[1], work.rows[2]
    )
    for i in range(point.eta.shape[0]):
        work.by_level[i] = work.rows[0, i] - 0.5 * work.leverage[i] * work.rows[2, i] + work.av[i] * work.rows[1, i]
