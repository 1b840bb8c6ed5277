"""Satterthwaite's degrees of freedom for the fixed effects of linear mixed models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.engines.marginal.descent import usable_inverse
from bayou.engines.marginal.profile import Profile
from bayou.inference.supported import covariances, require_linear_mixed

if TYPE_CHECKING:
    from bayou.model import Model
    from bayou.posterior import Estimates

__all__ = ["Satterthwaite"]

CUTOFF = 1e-7  # of the curvature's largest eigenvalue, in its own units: a direction that the likelihood does not see
MANY = 10_000  # levels, from which degrees of freedom are so many that a difference of 1e-4 of them says nothing
ALIKE = 1e-8  # degrees of freedom, relative, that are the same


class Satterthwaite:
    """Degrees of freedom from how well the covariance of the fixed effects is known.

    For one row l, with f = l C l', C the covariance of the coefficients as a function of the parameters phi of V,

        df = 2 f² / (g'A g),   g = df/dphi,

    A the covariance of the estimates of phi: the inverse of the observed information of the criterion. For several
    rows, the eigenvectors of L C L' give rows whose t² are independent with df ν_m, and the F statistic gets the df
    whose mean is theirs, 2E/(E − q), E = Σ ν_m/(ν_m − 2). The rows are made orthonormal first: otherwise the answer
    would depend on how the same hypothesis is written.

    phi are the entries of the relative factors and log sigma: there a variance at zero is a stationary point at
    which C does not change, so that a singular fit has the df of the model without what vanished.

    Parameters
    ----------
    model, found
        An ML or REML fit of a Gaussian model with one residual sd and without priors.

    Attributes
    ----------
    covariance
        C (P, P), of the coefficients as printed.

    Raises
    ------
    Unsupported
        For other fits.

    References
    ----------
    Giesbrecht & Burns, Biometrics 41 (1985) 477-486. Fai & Cornelius, J. Statistical Computation and Simulation 54
    (1996) 363-378. Kuznetsova, Brockhoff & Christensen, J. Stat. Software 82(13) (2017).
    """

    words = "Satterthwaite"

    def __init__(self, model: Model, found: Estimates | None) -> None:
        found = require_linear_mixed(model, found, "Satterthwaite's")
        Sigma, sigma = covariances(model, found)
        of = Profile(model, found.method == "REML")
        T = np.zeros(of.numbers.shape)
        for place, g in enumerate(of.order):
            p = len(Sigma[g])
            T[place, :p, :p] = _root(Sigma[g] / sigma**2)
        self.covariance, self._slopes, self._A = _curvature(of, of.numbers.numbers(T), sigma)

    def each(self, L: Array) -> Array:
        """Return the degrees of freedom (k,) of each row of L (k, P) alone."""
        f = np.einsum("ki,ij,kj->k", L, self.covariance, L)
        g = np.einsum("ki,rij,kj->kr", L, self._slopes, L)
        spread = np.einsum("kr,rs,ks->k", g, self._A, g)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(spread > 0.0, 2.0 * f**2 / spread, np.inf)

    def degrees(self, L: Array) -> tuple[float, float]:
        """Return the denominator degrees of freedom of the F test of L (q, P), and one: it is not scaled."""
        Q = np.linalg.qr(np.atleast_2d(L).T)[0].T
        _, vectors = np.linalg.eigh(Q @ self.covariance @ Q.T)
        nu = self.each(vectors.T @ Q)
        if np.isfinite(nu).all() and nu.max() - nu.min() <= ALIKE * nu.min():
            return float(nu.mean()), 1.0
        if (nu <= 2.0).any():  # the mean of such an F is infinite
            return 2.0, 1.0
        excess = float(np.sum(np.where(np.isfinite(nu), 2.0 / (nu - 2.0), 0.0)))  # E − q
        return (2.0 * (excess + len(nu)) / excess if excess > 0.0 else np.inf), 1.0


def _curvature(of: Profile, psi: Array, sigma: float) -> tuple[Array, Array, Array]:
    """Return C (P, P), its slopes (d + 1, P, P) and the covariance (d + 1, d + 1) of the parameters, log sigma last.

    The criterion with sigma has the profile's Hessian as its Schur complement, 2 n in log sigma, and
    2 Σ(score x mode)/sigma² between them.
    """
    d = len(psi)
    P = len(of.sums.border.linear)
    n = of.sums.rows - P if of.restricted else of.sums.rows
    C = sigma**2 * _relative_covariance(of, psi)
    H = np.zeros((d + 1, d + 1))
    slopes = np.zeros((d + 1, P, P))
    slopes[d], H[d, d] = 2.0 * C, 2.0 * n
    if d:
        mixed = 2.0 * of.score_moments() / sigma**2
        steps = np.clip(1e-2 * np.sqrt(np.maximum(np.diag(usable_inverse(of.information())), 0.0)), 1e-4, 1e-2)
        for i in range(d):
            curvature, slope = _differences(of, psi, i, float(steps[i]))
            H[i, :d] += 0.5 * curvature
            H[:d, i] += 0.5 * curvature
            slopes[i] = sigma**2 * slope
        H[:d, :d] += np.outer(mixed, mixed) / (2.0 * n)
        H[:d, d] = H[d, :d] = mixed
    return C, slopes, _seen_inverse(H)


def _differences(of: Profile, psi: Array, i: int, step: float) -> tuple[Array, Array]:
    """Return the derivatives in psi_i of the gradient (d,) and of the relative covariance (P, P).

    Central differences; where they are cheap, of two steps and extrapolated.
    """

    def central(h: float) -> tuple[Array, Array]:
        moved = psi.copy()
        moved[i] = psi[i] + h
        gradient, C = np.array(of.evaluate(moved)[1]), _relative_covariance(of)
        moved[i] = psi[i] - h
        return (gradient - of.evaluate(moved)[1]) / (2.0 * h), (C - _relative_covariance(of)) / (2.0 * h)

    once = central(step)
    if not of.small or len(of.sums.arrow.a) > MANY:
        return once
    twice = central(2.0 * step)
    return (4.0 * once[0] - twice[0]) / 3.0, (4.0 * once[1] - twice[1]) / 3.0


def _relative_covariance(of: Profile, psi: Array | None = None) -> Array:
    """Return (X'V₀⁻¹X)⁻¹ of the printed coefficients, at psi or where the model was evaluated last."""
    if psi is not None:
        of.evaluate(psi)
    R, P = len(of.sums.arrow.d), len(of.sums.border.linear)
    root = np.tril(of.work.factor.S[R - P : R, R - P : R])
    inverse = of.model.working.to_printed @ np.linalg.solve(root, np.eye(P)).T
    return np.asarray(inverse @ inverse.T)


def _seen_inverse(H: Array) -> Array:
    """Invert the curvature where it is positive; a direction that the likelihood does not see moves nothing."""
    unit = np.sqrt(np.maximum(np.diag(H), 1e-300))
    values, vectors = np.linalg.eigh(H / np.outer(unit, unit))
    seen = values > CUTOFF * values[-1]
    part = vectors[:, seen] / unit[:, None]
    return np.asarray((part / values[seen]) @ part.T)


def _root(Sigma: Array) -> Array:
    """Return a lower triangular L with L L' = Sigma, which may be singular: its columns may be zero."""
    L = np.zeros_like(Sigma)
    largest = np.diag(Sigma).copy()
    for j in range(len(Sigma)):
        left = Sigma[j:, j] - L[j:, :j] @ L[j, :j]
        if left[0] > 1e-12 * largest[j]:
            L[j:, j] = left / np.sqrt(left[0])
    return L
