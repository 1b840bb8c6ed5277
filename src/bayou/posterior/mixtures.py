"""Marginals of many numbers at once: mixtures of normals, one part for each node of the hyperparameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from bayou._types import Array
from bayou.errors import BayouError
from bayou.posterior.marginals import Marginal

__all__ = ["Mixture"]

STEPS = 60  # of a safeguarded Newton iteration, at most


@dataclass(frozen=True, eq=False)
class Mixture:
    """Marginals of an array of numbers, each Σ_k weight_k N(mean_k, sd_k²): one part per node of theta.

    Attributes
    ----------
    weights
        Shape (K,), of any sum.
    means, sds
        Shape (K, …).

    Examples
    --------
    >>> import numpy as np
    >>> two = Mixture(np.array([1.0, 1.0]), np.array([[-1.0, 0.0], [1.0, 0.0]]), np.ones((2, 2)))
    >>> print(two.mean, two.sd.round(3), two.quantile(0.5))
    [0. 0.] [1.414 1.   ] [0. 0.]
    """

    weights: Array
    means: Array
    sds: Array

    def __post_init__(self) -> None:
        K = len(self.weights)
        if self.means.shape != self.sds.shape or self.means.shape[:1] != (K,):
            raise BayouError(
                f"A mixture of {K} parts has means of shape {self.means.shape} and sds of shape {self.sds.shape}."
            )

    @property
    def _shares(self) -> Array:
        return np.asarray(self.weights / self.weights.sum())

    @property
    def mean(self) -> Array:
        """Means, shape (…)."""
        return np.asarray(np.tensordot(self._shares, self.means, 1))

    @property
    def sd(self) -> Array:
        """Standard deviations, shape (…)."""
        spread = np.square(self.sds) + np.square(self.means - self.mean)
        return np.asarray(np.sqrt(np.tensordot(self._shares, spread, 1)))

    def quantile(self, chance: float) -> Array:
        """Return the value of each number below which it is with this probability, shape (…).

        By Newton's method on the distribution function, kept inside the bracket that the parts' own quantiles are.
        """
        z = float(ndtri(chance))
        used = self._shares > 1e-15
        w, m, s = self._shares[used], self.means[used], np.maximum(self.sds[used], 1e-300)
        ends = m + z * s
        low, high = ends.min(axis=0), ends.max(axis=0)
        if len(w) == 1:
            return np.asarray(low)
        sd = self.sd
        at = np.clip(self.mean + z * sd, low, high)
        for _ in range(STEPS):
            u = (at - m) / s
            excess = np.tensordot(w, ndtr(u), 1) - chance
            height = np.tensordot(w, np.exp(-0.5 * np.square(u)) / s, 1) / np.sqrt(2.0 * np.pi)
            low, high = np.where(excess < 0.0, at, low), np.where(excess > 0.0, at, high)
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                step = at - excess / height
            inside = (step >= low) & (step <= high)
            new = np.where(inside, step, 0.5 * (low + high))
            moved = np.abs(new - at)
            at = new
            if (moved <= 1e-12 * sd).all():
                break
        return np.asarray(at)

    def marginal(self, *index: int) -> Marginal:
        """Return the marginal of one of the numbers."""
        place: tuple[Any, ...] = (slice(None), *index)
        return Marginal.mixture(self.means[place], self.sds[place], self.weights)
