"""Structures of weighted differences along a line, R = D'HD, with everything in time proportional to their size.

D (m − r, m) has in row i the coefficients of x_i … x_{i+r}, H is diagonal. With S the first r coefficients
D = (D_S, D_T), D_T triangular and banded, so that without factorising anything

    G = [0 0; 0 (D_T' H D_T)⁻¹]    is a generalised inverse of R,    |R|* = |D_T|² |H| / |N_S|².

A random walk of order 2 over 10⁴ points has a condition number of 10¹⁶; here no digits are lost by it.
Source of the determinant: Rue & Held (2005), section 3.3; the rest is elementary.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.sparse

from bayou._types import Array
from bayou.effects.constrained import Anchored
from bayou.effects.pattern import Matrix


class Differences(Anchored):
    """R = D'HD of differences of order r, and its g-inverse.

    Parameters
    ----------
    weights
        (m − r, r + 1): row i of D from its column i on; the last of each row is not zero.
    precision
        (m − r,): the diagonal of H.
    null
        (m, r) orthonormal: D null = 0.
    """

    def __init__(self, weights: Array, precision: Array, null: Array) -> None:
        self.weights, self.precision = weights, precision
        rows, width = weights.shape
        self.order = width - 1
        self.size = rows + self.order
        offsets = list(range(width))
        # (l + u + 1, m − r) storage of D_T, lower triangular with r diagonals below, as far as there are so many
        self._below = min(self.order, rows - 1)
        self._band = np.zeros((self._below + 1, rows))
        for j in range(self._below + 1):
            self._band[j, : rows - j] = weights[j:, self.order - j]
        self._D = scipy.sparse.diags_array(
            [weights[:, k] for k in offsets], offsets=offsets, shape=(rows, self.size), format="csc"
        )
        self.log_determinant = (
            2.0 * float(np.log(np.abs(weights[:, -1])).sum())
            + float(np.log(precision).sum())
            - 2.0 * float(np.linalg.slogdet(null[: self.order])[1])
        )

    @property
    def R(self) -> Matrix:
        """The structure, (m, m) sparse."""
        return (self._D.T @ scipy.sparse.diags_array(self.precision) @ self._D).tocsc()

    def _forward(self, V: Array) -> Array:
        """Return D_T⁻¹ V."""
        return np.asarray(scipy.linalg.solve_banded((self._below, 0), self._band, V))

    def _backward(self, V: Array) -> Array:
        """Return D_T'⁻¹ V: backwards in both directions it is the lower triangle again."""
        band = np.zeros_like(self._band)
        rows = self._band.shape[1]
        for j in range(self._below + 1):
            band[self._below - j, j:] = self._band[j, : rows - j]
        return np.asarray(scipy.linalg.solve_banded((0, self._below), band, V))

    def multiply(self, V: Array) -> Array:
        """Return G V for V (m, k)."""
        out = np.zeros_like(V, dtype=np.float64)
        if V.shape[1]:
            out[self.order :] = self._forward(self._backward(V[self.order :]) / self.precision[:, None])
        return out

    def diagonal(self) -> Array:
        """Return the diagonal of G: the covariance of the last r values, one step at a time."""
        r = self.order
        out = np.zeros(self.size)
        step = np.eye(r, k=1)
        state = np.zeros((r, r))
        last = self.weights[:, -1]
        follow = -self.weights[:, :-1] / last[:, None]
        noise = 1.0 / (self.precision * last**2)
        for i in range(len(noise)):
            step[-1] = follow[i]
            state = step @ state @ step.T
            state[-1, -1] += noise[i]
            out[i + r] = state[-1, -1]
        return out

    def draw(self, rng: np.random.Generator, count: int) -> Array:
        """Return draws (count, m) from N(0, G)."""
        out = np.zeros((count, self.size))
        z = rng.standard_normal((len(self.precision), count)) / np.sqrt(self.precision)[:, None]
        out[:, self.order :] = self._forward(z).T
        return out


def polynomials(coordinate: Array, order: int) -> Array:
    """Return an orthonormal basis (m, order) of the polynomials of a degree below ``order`` over the coordinates."""
    span = float(coordinate.max() - coordinate.min()) or 1.0
    z = (coordinate - coordinate.min()) / span * 2.0 - 1.0
    basis: Array = np.linalg.qr(np.polynomial.legendre.legvander(z, order - 1))[0]
    return basis
