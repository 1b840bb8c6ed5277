"""Draws from the Gaussian of all coefficients, and how far the exact conditional is from it there."""

from __future__ import annotations

import numpy as np
import scipy.sparse

from bayou._types import Array
from bayou.conditional.field.constraint import Constraint
from bayou.conditional.field.mode import Point, System, quadratic_slope
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
        N = constraint.V.shape[1]
        rows = scipy.sparse.csr_array((constraint.value, constraint.column, constraint.start), shape=(k, N))
        self.transposed_rows = rows.T.tocsr()  # (N, k)
        forced, moved = constraint.V[:k], constraint.V[k:]
        self.gain = np.linalg.solve(self._constrain(forced).T, forced).T  # (N, k)
        self.spread = moved - self._constrain(moved) @ self.gain.T  # (k, N) rows of U'
        inner = np.diag(1.0 / constraint.kappa) - self.spread[:, constraint.anchor]
        self.spread = np.linalg.solve(np.linalg.cholesky(0.5 * (inner + inner.T)), self.spread)

    def _constrain(self, X: Array) -> Array:
        """Return C x of each row of X (S, N): (S, k)."""
        return np.asarray(X @ self.transposed_rows)

    def finish(self, X: Array, z: Array) -> None:
        """Turn L'⁻¹ z₁ (S, N) into draws around zero, in place; z (S, k) are the further normals."""
        if self.k:
            X -= self._constrain(X) @ self.gain.T
            X += z @ self.spread


    def transposed(self, r: Array) -> tuple[Array, Array]:
        """Return what the transposed map makes of r (N,), before L⁻¹ comes to the first part: (N,) and (k,)."""
        if not self.k:
            return r.copy(), np.zeros(0)
        return r - self.transposed_rows @ (self.gain.T @ r), self.spread @ r


@kernel(entry=True)
def draws(system: System, Z: Array, X: Array) -> None:
    """X (S, N) <- L'⁻¹ z of each row of Z, which is overwritten."""
    S, N = X.shape
    for s in range(S):
        backward(system.symbolic, system.factor, window(Z, s * N, N), window(X, s * N, N))


@kernel(entry=True)
def log_ratios(system: System, point: Point, dispersion: float, X: Array, eta: Array, out: Array) -> None:
    """Out (S,) <- l(eta) − ½ x'Qx + x'm + ½ (x − mode)'H (x − mode) for each row x of X.

    What the log density of the coefficients given the data has beyond its Gaussian, up to a constant. The quadratic
    forms in Q cancel but for x'(m − Q mode) + ½ mode'Q mode.
    """
    S, N = X.shape
    n = eta.shape[0]
    slope = point.x_new
    for j in range(N):
        slope[j] = 0.0
    quadratic_slope(system.prior, point.x, slope)
    constant = 0.0
    for j in range(N):
        constant += 0.5 * point.x[j] * slope[j]
        slope[j] = system.prior.linear[j] - slope[j]
    for s in range(S):
        x = window(X, s * N, N)
        for i in range(n):
            eta[i] = point.fixed[i]
        predictor(system.rows, x, eta)
        total = row_log_density(system.code, system.y, system.trials, system.weights, eta, dispersion, point.lanes)
        half = 0.0
        for i in range(n):
            t = eta[i] - point.eta[i]
            half += point.weight[i] * t * t
        linear = 0.0
        for j in range(N):
            linear += slope[j] * x[j]
        out[s] = total + linear + constant + 0.5 * half
