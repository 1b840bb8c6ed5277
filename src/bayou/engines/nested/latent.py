"""Marginals of the coefficients: mixtures over the nodes, with the moments that the importance correction gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.engines.nested.importance import Unit
from bayou.engines.nested.skew import halves
from bayou.engines.nested.survey import Nodes

if TYPE_CHECKING:
    from bayou.conditional.field import GaussianField

__all__ = ["Parts", "matched", "parts_of", "unit_of"]


@dataclass(frozen=True, eq=False)
class Parts:
    """Mixtures of normals: the N coefficients of the field, then the P fixed effects as printed.

    Attributes
    ----------
    weights
        (K,) of sum one.
    means, sds
        (K, N + P).
    """

    weights: Array
    means: Array
    sds: Array

    @property
    def mean(self) -> Array:
        """(N + P,)."""
        return np.asarray(self.weights @ self.means)

    @property
    def sd(self) -> Array:
        """(N + P,)."""
        return np.asarray(np.sqrt(self.weights @ (np.square(self.sds) + np.square(self.means - self.mean))))

    def powers(self, unit: Unit) -> Array:
        """Return means (3, N + P) of powers 1 to 3 of the coefficients in units of their posterior."""
        d, v = (self.means - unit.centre) / unit.scale, np.square(self.sds / unit.scale)
        moments = (d, v + d * d, 3.0 * d * v + d**3)
        return np.stack([self.weights @ m for m in moments])


def parts_of(field: GaussianField, nodes: Nodes) -> tuple[Parts, Parts]:
    """Return the mixtures over the nodes: normal parts, and with the skewness that the strategy gives each part."""
    where, back = field.columns["beta"], field.model.working.to_printed
    means, sds = nodes.stacked("mean"), nodes.stacked("sd")
    fixed = np.sqrt(np.maximum(np.einsum("ij,kjl,il->ki", back, nodes.stacked("covariance"), back), 0.0))
    weights = np.exp(nodes.log_shares)
    plain = Parts(
        weights, np.concatenate([means, means[:, where] @ back.T], axis=1), np.concatenate([sds, fixed], axis=1)
    )
    skewness = nodes.stacked("skewness")
    if not skewness.any():
        return plain, plain
    return plain, _split(plain, skewness)


def _split(parts: Parts, skewness: Array) -> Parts:
    """Return each part as two normals with the skewness (K, W)."""
    means, sds = halves(parts.means, parts.sds, skewness)
    return Parts(np.tile(0.5 * parts.weights, 2), means.reshape(-1, means.shape[2]), sds.reshape(-1, sds.shape[2]))


def unit_of(field: GaussianField, parts: Parts, theta: Array) -> Unit:
    """Return the units of the coefficients: their means and sds; theta is the mode."""
    sd = parts.sd
    where = field.columns["beta"]
    return Unit(parts.mean, np.where(sd > 0.0, sd, 1.0), where, field.model.working.to_printed, theta)


def matched(parts: Parts, mean: Array, sd: Array, third: Array) -> Parts:
    """Return the mixtures moved and stretched to these means and sds, their parts bent to third central moments.

    Where the parts would have to be skewer than two normals can be, they are as skew as these.
    """
    old_mean, old_sd = parts.mean, parts.sd
    ratio = sd / np.where(old_sd > 0.0, old_sd, 1.0)
    means = mean + ratio * (parts.means - old_mean)
    sds = ratio * parts.sds
    d = means - mean
    own = parts.weights @ (d**3 + 3.0 * d * np.square(sds))
    cubes = parts.weights @ sds**3
    skewness = np.where(cubes > 0.0, (third - own) / np.where(cubes > 0.0, cubes, 1.0), 0.0)
    return _split(Parts(parts.weights, means, sds), np.broadcast_to(skewness, means.shape))
