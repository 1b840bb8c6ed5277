"""A few rows with the sums of many: the corners of a simplex, spread along a root of a cell's cross products.

A cell of n rows with weights w, W = Σ w, mean m and cross products S = Σ w (x − m)(x − m)' = L D L' of rank r becomes
r + 1 rows of weight W / (r + 1),

    x_i = m + L (D / W)^½ v_i,      Σ_i v_i = 0,      Σ_i v_i v_i' = (r + 1) I,

with v_i from Helmert's contrasts, so that weights, sums and cross products of the rows are those of the cell. The
response is the last column of L: what its pivot leaves is the sum of squares that no column of the cell explains.
"""

from __future__ import annotations

import math

import numpy as np

from bayou._types import Array, Integers
from bayou.jit import kernel

__all__ = ["corners", "ranks"]

ROUNDING = 4.0 * float(np.finfo(np.float64).eps)


@kernel
def _decompose(line: Array, q: int, S: Array, L: Array, D: Array, pivots: Integers) -> int:
    """Fill L (v, r) and D (r,) of S = L D L' of one line of `Cells`, the response (the first column) left to the end.

    Returns r; ``S[0, 0]`` is then what is left of the response. Pivots are the largest left, as a share of what they
    were.
    """
    v, count = S.shape[0], line[0]
    at = 2 + q
    for a in range(v):
        other = 2 + q
        for b in range(a + 1):
            S[a, b] = line[at + 1 + b] - line[at] * line[other] / line[1]
            S[b, a] = S[a, b]
            other += b + 2
        at += a + 2
    for a in range(v):
        D[a] = S[a, a]  # what they were, until pivots take their places
        pivots[a] = -1
    least = ROUNDING * (8.0 + math.sqrt(count))
    r = 0
    while r < v - 1 and r + 1.0 < count:
        best, top = -1, least
        for a in range(1, v):
            if pivots[a] < 0 and D[a] > 0.0 and S[a, a] > top * D[a]:
                best, top = a, S[a, a] / D[a]
        if best < 0:
            break
        pivots[best] = r
        d = S[best, best]
        for a in range(v):
            L[a, r] = S[a, best] / d if pivots[a] < 0 or a == best else 0.0
        for a in range(v):
            for b in range(v):
                if pivots[a] < 0 and pivots[b] < 0:
                    S[a, b] -= L[a, r] * L[b, r] * d
        r += 1
    if r + 1.0 >= count:
        S[0, 0] = 0.0  # as many rows as there were
    return r


@kernel
def ranks(sums: Array, q: int, S: Array, L: Array, D: Array, pivots: Integers, out: Integers) -> None:
    """Fill how many rows each cell becomes, (N,), none of one without rows; S, L (v, v), D and pivots are scratch."""
    for c in range(out.shape[0]):
        out[c] = 1 + _decompose(sums[c], q, S, L, D, pivots) if sums[c, 0] > 0.0 else 0


@kernel
def corners(
    sums: Array, moving: Integers, S: Array, L: Array, D: Array, pivots: Integers,
    order: Integers, start: Integers, rows: Array, weights: Array, left: Array,
) -> None:  # fmt: skip
    """Fill rows (n, q) and their weights (n,), cell order[j] from row start[j] on; left (N,) what none explains."""
    v, q = moving.shape[0], rows.shape[1]
    for j in range(order.shape[0]):
        line = sums[order[j]]
        left[j] = 0.0
        if line[0] == 0.0:
            continue
        r = _decompose(line, q, S, L, D, pivots)
        left[j] = max(S[0, 0], 0.0)
        for a in range(1, v):
            if pivots[a] >= 0:
                D[pivots[a]] = S[a, a]
        m = r + 1
        for i in range(m):
            row = start[j] + i
            weights[row] = line[1] / m
            for k in range(q):
                rows[row, k] = line[2 + k]
            at = 2 + q
            for a in range(v):
                t = line[at] / line[1]
                for e in range(max(i - 1, 0), r):
                    corner = math.sqrt(m / ((e + 1.0) * (e + 2.0)))
                    t += L[a, e] * math.sqrt(D[e] / line[1]) * (corner if i <= e else -(e + 1.0) * corner)
                rows[row, moving[a]] += t
                at += a + 2
