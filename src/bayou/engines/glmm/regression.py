"""The rows of a model as the Metropolis kernels see them, and the two products that every proposal needs.

A group's coefficients and the fixed effects enter the rows alike: eta grows by Z step, and a Gaussian
approximation needs Z'WZ and Z'gradient. Columns are stored one after the other, so that both are loops along
the rows that become vector instructions.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from bayou._types import Array, Integers
from bayou.families.rows import LANES
from bayou.jit import kernel, window

FEW = 48  # rows up to which a group's sums are taken in one pass, without vector instructions


class Rows(NamedTuple):
    """The rows, once in the order of each factor's levels; master order is that of the first factor.

    What is the same for all rows is stored for one batch only, and its step is 0: row i reads element i x step.
    """

    code: int
    y: Array  # (K, n)
    trials: Array  # (K, n), or (1, m) of one batch
    trials_step: int
    weights_step: int  # of `State.weights`
    master: Integers  # (K − 1, n) master row of each row in the order of the second factor, the third, …
    first: Integers  # (K,) where a factor's starts begin
    start: Integers  # rows of level l of factor k: start[first[k] + l] to the next
    at_Z: Integers  # (K,)
    Z: Array  # flat, (p_k, n) column by column, rows in factor order
    at_b: Integers  # (K,)
    levels: Integers  # (K,)
    sizes: Integers  # (K,)
    X: Array  # flat, (P, n) column by column, master order
    shift: Array  # (P,) taken off the columns of X wherever they are used
    offset: Array  # (n,) master order, or (1,)
    offset_step: int


class Scratch(NamedTuple):
    """Buffers of one chain."""

    eta: Array  # (m,) a proposed linear predictor of a batch of levels, m at least LANES; (n,) with several factors
    gradient: Array  # (m,)
    curvature: Array  # (m,)
    value: Array  # (m,) log likelihoods of rows
    here: Array  # (m,) linear predictor of a batch of levels
    weighted: Array  # (m,)
    columns: Array  # (P LANES,) centred columns of X of so many rows
    step: Array  # (LANES p,) of a batch of levels
    diagonal: Array  # (LANES p,) of the factors of a batch of levels
    ratio: Array  # (LANES,)
    work: Array  # (LANES,) for the row kernels
    H: Array  # (p, p)
    vectors: Array  # (2, p)


@kernel(inner=True, contract=True)
def total(x: Array, low: int, n: int) -> float:
    """Sum of x[low : low + n], in four lanes."""
    part = window(x, low, n)
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    fours = n >> 2
    for q in range(fours):
        r = 4 * q
        a += part[r]
        b += part[r + 1]
        c += part[r + 2]
        d += part[r + 3]
    for r in range(4 * fours, n):
        a += part[r]
    return (a + b) + (c + d)


@kernel(inner=True, contract=True)
def _product(x: Array, z: Array, n: int) -> float:
    """X'z, in four lanes."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    fours = n >> 2
    for q in range(fours):
        r = 4 * q
        a += x[r] * z[r]
        b += x[r + 1] * z[r + 1]
        c += x[r + 2] * z[r + 2]
        d += x[r + 3] * z[r + 3]
    for r in range(4 * fours, n):
        a += x[r] * z[r]
    return (a + b) + (c + d)


@kernel(inner=True, contract=True)
def add_columns(Z: Array, at: int, stride: int, n: int, p: int, step: Array, at_step: int, eta: Array) -> None:
    """Eta <- eta + Z step over n rows; column i of Z begins at ``at + i stride``."""
    for i in range(p):
        s = step[at_step + i]
        z = window(Z, at + i * stride, n)
        for r in range(n):
            eta[r] += z[r] * s


@kernel(inner=True, contract=True)
def add_normal_equations(
    Z: Array,
    at: int,
    stride: int,
    n: int,
    p: int,
    gradient: Array,
    curvature: Array,
    weighted: Array,
    H: Array,
    g: Array,
) -> None:
    """H <- H + Z'WZ (lower triangle), g <- g + Z'gradient over n rows; columns of Z as in `add_columns`."""
    for i in range(p):
        z = window(Z, at + i * stride, n)
        g[i] += _product(gradient, z, n)
        for r in range(n):
            # a row that is convex here (log link, Gaussian response) adds nothing to the precision
            weighted[r] = max(curvature[r], 0.0) * z[r]
        for k in range(i + 1):
            H[i, k] += _product(weighted, window(Z, at + k * stride, n), n)


@kernel(inner=True)
def centred_columns(rows: Rows, low: int, n: int, columns: Array) -> None:
    """Columns (P, LANES) <- the working columns of the fixed effects in n rows from ``low`` on."""
    N = rows.y.shape[1]
    for k in range(rows.shift.shape[0]):
        x, s, out = window(rows.X, k * N + low, n), rows.shift[k], window(columns, k * LANES, n)
        for r in range(n):
            out[r] = x[r] - s


@kernel(inner=True)
def add_fixed(rows: Rows, low: int, n: int, step: Array, columns: Array, eta: Array) -> None:
    """Eta <- eta + X step over n rows from ``low`` on, which are the n of ``eta``."""
    P = rows.shift.shape[0]
    for a in range(0, n, LANES):
        m = min(LANES, n - a)
        centred_columns(rows, low + a, m, columns)
        add_columns(columns, 0, LANES, m, P, step, 0, window(eta, a, m))


@kernel(inner=True)
def quadratic(Q: Array, x: Array, p: int) -> float:
    """X'Qx."""
    t = 0.0
    for i in range(p):
        s = 0.5 * Q[i, i] * x[i]
        for k in range(i):
            s += Q[i, k] * x[k]
        t += 2.0 * x[i] * s
    return t


@kernel(inner=True)
def change_of_quadratic(Q: Array, x: Array, step: Array, at: int, p: int) -> float:
    """(x + step)'Q(x + step) − x'Qx, the step standing at ``at``."""
    t = 0.0
    for i in range(p):
        s = 0.0
        for k in range(p):
            s += Q[i, k] * (2.0 * x[k] + step[at + k])
        t += step[at + i] * s
    return t


@kernel(inner=True)
def reverse_density(H: Array, g: Array, step: Array, at: int, p: int, diagonal: Array) -> float:
    """Log density of the step back: N(H'⁻¹ g, (H H')⁻¹) at −step, with g = H⁻¹ gradient.

    Up to a constant, and with one logarithm: relative to the determinant of a factor with this ``diagonal``.
    """
    t = 0.0
    determinant = 1.0
    for i in range(p):
        s = -g[i]
        for k in range(i, p):
            s -= H[k, i] * step[at + k]
        t -= 0.5 * s * s
        determinant *= H[i, i] / diagonal[at + i]
    return t + math.log(determinant)
