"""Draws from the Gaussian of all coefficients, and how far the exact conditional is from it there."""

from __future__ import annotations

import numpy as np

from bayou._types import Array
from bayou.conditional.field.constraint import Constraint
from bayou.conditional.field.mode import Point, System, penalty, quadratic
from bayou.conditional.field.rows import predictor
from bayou.families.rows import row_log_density
from bayou.jit import kernel, window
from bayou.linalg.sparse import backward

__all__ = ["Root", "draws", "log_ratios"]


class Root:
    """The constrained Gaussian as a linear map of independent standard normals.

    With S = H₁⁻¹ and U = S_c E, S_c the covariance under the constraints alone, x = (I − S C'(C S C')⁻¹ C) L'⁻¹ z₁ +
    U R z₂, R R' = (K⁻¹ − E'S_c E)⁻¹: the first part conditions by kriging, the second gives back the variance that the
    anchors took.

    Parameters
    ----------
    constraint
        Filled by `bayou.conditional.field.constraint.prepare`.
    """

    def __init__(self, constraint: Constraint) -> None:
        k = len(constraint.anchor)
        self.constraint, self.k = constraint, k
        if not k:
            return
        forced, moved = constraint.V[:k], constraint.V[k:]
        self.gain = np.linalg.solve(self._constrain(forced.T).T, forced).T  # (N, k)
        self.spread = moved - self._constrain(moved.T) @ self.gain.T  # (k, N) rows of U'
        inner = np.diag(1.0 / constraint.kappa) - self.spread[:, constraint.anchor]
        self.spread = np.linalg.solve(np.linalg.cholesky(0.5 * (inner + inner.T)), self.spread)

    def _constrain(self, x: Array) -> Array:
        """Return C x for x (N, S), transposed: (S, k)."""
        c = self.constraint
        owner = np.repeat(np.arange(self.k), np.diff(c.start))
        out = np.zeros((self.k, x.shape[1]))
        np.add.at(out, owner, c.value[:, None] * x[c.column])
        return out.T

    def finish(self, X: Array, z: Array) -> None:
        """Turn L'⁻¹ z₁ (S, N) into draws around zero, in place; z (S, k) are the further normals."""
        if self.k:
            X -= self._constrain(X.T) @ self.gain.T
            X += z @ self.spread


    def transposed(self, r: Array) -> tuple[Array, Array]:
        """Return what the transposed map makes of r (N,), before L⁻¹ comes to the first part: (N,) and (k,)."""
        if not self.k:
            return r.copy(), np.zeros(0)
        c = self.constraint
        first = r.copy()
        owner = np.repeat(np.arange(self.k), np.diff(c.start))
        np.subtract.at(first, c.column, c.value * (self.gain.T @ r)[owner])
        return first, self.spread @ r


@kernel(entry=True)
def draws(system: System, Z: Array, X: Array) -> None:
    """X (S, N) <- L'⁻¹ z of each row of Z, which is overwritten."""
    S, N = X.shape
    for s in range(S):
        backward(system.symbolic, system.factor, window(Z, s * N, N), window(X, s * N, N))


@kernel(entry=True)
def log_ratios(system: System, point: Point, dispersion: float, X: Array, eta: Array, out: Array) -> None:
    """Out (S,) <- l(eta) − ½ x'Qx + x'm + ½ (x − mode)'H (x − mode) for each row x of X.

    What the log density of the coefficients given the data has beyond its Gaussian, up to a constant.
    """
    S, N = X.shape
    n = eta.shape[0]
    for s in range(S):
        x = window(X, s * N, N)
        for i in range(n):
            eta[i] = point.fixed[i]
        predictor(system.rows, x, eta)
        total = row_log_density(system.code, system.y, system.trials, system.weights, eta, dispersion, point.lanes)
        total -= penalty(system.prior, x)
        half = 0.0
        for i in range(n):
            t = eta[i] - point.eta[i]
            half += point.weight[i] * t * t
        for j in range(N):
            point.x_new[j] = x[j] - point.x[j]
        out[s] = total + 0.5 * (half + quadratic(system.prior, point.x_new))
