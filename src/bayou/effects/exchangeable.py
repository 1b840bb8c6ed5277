"""Coefficients of the levels of a grouping factor: x_j ~ N(0, Sigma), Sigma any p x p covariance matrix.

Coordinates: log sd_1 … log sd_p, then atanh of the canonical partial correlations row by row, the order of
`bayou.effects.iid`. Source: Lewandowski, Kurowicka & Joe (2009), Journal of Multivariate Analysis 100.
"""

from __future__ import annotations

import numpy as np

from bayou._types import Array
from bayou.effects.base import Effect, Hyperparameter
from bayou.errors import DataError


class Exchangeable(Effect):
    """One correlated block of a grouping factor: its levels are the replicates.

    Parameters
    ----------
    labels
        Names of the p coefficients.
    levels
        Number of levels J.
    scales
        (p,): where the sds start.

    Examples
    --------
    >>> block = Exchangeable(("Intercept", "x"), 10)
    >>> [h.role + h.label for h in block.hyperparameters]
    ['sdIntercept', 'sdx', 'corIntercept,x']
    """

    def __init__(self, labels: tuple[str, ...], levels: int, scales: Array | None = None) -> None:
        p = len(labels)
        self.kind, self.replicates = "exchangeable", levels
        self.size = self.observed = p
        start = np.zeros(p) if scales is None else np.log(scales)
        sds = [Hyperparameter("sd", label, "log", float(t)) for label, t in zip(labels, start, strict=True)]
        self.pairs = [(i, j) for i in range(p) for j in range(i)]
        cors = [Hyperparameter("cor", f"{labels[j]},{labels[i]}", "atanh", 0.0) for i, j in self.pairs]
        self.hyperparameters = (*sds, *cors)
        self.indptr = np.concatenate([[0], np.cumsum(np.arange(p, 0, -1))]).astype(np.int64)
        self.indices = np.concatenate([np.arange(j, p) for j in range(p)]).astype(np.int64)
        self._columns = np.repeat(np.arange(p), np.arange(p, 0, -1))
        self.matrices = np.eye(p * (p + 1) // 2)
        self.constraints, self.anchors = np.zeros((0, p)), np.zeros(0, dtype=np.int64)
        self.null = 0

    def factor(self, theta: Array) -> Array:
        """Return the lower Cholesky factor L (p, p) of Sigma."""
        return np.asarray(np.exp(theta[: self.size])[:, None] * self._correlation_factor(theta))

    def sigma(self, theta: Array) -> Array:
        """Return Sigma (p, p)."""
        L = self.factor(theta)
        return np.asarray(L @ L.T)

    def internal(self, Sigma: Array) -> Array:
        """Return the coordinates theta of a covariance matrix.

        Raises
        ------
        DataError
            Sigma is not positive definite.
        """
        sds = np.sqrt(np.abs(np.diag(Sigma)))
        try:
            L = np.linalg.cholesky(Sigma / np.outer(sds, sds))
        except np.linalg.LinAlgError:
            raise DataError("Sigma is not positive definite.") from None
        z = []
        for i, j in self.pairs:
            left = 1.0 - float(L[i, :j] @ L[i, :j])
            z.append(np.arctanh(L[i, j] / np.sqrt(left)))
        return np.concatenate([np.log(sds), z])

    def log_jacobian(self, theta: Array) -> float:
        """Return log |d Sigma / d theta| on the lower triangle of Sigma.

        p log 2 + (p + 1) Σ log sd for the sds; for the partial correlation of row i and column j the factor
        L_jj √(what the row's squared length still lacks) (1 − tanh²).
        """
        p = self.size
        L = self._correlation_factor(theta)
        total = p * np.log(2.0) + (p + 1.0) * float(theta[:p].sum())
        for (i, j), h, z in zip(self.pairs, self.hyperparameters[p:], theta[p:], strict=True):
            left = 1.0 - float(L[i, :j] @ L[i, :j])
            total += float(np.log(L[j, j])) + 0.5 * float(np.log(left)) + h.log_slope(float(z))
        return float(total)

    def coefficients(self, theta: Array) -> Array:
        """Return the lower triangle of Sigma⁻¹, column by column."""
        if self.size == 1:
            return np.exp(-2.0 * theta)
        return np.asarray(self._inverse(theta)[self.indices, self._columns])

    def coefficient_slopes(self, theta: Array) -> Array:
        """Return −Sigma⁻¹ (dSigma) Sigma⁻¹ for each coordinate, (K, d)."""
        if self.size == 1:
            return np.asarray(-2.0 * np.exp(-2.0 * theta)[:, None])
        P, L = self._inverse(theta), self.factor(theta)
        out = np.empty((len(self.indices), len(theta)))
        for k in range(len(theta)):
            half = self._factor_slope(theta, k) @ L.T
            change = -P @ (half + half.T) @ P
            out[:, k] = change[self.indices, self._columns]
        return out

    def log_determinant(self, theta: Array) -> float:
        """Return −2 Σ log sd − Σ log(1 − partial correlation²)."""
        p = self.size
        slopes = [h.log_slope(float(z)) for h, z in zip(self.hyperparameters[p:], theta[p:], strict=True)]
        return float(-2.0 * theta[:p].sum() - sum(slopes))

    def log_determinant_slopes(self, theta: Array) -> Array:
        """Return −2 for each log sd, 2 tanh z for each partial correlation."""
        return np.concatenate([np.full(self.size, -2.0), 2.0 * np.tanh(theta[self.size :])])

    def covariance(self, theta: Array) -> Array:
        """Return Sigma."""
        return self.sigma(theta)

    def draw(self, theta: Array, rng: np.random.Generator, count: int) -> Array:
        """Draw from the prior."""
        z = rng.standard_normal((count, self.replicates, self.size))
        return np.asarray(z @ self.factor(theta).T)

    def _inverse(self, theta: Array) -> Array:
        root = np.linalg.inv(self.factor(theta))
        return np.asarray(root.T @ root)

    def _correlation_factor(self, theta: Array) -> Array:
        p = self.size
        L = np.eye(p)
        left = np.ones(p)
        for (i, j), h, z in zip(self.pairs, self.hyperparameters[p:], theta[p:], strict=True):
            L[i, j] = np.tanh(z) * np.sqrt(left[i])
            left[i] *= h.slope(float(z))
            L[i, i] = np.sqrt(left[i])
        return L

    def _factor_slope(self, theta: Array, k: int) -> Array:
        """Return dL / dtheta_k."""
        p = self.size
        L = self.factor(theta)
        out = np.zeros((p, p))
        if k < p:
            out[k] = L[k]
            return out
        i, j = self.pairs[k - p]
        # row i before j does not move, the element j itself by d tanh, what follows shrinks with √(1 − tanh²)
        rho = np.tanh(theta[k])
        left = np.exp(2.0 * theta[i]) - float(L[i, :j] @ L[i, :j])
        out[i, j] = np.sqrt(left) * (1.0 - rho * rho)
        out[i, j + 1 : i + 1] = -rho * L[i, j + 1 : i + 1]
        return out
