"""Priors of covariance matrices, of their inverses and of correlation matrices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from bayou._types import Array
from bayou.errors import PriorError
from bayou.priors.base import LOG_2, Prior, Size, is_finite


def log_multivariate_gamma(a: float, p: int) -> float:
    """Return log Γ_p(a) = p(p−1)/4 log π + Σ_k log Γ(a − k/2), k = 0 … p−1."""
    return p * (p - 1) / 4 * math.log(math.pi) + sum(math.lgamma(a - k / 2) for k in range(p))


def log_sd_jacobian(sds: ArrayLike) -> Array:
    """Return log |d Sigma / d (sd, cor)| = p log 2 + p Σ log sd, on the lower triangles."""
    sds = np.asarray(sds, dtype=float)
    p = sds.shape[-1]
    return np.asarray(p * LOG_2 + p * np.sum(np.log(sds), axis=-1))


def split(covariance: ArrayLike) -> tuple[Array, Array]:
    """Return the standard deviations (…, p) and the correlation matrix (…, p, p)."""
    covariance = np.asarray(covariance, dtype=float)
    sds = np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))
    return sds, covariance / (sds[..., :, None] * sds[..., None, :])


def _log_determinant(matrix: Array) -> Array:
    sign, value = np.linalg.slogdet(matrix)
    return np.where(sign > 0, value, -np.inf)


@dataclass(frozen=True, eq=False)
class MatrixPrior(Prior):
    """A prior of a whole covariance matrix; `at` fills in the size of the block it is used for."""

    speaks_of: ClassVar[str] = "matrix"

    def at(self, p: int) -> Any:
        """Return the same prior with all of its numbers for a block of ``p`` coefficients."""
        raise PriorError(f"{self} has no size.")

    def _check_scale(self) -> None:
        """Store ``scale`` as a number or a read-only positive definite matrix."""
        scale: Any = getattr(self, "scale")  # noqa: B009 (a field of the subclasses)
        if is_finite(scale):
            self._require(float(scale) > 0.0, f"scale must be above 0, not {scale!r}.")
            object.__setattr__(self, "scale", float(scale))
            return
        try:
            matrix = np.array(scale, dtype=float)
        except (TypeError, ValueError):
            matrix = np.full((1, 1), np.nan)
        square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1] and matrix.size > 0
        finite = square and bool(np.all(np.isfinite(matrix)))
        self._require(finite, "scale must be a square matrix of finite numbers.")
        sds = np.sqrt(np.abs(np.diag(matrix)))
        self._require(bool(np.all(np.diag(matrix) > 0)), "the diagonal of scale must be above 0.")
        unit = matrix / np.outer(sds, sds)
        self._require(np.allclose(unit, unit.T, atol=1e-8), "scale is not symmetric.")
        self._require(float(np.linalg.eigvalsh(unit)[0]) > 0.0, "scale is not positive definite.")
        matrix = (matrix + matrix.T) / 2
        matrix.setflags(write=False)
        object.__setattr__(self, "scale", matrix)

    def _check_df(self, p: int) -> None:
        df: Any = getattr(self, "df")  # noqa: B009 (a field of the subclasses)
        sentence = f"df must be above {p - 1} for a {p} x {p} matrix, not {df!r}."
        self._require(is_finite(df) and float(df) > p - 1, sentence)

    def _sized_scale(self, p: int) -> Array:
        scale: Any = getattr(self, "scale")  # noqa: B009 (a field of the subclasses)
        matrix = np.eye(p) * scale if np.ndim(scale) == 0 else np.asarray(scale)
        sentence = f"scale is {matrix.shape[0]} x {matrix.shape[0]}, but the covariance has {p} coefficients."
        self._require(matrix.shape[0] == p, sentence)
        self._check_df(p)
        return matrix


@dataclass(frozen=True, eq=False)
class InverseWishart(MatrixPrior):
    """Inverse-Wishart: p(Sigma) ∝ |Sigma|^(−(df+p+1)/2) exp(−tr(scale Sigma⁻¹) / 2).

    Parameters
    ----------
    df
        Degrees of freedom, above p − 1. The mean is scale / (df − p − 1).
    scale
        Positive definite (p, p), or a number for that multiple of the identity.
    """

    df: float
    scale: Any

    def _check(self) -> None:
        self._check_scale()
        self._check_df(1 if np.ndim(self.scale) == 0 else len(self.scale))

    def at(self, p: int) -> InverseWishart:
        """Return the same prior with its scale as a (p, p) matrix."""
        return InverseWishart(float(self.df), self._sized_scale(p))

    def _log_density(self, x: Array) -> Any:
        p = x.shape[-1]
        scale = self._sized_scale(p)
        half = self.df / 2
        constant = half * float(_log_determinant(scale)) - half * p * LOG_2 - log_multivariate_gamma(half, p)
        trace = np.trace(np.linalg.solve(x, np.broadcast_to(scale, x.shape)), axis1=-2, axis2=-1)
        return constant - (self.df + p + 1) / 2 * _log_determinant(x) - trace / 2

    def _draw(self, rng: np.random.Generator, size: Size) -> Any:
        scale = self._sized_scale(1 if np.ndim(self.scale) == 0 else len(self.scale))
        return np.linalg.inv(Wishart(self.df, np.linalg.inv(scale)).draw(rng, size))


@dataclass(frozen=True, eq=False)
class Wishart(MatrixPrior):
    """A Wishart density of the *precision matrix* Sigma⁻¹, of mean df x scale."""

    df: float
    scale: Any

    def _check(self) -> None:
        self._check_scale()
        self._check_df(1 if np.ndim(self.scale) == 0 else len(self.scale))

    def at(self, p: int) -> InverseWishart:
        """Return the inverse-Wishart of Sigma that is the same prior."""
        return InverseWishart(float(self.df), np.linalg.inv(self._sized_scale(p)))

    def _log_density(self, x: Array) -> Any:
        # Sigma = x⁻¹ has |d Sigma / d x| = |x|^−(p+1).
        p = x.shape[-1]
        return self.at(p).log_density(np.linalg.inv(x)) - (p + 1) * _log_determinant(x)

    def _draw(self, rng: np.random.Generator, size: Size) -> Any:
        # Bartlett: a lower triangle of chis and normals.
        p = 1 if np.ndim(self.scale) == 0 else len(self.scale)
        shape = () if size is None else (size,) if isinstance(size, int) else tuple(size)
        lower = np.tril(rng.standard_normal((*shape, p, p)), -1)
        for k in range(p):
            lower[..., k, k] = np.sqrt(rng.chisquare(self.df - k, shape))
        factor = np.linalg.cholesky(self._sized_scale(p)) @ lower
        return factor @ np.swapaxes(factor, -1, -2)


@dataclass(frozen=True, eq=False)
class HuangWand(MatrixPrior):
    """The hierarchical inverse-Wishart: sds half-t(df, scales_k), correlations uniform at df = 2.

    Sigma | a ~ InverseWishart(df + p − 1, 2 df diag(1 / a)), 1 / a_k ~ Gamma(1/2, rate 1 / scales_k²).
    With a integrated out, p(Sigma) ∝ |Sigma|^(−(df+2p)/2) Π_k (df (Sigma⁻¹)_kk + 1 / scales_k²)^(−(df+p)/2).

    Parameters
    ----------
    df
        Degrees of freedom of the half-t of each sd.
    scales
        One per coefficient, or a number for all; None takes the scales of the default prior.

    References
    ----------
    Huang and Wand (2013), Bayesian Analysis 8, 439-452.
    """

    df: float = 2.0
    scales: Any = None

    def _check(self) -> None:
        self._require_positive("df")
        if self.scales is None:
            return
        try:
            scales = np.array(self.scales, dtype=float)
        except (TypeError, ValueError):
            scales = np.array(np.nan)
        ok = scales.ndim <= 1 and bool(np.all(np.isfinite(scales) & (scales > 0)))
        self._require(ok, f"scales must be finite numbers above 0, not {self.scales!r}.")
        scales.setflags(write=False)
        object.__setattr__(self, "scales", float(scales) if scales.ndim == 0 else scales)

    def at(self, p: int) -> HuangWand:
        """Return the same prior with one scale per coefficient."""
        self._require(self.scales is not None, "it needs scales.")
        scales = np.full(p, self.scales) if np.ndim(self.scales) == 0 else self.scales
        sentence = f"it has {len(scales)} scales, but the covariance has {p} coefficients."
        self._require(len(scales) == p, sentence)
        return HuangWand(float(self.df), scales)

    def _log_density(self, x: Array) -> Any:
        p = x.shape[-1]
        df = self.df
        b = 1.0 / np.asarray(self.at(p).scales) ** 2
        half = (df + p - 1) / 2
        constant = p * half * math.log(df) - log_multivariate_gamma(half, p)
        constant += p * (math.lgamma((df + p) / 2) - math.lgamma(0.5)) + 0.5 * float(np.sum(np.log(b)))
        diagonal = np.diagonal(np.linalg.inv(x), axis1=-2, axis2=-1)
        terms = np.sum(np.log(df * diagonal + b), axis=-1)
        return constant - (df + 2 * p) / 2 * _log_determinant(x) - (df + p) / 2 * terms

    def _draw(self, rng: np.random.Generator, size: Size) -> Any:
        p = 1 if np.ndim(self.scales) == 0 else len(self.scales)
        scales = np.asarray(self.at(p).scales)
        shape = () if size is None else (size,) if isinstance(size, int) else tuple(size)
        # 1 / a_k = scales_k² g with g ~ Gamma(1/2, 1), and Sigma = D W D with D = diag(√(1 / a)).
        root = scales * np.sqrt(rng.gamma(0.5, 1.0, (*shape, p)))
        base = InverseWishart(self.df + p - 1, 2.0 * self.df * np.eye(p)).draw(rng, shape)
        return root[..., :, None] * base * root[..., None, :]


@dataclass(frozen=True, eq=False)
class LKJ(Prior):
    """Correlation matrices with density ∝ |R|^(eta − 1); eta = 1 is uniform.

    References
    ----------
    Lewandowski, Kurowicka and Joe (2009), Journal of Multivariate Analysis 100, 1989-2001.
    """

    eta: float = 1.0
    speaks_of: ClassVar[str] = "correlation"

    def _check(self) -> None:
        self._require_positive("eta")

    def _log_density(self, x: Array) -> Any:
        p = x.shape[-1]
        constant = 0.0
        for k in range(1, p):
            beta = self.eta + (p - k - 1) / 2
            log_beta = 2 * math.lgamma(beta) - math.lgamma(2 * beta)
            constant -= (p - k) * ((2 * self.eta - 2 + p - k) * LOG_2 + log_beta)
        # 0 x (-inf) for a singular matrix at eta = 1 is 0: the density is constant up to the edge.
        power = (self.eta - 1) * _log_determinant(x) if self.eta != 1.0 else np.zeros(x.shape[:-2])
        return constant + power

    def draw_matrix(self, rng: np.random.Generator, p: int) -> Array:
        """Return one (p, p) correlation matrix, by partial correlations along a vine."""
        partial = np.zeros((p, p))
        matrix = np.eye(p)
        for k in range(p - 1):
            beta = self.eta + (p - k - 2) / 2
            for i in range(k + 1, p):
                partial[k, i] = value = 2.0 * rng.beta(beta, beta) - 1.0
                for j in range(k - 1, -1, -1):
                    rest = math.sqrt((1 - partial[j, i] ** 2) * (1 - partial[j, k] ** 2))
                    value = value * rest + partial[j, i] * partial[j, k]
                matrix[k, i] = matrix[i, k] = value
        return matrix

    def _draw(self, rng: np.random.Generator, size: Size) -> Any:
        raise PriorError("LKJ: the size of the matrix is known only in a model; use draw_matrix(rng, p).")
