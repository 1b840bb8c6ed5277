"""The rows of a model whose coefficients have a sparse precision: eta = offset + A x, sums over rows, leverages.

x holds L coefficients of effects and then P fixed effects; a row of A has few of the former, listed, and all of the
latter, dense. Matrices stand in the layout of the sparse factor (`bayou.linalg.symbolic.Symbolic`), where the fixed
effects are the last rows of every column: one place for each column serves them all.
"""

from __future__ import annotations

from typing import NamedTuple

from bayou._types import Array, Integers
from bayou.jit import kernel, window

__all__ = ["Rows", "accumulate", "leverages", "predictor", "project"]


class Rows(NamedTuple):
    """A row by row, and where the products of its numbers stand in the factor's layout."""

    start: Integers  # (n + 1,) first number of each row
    column: Integers  # (nnz,) coefficient
    value: Array  # (nnz,)
    pair_start: Integers  # (n + 1,) first pair of each row
    pair: Integers  # place of each pair (a, b <= a) of a row's numbers
    fixed_at: Integers  # (L,) place of the first fixed effect in each coefficient's column
    fixed_start: Integers  # (P,) place of the diagonal in each fixed effect's column
    X: Array  # (n, P)


@kernel
def predictor(rows: Rows, x: Array, eta: Array) -> None:
    """Eta (n,) += A x."""
    L, P = rows.fixed_at.shape[0], rows.fixed_start.shape[0]
    for i in range(eta.shape[0]):
        t = 0.0
        for e in range(rows.start[i], rows.start[i + 1]):
            t += rows.value[e] * x[rows.column[e]]
        for k in range(P):
            t += rows.X[i, k] * x[L + k]
        eta[i] += t


@kernel
def project(rows: Rows, r: Array, out: Array) -> None:
    """Out (N,) += A' r."""
    L, P = rows.fixed_at.shape[0], rows.fixed_start.shape[0]
    for i in range(r.shape[0]):
        t = r[i]
        for e in range(rows.start[i], rows.start[i + 1]):
            out[rows.column[e]] += rows.value[e] * t
        for k in range(P):
            out[L + k] += rows.X[i, k] * t


@kernel(contract=True)
def accumulate(rows: Rows, weight: Array, values: Array) -> None:
    """Values += A' W A, in the factor's layout."""
    P = rows.fixed_start.shape[0]
    for i in range(weight.shape[0]):
        w = weight[i]
        first, q = rows.start[i], rows.pair_start[i]
        for a in range(first, rows.start[i + 1]):
            u = w * rows.value[a]
            for b in range(first, a + 1):
                values[rows.pair[q]] += u * rows.value[b]
                q += 1
            at = rows.fixed_at[rows.column[a]]
            for k in range(P):
                values[at + k] += u * rows.X[i, k]
        for k in range(P):
            u = w * rows.X[i, k]
            at = rows.fixed_start[k] - k
            for e in range(k, P):
                values[at + e] += u * rows.X[i, e]


@kernel(contract=True)
def leverages(rows: Rows, inverse: Array, V: Array, MV: Array, out: Array) -> None:
    """Out (n,) <- a' Sigma a of every row, Sigma = ``inverse`` (factor's layout) − V' MV."""
    L, P, K = rows.fixed_at.shape[0], rows.fixed_start.shape[0], V.shape[0]
    N = L + P
    for i in range(out.shape[0]):
        h = 0.0
        first, q = rows.start[i], rows.pair_start[i]
        for a in range(first, rows.start[i + 1]):
            t = 0.0
            for b in range(first, a):
                t += rows.value[b] * inverse[rows.pair[q]]
                q += 1
            at = rows.fixed_at[rows.column[a]]
            for k in range(P):
                t += rows.X[i, k] * inverse[at + k]
            h += rows.value[a] * (2.0 * t + rows.value[a] * inverse[rows.pair[q]])
            q += 1
        for k in range(P):
            t = 0.0
            at = rows.fixed_start[k] - k
            for e in range(k + 1, P):
                t += rows.X[i, e] * inverse[at + e]
            h += rows.X[i, k] * (2.0 * t + rows.X[i, k] * inverse[at + k])
        for c in range(K):
            v, w = window(V, c * N, N), window(MV, c * N, N)
            s, t = 0.0, 0.0
            for e in range(first, rows.start[i + 1]):
                s += rows.value[e] * v[rows.column[e]]
                t += rows.value[e] * w[rows.column[e]]
            for k in range(P):
                s += rows.X[i, k] * v[L + k]
                t += rows.X[i, k] * w[L + k]
            h -= s * t
        out[i] = h
