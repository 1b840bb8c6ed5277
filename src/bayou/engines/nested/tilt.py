"""A density made to have given moments, changed no more than that takes."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from bayou._types import Array
from bayou.posterior.marginals import SCALES, Marginal

__all__ = ["FARTHEST", "normal_moments", "reshaped", "scores", "tilted"]

FARTHEST = 4.0  # of the scores: beyond they are cut
GRID = np.linspace(-6.0, 6.0, 481)
SCORES = np.clip(GRID, -FARTHEST, FARTHEST)
STEPS = 50
FINE = 65  # points of a reshaped marginal


def _features(z: Array) -> Array:
    """Return Hermite polynomials of degrees 1 to 3, orthonormal under the normal density, (…, 3)."""
    return np.stack([z, (np.square(z) - 1.0) / np.sqrt(2.0), (z**3 - 3.0 * z) / np.sqrt(6.0)], axis=-1)


BASE = np.exp(-0.5 * np.square(GRID))
BASE /= BASE.sum()
ON_GRID = _features(SCORES)
CENTRE = BASE @ ON_GRID  # next to zero: what the cut leaves


def normal_moments(z: Array) -> Array:
    """Return the features (…, 3) of scores: their means under a standard normal are zero."""
    return np.asarray(_features(np.clip(z, -FARTHEST, FARTHEST)) - CENTRE)


def tilted(z: Array, means: Array) -> tuple[Array, bool]:
    """Return log r(z) with E[features r] = means under a standard normal z, and whether there is such an r.

    r = exp(c'features) / E exp(c'features): of all densities with these means the nearest to the normal one in
    Kullback-Leibler divergence. Newton's method on the convex dual; where means are out of reach the third is given up,
    then the second.
    """
    for used in (3, 2, 1):
        F = ON_GRID[:, :used] - CENTRE[:used]
        c = np.zeros(used)
        value = 0.0
        for _ in range(STEPS):
            weight = BASE * np.exp(F @ c - (F @ c).max())
            weight /= weight.sum()
            mean = weight @ F
            spread = (F - mean).T @ ((F - mean) * weight[:, None])
            gradient = means[:used] - mean
            if np.abs(gradient).max() < 1e-9:
                out = normal_moments(z)[..., :used] @ c
                return np.asarray(out - np.log(BASE @ np.exp(F @ c))), used == 3
            step = np.linalg.solve(spread + 1e-12 * np.eye(used), gradient)
            length = 1.0
            value = _dual(F, c, means[:used])
            while _dual(F, c + length * step, means[:used]) < value and length > 1e-8:
                length *= 0.5
            c = c + length * step
            if np.abs(c).max() > 25.0:
                break
    return np.zeros(np.shape(z)), False


def _dual(F: Array, c: Array, means: Array) -> float:
    t = F @ c
    top = float(t.max())
    return float(c @ means) - top - float(np.log(BASE @ np.exp(t - top)))


def scores(one: Marginal, values: Array) -> Array:
    """Return the features (M, 3) of the normal scores that values have under a marginal."""
    u = ndtri(np.clip(one.cumulative(values), 1e-12, 1.0 - 1e-12))
    return normal_moments(np.clip(u, -FARTHEST, FARTHEST))


def reshaped(one: Marginal, wanted: Array) -> Marginal:
    """Return a marginal whose normal scores have these means of features."""
    scale = SCALES[one.scale]
    points = np.interp(np.linspace(0.0, 1.0, FINE), np.linspace(0.0, 1.0, len(one.points)), one.points)
    values = scale.value(points)
    density = one.density(values) * scale.slope(points)
    u = ndtri(np.clip(one.cumulative(values), 1e-15, 1.0 - 1e-15))
    change, _ = tilted(u, wanted)
    with np.errstate(divide="ignore"):
        return Marginal(points, np.log(density) + change, one.scale)
