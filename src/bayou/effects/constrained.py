"""Gaussians with a singular precision and linear constraints: determinants, variances and draws, by sparse factors.

R (m, m) is positive semi-definite with the orthonormal null space N (m, r). Let S be r coefficients at which
N_S is invertible, and M = R + Σ_{i in S} e_i e_i'. Then M is positive definite, M⁻¹ is a generalised
inverse of R, and

    |R|* = |M| / |N_S|²,        R⁺ = (I − N N') M⁻¹ (I − N N').

For constraints C x = 0 (k orthonormal rows), C N = U1 D V' with U = (U1, U2) orthogonal,

    log|Z'RZ|* = log|R|* + Σ log D² + log|U2' C R⁺ C' U2|,    Z a basis of {x: C x = 0}.

Any g-inverse G serves for M⁻¹; `Anchored` is the one by the sparse Cholesky factor of M. Sources: Rue & Held (2005),
sections 2.3.3 and 3.3; Rao & Mitra (1971), Generalized Inverse of Matrices, chapter 2.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.linalg

from bayou._types import Array, Integers
from bayou.errors import DataError
from bayou.linalg import selected, sparse
from bayou.linalg.symbolic import analyse
from bayou.packed import packed

ZERO = 1e-9  # singular values of products of orthonormal matrices below which directions do not meet


class Anchored:
    """A g-inverse of a sparse positive semi-definite R: M⁻¹, M being R with ones added at anchors.

    Parameters
    ----------
    indptr, indices, values
        The lower triangle of R by columns.
    null
        (m, r) orthonormal null space of R.

    Raises
    ------
    DataError
        R is not positive definite beside its null space.
    """

    def __init__(self, indptr: Integers, indices: Integers, values: Array, null: Array) -> None:
        self.size = len(indptr) - 1
        nodes, log_corner = corner(null)
        symbolic = analyse(indptr, indices)
        self._factor = packed(symbolic), packed(sparse.new_factor(symbolic))
        self._stored = symbolic.stored
        anchored = values.copy()
        # in the units of R, so that the anchored matrix is as well conditioned as it can be
        unit = float(np.median(values[indptr[:-1]])) if len(nodes) else 1.0
        anchored[indptr[nodes]] += unit
        if not sparse.factorise(self._factor[0], anchored, self._factor[1]):
            raise DataError("the structure is not positive definite beside its null space.")
        log_det = float(sparse.log_determinant(*self._factor))
        self.log_determinant = log_det - len(nodes) * float(np.log(unit)) - 2.0 * log_corner

    def multiply(self, V: Array) -> Array:
        """Return G V for V (m, k)."""
        out = np.ascontiguousarray(V.T, dtype=np.float64).copy()
        for column in out:
            sparse.solve(*self._factor, column)
        return out.T

    def diagonal(self) -> Array:
        """Return the diagonal of G, (m,)."""
        inverse, out = np.empty(self._stored), np.empty(self.size)
        selected.selected_inverse(*self._factor, inverse)
        selected.diagonal(self._factor[0], inverse, out)
        return out

    def draw(self, rng: np.random.Generator, count: int) -> Array:
        """Return draws (count, m) from N(0, G)."""
        out = np.empty((count, self.size))
        for row in out:
            sparse.draw(*self._factor, rng, row)
        return out


def corner(null: Array) -> tuple[Integers, float]:
    """Return coefficients S at which the null space has an invertible corner N_S, and log|det N_S|."""
    if null.shape[1] == 0:
        return np.zeros(0, dtype=np.int64), 0.0
    R, pivots = scipy.linalg.qr(null.T, mode="r", pivoting=True)
    r = null.shape[1]
    nodes: Integers = np.sort(np.asarray(pivots[:r], dtype=np.int64))
    return nodes, float(np.log(np.abs(np.diag(R[:, :r]))).sum())


def complement(rows: Array, size: int) -> Array:
    """Return an orthonormal basis (size, size − k) of what is orthogonal to k independent rows."""
    if len(rows) == 0:
        return np.eye(size)
    return np.asarray(np.linalg.qr(rows.T, mode="complete")[0][:, len(rows) :])


def meeting(null: Array, constraints: Array) -> tuple[Array, Array, Array, int]:
    """Return U, D, V of C N = U D V', and the number of directions in which constraints and null space meet."""
    U, D, Vt = np.linalg.svd(constraints @ null)
    return U, D, Vt.T, int(np.sum(D > ZERO))


def hidden(null: Array, constraints: Array) -> tuple[Array, Callable[[Anchored], float]]:
    """Return the null directions that the constraints leave, and what the constraints do to the log determinant."""
    if null.shape[1] == 0 and len(constraints) == 0:
        return null, lambda inverse: 0.0
    U, D, V, met = meeting(null, constraints)

    def log_constraint(inverse: Anchored) -> float:
        total = 2.0 * float(np.log(D[:met]).sum())
        rest = U[:, met:].T @ constraints
        if len(rest):
            total += float(np.linalg.slogdet(rest @ project(inverse.multiply(project(rest.T, null)), null))[1])
        return total

    return np.asarray(null @ V[:, met:]), log_constraint


def project(V: Array, null: Array) -> Array:
    """Return (I − N N') V."""
    return np.asarray(V - null @ (null.T @ V))


def variances(inverse: Anchored, null: Array) -> Array:
    """Return the diagonal of R⁺ = (I − N N') G (I − N N'), (m,)."""
    GN = inverse.multiply(null)
    inner = null.T @ GN
    return np.asarray(inverse.diagonal() - 2.0 * np.sum(null * GN, axis=1) + np.sum((null @ inner) * null, axis=1))


def draw_constrained(
    inverse: Anchored, null: Array, constraints: Array, rng: np.random.Generator, count: int
) -> Array:
    """Draw x (count, m) with C x = 0 and density ∝ exp(−x'Rx/2), orthogonal to the directions that are left free.

    A draw from N(0, G) is moved along the null space until it meets the constraints that the null space can
    meet, and conditioned on the others (Rue & Held 2005, algorithm 2.6).
    """
    x = inverse.draw(rng, count)
    U, D, V, met = meeting(null, constraints)
    free, along = null @ V[:, met:], null @ V[:, :met]
    first = (U[:, :met] / D[:met]).T @ constraints  # first @ along = identity

    def shift(v: Array) -> Array:
        v = v - (v @ first.T) @ along.T
        return np.asarray(v - (v @ free) @ free.T)

    x = shift(x)
    rest = U[:, met:].T @ constraints
    if len(rest):
        held = shift(inverse.multiply(rest.T).T)  # rest is orthogonal to the null space
        x = x - np.linalg.solve(rest @ held.T, rest @ x.T).T @ held
    return np.asarray(x)
