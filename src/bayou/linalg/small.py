"""Dense symmetric positive definite matrices inside kernels.

Matrices are C-ordered; only the leading ``p`` rows and columns take part, so that one scratch array
serves blocks of every size. Beyond a few dozen rows the factorisation is LAPACK's, through the
symbol that Numba registers for its own use: no compilation of ``np.linalg`` wrappers, no GIL.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numba.np.linalg import ensure_lapack

from bayou._types import Array
from bayou.jit import kernel

_numba: Any = types  # without annotations of its own
_ensure: Any = ensure_lapack
_ensure()
_potrf: Any = _numba.ExternalFunction(
    "numba_xxpotrf",
    _numba.intc(_numba.char, _numba.char, _numba.intp, _numba.CPointer(_numba.float64), _numba.intp),
)
_DOUBLE, _UPPER = ord("d"), ord("U")
BY_HAND = 24  # rows up to which the loops below beat the call into LAPACK


@kernel
def fill(A: Array, value: float) -> None:
    """Set every element of a matrix (Numba's own broadcasting assignment takes seconds to compile)."""
    for i in range(A.shape[0]):
        for k in range(A.shape[1]):
            A[i, k] = value


@kernel
def cholesky(A: Array, L: Array, p: int) -> bool:
    """Lower factor: A = L L'. Reads the lower triangle of A; L may be A. False if A is not definite."""
    for j in range(p):
        s = A[j, j]
        for k in range(j):
            s -= L[j, k] * L[j, k]
        if not s > 0.0:
            return False
        d = math.sqrt(s)
        L[j, j] = d
        for i in range(j + 1, p):
            t = A[i, j]
            for k in range(j):
                t -= L[i, k] * L[j, k]
            L[i, j] = t / d
    return True


@kernel
def cholesky_leading(A: Array, p: int) -> bool:
    """Lower factor of the leading p rows and columns of A, in place, at any size."""
    if p <= BY_HAND:
        return cholesky(A, A, p)
    # LAPACK reads columns: its upper factor is our lower one; it lets nan pass, which reaches the last pivot
    return _potrf(_DOUBLE, _UPPER, p, A.ctypes, A.shape[1]) == 0 and A[p - 1, p - 1] > 0.0


@kernel
def cholesky_in_place(A: Array) -> bool:
    """Lower factor of the whole of A, in its own lower triangle, at any size."""
    return cholesky_leading(A, A.shape[0])


@kernel
def solve_lower(L: Array, x: Array, p: int) -> None:
    """X <- L⁻¹ x."""
    for i in range(p):
        t = x[i]
        for k in range(i):
            t -= L[i, k] * x[k]
        x[i] = t / L[i, i]


@kernel
def solve_lower_transposed(L: Array, x: Array, p: int) -> None:
    """X <- L'⁻¹ x."""
    for i in range(p - 1, -1, -1):
        t = x[i] / L[i, i]
        x[i] = t
        for k in range(i):
            x[k] -= L[i, k] * t


@kernel
def log_determinant(L: Array, p: int) -> float:
    """Log |L L'|."""
    s = 0.0
    for i in range(p):
        s += math.log(L[i, i])
    return 2.0 * s


@kernel
def invert_lower(L: Array, out: Array, p: int) -> None:
    """Out <- L⁻¹ (lower triangle; the rest of the leading block is set to zero)."""
    for j in range(p):
        for i in range(j):
            out[i, j] = 0.0
        out[j, j] = 1.0 / L[j, j]
        for i in range(j + 1, p):
            t = 0.0
            for k in range(j, i):
                t -= L[i, k] * out[k, j]
            out[i, j] = t / L[i, i]


@kernel
def inverse_from_factor(L: Array, work: Array, out: Array, p: int) -> None:
    """Out <- (L L')⁻¹, with ``work`` left holding L⁻¹."""
    invert_lower(L, work, p)
    for i in range(p):
        for j in range(i + 1):
            t = 0.0
            for k in range(i, p):
                t += work[k, i] * work[k, j]
            out[i, j] = t
            out[j, i] = t


@kernel
def product_with_transpose(L: Array, out: Array, p: int) -> None:
    """Out <- L L' for lower L."""
    for i in range(p):
        for j in range(i + 1):
            t = 0.0
            for k in range(j + 1):
                t += L[i, k] * L[j, k]
            out[i, j] = t
            out[j, i] = t


@kernel
def draw_inverse_wishart(
    df: float, S: Array, L: Array, work: Array, T: Array, p: int, rng: np.random.Generator
) -> bool:
    """L <- lower factor of a draw of Sigma ~ InverseWishart(df, S); False if S is not definite.

    With S = C C' and Bartlett's lower-triangular B (B_ii² ~ chi²(df − i), standard normals below, so
    that B B' ~ Wishart(df, I)), Sigma⁻¹ = C'⁻¹ B B' C⁻¹ ~ Wishart(df, S⁻¹), and Sigma = W W' with
    W = C B'⁻¹. One more small Cholesky makes the factor lower triangular.
    """
    if not cholesky(S, L, p):
        return False
    for i in range(p):
        for j in range(i):
            T[i, j] = rng.standard_normal()
        T[i, i] = math.sqrt(2.0 * rng.standard_gamma(0.5 * (df - i)))
    # row r of W solves B W_r' = C_r'
    for r in range(p):
        for i in range(p):
            t = L[r, i] if i <= r else 0.0
            for k in range(i):
                t -= T[i, k] * work[r, k]
            work[r, i] = t / T[i, i]
    for i in range(p):
        for j in range(i + 1):
            t = 0.0
            for k in range(p):
                t += work[i, k] * work[j, k]
            T[i, j] = t
    return cholesky(T, L, p)


@kernel
def invert_general(A: Array, out: Array) -> float:
    """Out <- A⁻¹ by elimination with row pivots, A (p, p) is overwritten; returns log |det A|, −inf if singular."""
    p = A.shape[0]
    for i in range(p):
        for j in range(p):
            out[i, j] = 1.0 if i == j else 0.0
    total = 0.0
    for k in range(p):
        best = k
        for i in range(k + 1, p):
            if abs(A[i, k]) > abs(A[best, k]):
                best = i
        pivot = A[best, k]
        if not abs(pivot) > 0.0:
            return -math.inf
        total += math.log(abs(pivot))
        for j in range(p):
            if best != k:
                A[k, j], A[best, j] = A[best, j], A[k, j]
                out[k, j], out[best, j] = out[best, j], out[k, j]
            A[k, j] /= pivot
            out[k, j] /= pivot
        for i in range(p):
            t = A[i, k]
            if i == k or t == 0.0:
                continue
            for j in range(p):
                A[i, j] -= t * A[k, j]
                out[i, j] -= t * out[k, j]
    return total
