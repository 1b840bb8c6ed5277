"""Kenward and Roger's covariance of the fixed effects and their scaled F tests, after REML."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.errors import Unsupported
from bayou.inference.components import components
from bayou.inference.supported import covariances, require_linear_mixed

if TYPE_CHECKING:
    from bayou.model import Model
    from bayou.posterior import Estimates

__all__ = ["KenwardRoger"]

NEAR_TWO = 1e-2  # denominator degrees of freedom from two, where the scale is nought by nought
CUTOFF = 1e-12  # of the information about components, relative, that counts as none


class KenwardRoger:
    """Small-sample covariance and tests of the fixed effects of a Gaussian mixed model.

    With Phi = (X'V⁻¹X)⁻¹, V = Σ gamma_r G_r, P_r = −X'V⁻¹G_rV⁻¹X, Q_rs = X'V⁻¹G_rV⁻¹G_sV⁻¹X and W the inverse of the
    expected restricted information ½ tr(P G_r P G_s),

        Phi_A = Phi + 2 Phi {Σ_rs W_rs (Q_rs − P_r Phi P_s)} Phi,

    and λ/q (L b − c)'(L Phi_A L')⁻¹(L b − c) has about an F distribution with q and m degrees of freedom, m and λ
    from its first two moments.

    Parameters
    ----------
    model, found
        A REML fit of a Gaussian model with one residual sd and without priors.

    Attributes
    ----------
    covariance
        Phi_A (P, P), of the coefficients as printed.

    Raises
    ------
    Unsupported
        For other fits, and for crossed factors of too many levels.

    References
    ----------
    Kenward & Roger, Biometrics 53 (1997) 983-997.
    """

    words = "Kenward-Roger"

    def __init__(self, model: Model, found: Estimates | None) -> None:
        found = require_linear_mixed(model, found, "Kenward-Roger's")
        if found.method != "REML":
            raise Unsupported(
                f"Kenward-Roger's method is a correction of REML; this fit is by {found.method}. Fit with "
                "engine='reml', or use method='satterthwaite'."
            )
        Sigma, sigma = covariances(model, found)
        sums = components(model, Sigma, sigma)
        back = model.working.to_printed
        Phi = np.linalg.inv(sums.precision)
        r = len(sums.first)
        P = -sums.first
        PhiP = Phi @ P
        crossed = np.einsum("rij,sji->rs", PhiP, PhiP)
        direct = np.einsum("ij,rsji->rs", Phi, sums.second)
        W = _inverse(0.5 * (sums.traces - 2.0 * direct + crossed))
        inner = np.zeros_like(Phi)
        for a in range(r):
            for b in range(r):
                inner += W[a, b] * (sums.second[a, b] - P[a] @ Phi @ P[b])
        adjusted = Phi + Phi @ (inner + inner.T) @ Phi
        self._back, self._W = back, W
        self._Phi = sigma**2 * Phi
        self._slopes = sigma**2 * (PhiP @ Phi)  # Phi P_r Phi
        self.covariance: Array = sigma**2 * back @ adjusted @ back.T

    def degrees(self, L: Array) -> tuple[float, float]:
        """Return the denominator degrees of freedom m and the scale λ for L (q, P) of the printed coefficients."""
        M = np.atleast_2d(L) @ self._back
        q = len(M)
        inverse = np.linalg.inv(M @ self._Phi @ M.T)
        parts = np.array([inverse @ (M @ slope @ M.T) for slope in self._slopes])  # tr Theta Phi P_r Phi = tr of these
        traces = np.trace(parts, axis1=1, axis2=2)
        A1 = float(traces @ self._W @ traces)
        A2 = float(np.sum(self._W * np.einsum("rij,sji->rs", parts, parts)))
        if not A2 > 0.0:
            return np.inf, 1.0
        B = (A1 + 6.0 * A2) / (2.0 * q)
        g = ((q + 1.0) * A1 - (q + 4.0) * A2) / ((q + 2.0) * A2)
        under = 3.0 * q + 2.0 * (1.0 - g)
        c1, c2, c3 = g / under, (q - g) / under, (q + 2.0 - g) / under
        # V/(2 E²) of the paper, with 1 − A2/q taken out of both
        ratio = (1.0 - A2 / q) ** 2 * (1.0 + c1 * B) / ((1.0 - c2 * B) ** 2 * (1.0 - c3 * B)) / q
        excess = q * ratio - 1.0
        m = 4.0 + (q + 2.0) / excess if excess != 0.0 else np.inf
        if not 0.0 < m < np.inf:  # as little spread as chi-squared has, or less
            return np.inf, float(1.0 - A2 / q)
        # below four the variance of F, below two its mean, are continued beyond where they exist: exact cases need it
        scale = m * (1.0 - A2 / q) / (m - 2.0) if abs(m - 2.0) > NEAR_TWO else 1.0
        return float(m), float(scale) if scale > 0.0 else 1.0

    def each(self, L: Array) -> Array:
        """Return the degrees of freedom (k,) of each row of L (k, P) alone."""
        return np.array([self.degrees(row)[0] for row in L])


def _inverse(information: Array) -> Array:
    """Invert a symmetric matrix in its own units; directions without information have no variance."""
    size = np.sqrt(np.maximum(np.diag(information), 0.0))
    unit = np.where(size > 0.0, size, 1.0)
    values, vectors = np.linalg.eigh(information / np.outer(unit, unit))
    known = values > CUTOFF * values[-1]
    part = vectors[:, known]
    return np.asarray((part / values[known]) @ part.T / np.outer(unit, unit))
