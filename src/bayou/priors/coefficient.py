"""The normal prior: of one coefficient, of several, or of all of them jointly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from bayou._types import Array
from bayou.priors import codes
from bayou.priors.base import LOG_2PI, SMALLEST, Prior, Size, number_text


@dataclass(frozen=True, eq=False)
class Normal(Prior):
    """A normal prior of coefficients.

    Parameters
    ----------
    mean
        A number, or one per coefficient.
    sd
        A number, or one per coefficient.
    cov, precision
        Instead of ``sd``: a covariance matrix (positive definite) or a precision matrix (symmetric,
        no negative eigenvalue; directions with none are flat).
    at
        For an intercept only: one value per column of the design (1 for the intercept's own). The
        prior is then of the linear predictor at that point instead of at zero: the default prior
        speaks of the intercept at the means of the columns.

    Examples
    --------
    >>> print(Normal(0, 10))
    Normal(0, 10)
    >>> print(Normal([0, 1], cov=[[4, 1], [1, 9]]))
    Normal([0, 1], cov=[[4, 1], [1, 9]])
    """

    mean: Any = 0.0
    sd: Any = None
    cov: Any = None
    precision: Any = None
    at: Any = None
    speaks_of: ClassVar[str] = "coefficient"
    code: ClassVar[int] = codes.NORMAL

    def _check(self) -> None:
        given = [name for name in ("sd", "cov", "precision") if getattr(self, name) is not None]
        self._require(len(given) == 1, f"give one of sd, cov and precision, not {given or 'none'}.")
        for name in ("mean", "sd", "cov", "precision", "at"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, self._numbers(name, value))
        if self.sd is not None:
            self._require(bool(np.all(np.asarray(self.sd) > 0)), f"sd must be above 0, not {self.sd!r}.")
            fits = bool(np.all(np.asarray(self.sd) >= SMALLEST) and np.all(np.asarray(self.sd) <= 1.0 / SMALLEST))
            self._require(fits, f"the square of sd = {self.sd!r} is lost in rounding; change the unit of the data.")
            sizes = {np.size(v) for v in (self.mean, self.sd) if np.ndim(v) == 1}
            self._require(len(sizes) <= 1, "mean and sd must have the same length.")
            self._require(max(np.ndim(self.mean), np.ndim(self.sd)) <= 1, "mean and sd must be vectors.")
        else:
            self._check_matrix(given[0])
        if self.at is not None:
            ok = self.is_scalar and np.ndim(self.at) == 1
            self._require(ok, "at needs one mean, one sd, and one value per column of the design.")

    def _numbers(self, name: str, value: Any) -> Any:
        try:
            numbers = np.array(value, dtype=float)
        except (TypeError, ValueError):
            numbers = np.array(np.nan)
        self._require(bool(np.all(np.isfinite(numbers))), f"{name} must be finite numbers, not {value!r}.")
        numbers.setflags(write=False)
        return float(numbers) if numbers.ndim == 0 else numbers

    def _check_matrix(self, name: str) -> None:
        matrix = np.asarray(getattr(self, name))
        square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1] and matrix.size > 0
        self._require(square, f"{name} must be a square matrix, not an array of shape {matrix.shape}.")
        ok = np.ndim(self.mean) == 0 or np.shape(self.mean) == (matrix.shape[0],)
        self._require(ok, f"{name} is {matrix.shape[0]} x {matrix.shape[0]}, mean has {np.size(self.mean)}.")
        scale = np.sqrt(np.abs(np.diag(matrix)))
        scale[scale == 0.0] = 1.0
        unit = matrix / np.outer(scale, scale)
        self._require(np.allclose(unit, unit.T, atol=1e-8), f"{name} is not symmetric.")
        least = float(np.linalg.eigvalsh((unit + unit.T) / 2)[0])
        if name == "cov":
            self._require(least > 0.0, "cov is not positive definite.")
        else:
            self._require(least > -1e-8, "precision has a negative eigenvalue.")

    @property
    def is_scalar(self) -> bool:
        """Whether this is the prior of one coefficient (or the same one for each)."""
        return self.sd is not None and np.ndim(self.mean) == 0 and np.ndim(self.sd) == 0

    @property
    def size(self) -> int | None:
        """The number of coefficients that it speaks of; None when it is the same for each."""
        if self.is_scalar:
            return None
        if self.sd is None:
            return int(np.shape(self.cov if self.cov is not None else self.precision)[0])
        return max(np.size(self.mean), np.size(self.sd))

    @property
    def proper(self) -> bool:
        """Whether the density integrates to one: False for a singular precision."""
        return self.precision is None or self.null_space().shape[1] == 0

    def moments(self, size: int) -> tuple[Array, Array]:
        """Return the mean (size,) and the precision (size, size) for that many coefficients."""
        mean = np.broadcast_to(np.asarray(self.mean, dtype=float), (size,)).copy()
        if self.sd is not None:
            sd = np.broadcast_to(np.asarray(self.sd, dtype=float), (size,))
            return mean, np.diag(1.0 / sd**2)
        if self.precision is not None:
            return mean, (self.precision + self.precision.T) / 2
        scale = np.sqrt(np.diag(self.cov))
        inverse = np.linalg.inv(self.cov / np.outer(scale, scale)) / np.outer(scale, scale)
        return mean, (inverse + inverse.T) / 2

    def null_space(self) -> Array:
        """Return a basis (size, k) of the directions that the precision leaves flat."""
        if self.precision is None:
            return np.zeros((self.size or 1, 0))
        scale = np.sqrt(np.maximum(np.diag(self.precision), 0.0))
        scale[scale == 0.0] = 1.0
        values, vectors = np.linalg.eigh(self.precision / np.outer(scale, scale))
        flat = values < 1e-12 * max(1.0, float(values[-1])) * len(values)
        return np.asarray(vectors[:, flat] / scale[:, None])

    def __str__(self) -> str:
        """Return the class with its numbers, as it would be typed."""
        parts = [number_text(self.mean)]
        if self.sd is not None:
            parts.append(number_text(self.sd))
        parts += [
            f"{name}={number_text(getattr(self, name))}"
            for name in ("cov", "precision", "at")
            if getattr(self, name) is not None
        ]
        return f"Normal({', '.join(parts)})"

    def _parameters(self) -> list[float]:
        self._require(self.is_scalar, "a joint prior of several coefficients has no scalar density.")
        return [self.mean, self.sd]

    def log_density(self, x: ArrayLike) -> Array:
        """Return the log density at ``x``: scalars, or vectors along the last axis for a joint prior.

        A singular precision gives the density of the directions that it does speak of.
        """
        values = np.asarray(x, dtype=float)
        if self.is_scalar:
            z = (values - self.mean) / self.sd
            return np.asarray(-0.5 * LOG_2PI - np.log(self.sd) - 0.5 * z * z)
        size = self.size or 1
        mean, precision = self.moments(size)
        scale = np.sqrt(np.maximum(np.diag(precision), 0.0))
        scale[scale == 0.0] = 1.0
        z = (values - mean) * scale
        roots, vectors = np.linalg.eigh(precision / np.outer(scale, scale))
        keep = roots > 1e-12 * max(1.0, float(roots[-1])) * size
        squares = np.sum(((z @ vectors[:, keep]) ** 2) * roots[keep], axis=-1)
        constant = 0.5 * np.sum(np.log(roots[keep])) - 0.5 * LOG_2PI * keep.sum()
        constant += np.sum(np.log(scale)) if keep.all() else 0.0
        return np.asarray(constant - 0.5 * squares)

    def _draw(self, rng: np.random.Generator, size: Size) -> Any:
        if self.is_scalar:
            return rng.normal(self.mean, self.sd, size)
        count = self.size or 1
        shape = () if size is None else (size,) if isinstance(size, int) else tuple(size)
        mean, precision = self.moments(count)
        z = rng.standard_normal((*shape, count))
        if self.sd is not None:
            return mean + z * np.broadcast_to(self.sd, (count,))
        scale = np.sqrt(np.diag(precision))
        factor = np.linalg.cholesky(precision / np.outer(scale, scale))
        return mean + np.linalg.solve(factor.T, z[..., None])[..., 0] / scale
