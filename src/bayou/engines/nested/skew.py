"""Skewness: of x given theta from third derivatives, and mixtures of two normals that have it."""

from __future__ import annotations

import numpy as np

from bayou._types import Array
from bayou.conditional.field import Field

__all__ = ["SkewNormal", "halves", "simplified", "skew_normal"]

APART = 0.5  # of the two means, in sds
MOST = 0.95  # skewness of a skew normal density, which reaches .9953
GREATEST = 0.9  # skewness that two normals so far apart can have


def simplified(field: Field, directions: Array, row_variance: Array) -> tuple[Array, Array]:
    """Return the standardised mean shifts and the skewnesses of some a'x given theta, in first order.

    The simplified Laplace approximation (Rue, Martino & Chopin 2009, section 3.2.3): along the path of conditional
    means, a'x = mean + sd t, the predictor moves by c_j t, c_j = cov(eta_j, a'x) / sd, and the log density of t is

        −½ t² + g1 t + g3 t³ / 6,   g1 = ½ Σ_j l'''_j c_j (s_j² − c_j²),   g3 = Σ_j l'''_j c_j³,

    g1 from the determinant of what is conditioned on, s_j² the variances of the predictor. In first order its mean is
    g1 + g3/2 = ½ Σ_j l'''_j c_j s_j² and its skewness g3.

    Parameters
    ----------
    field
        Placed at theta.
    directions
        The a (k, N): unit vectors for single coefficients.
    row_variance
        s² (n,).

    Returns
    -------
    Means and skewnesses, (k,) each; zeros where a'x has no variance.
    """
    slopes = -field.row_slopes()
    means, skewness = np.zeros(len(directions)), np.zeros(len(directions))
    for at in range(len(directions)):
        spread = field.solve(directions[at])
        variance = float(directions[at] @ spread)
        if variance > 0.0:
            c = (field.predictor(field.x + spread) - field.eta) / np.sqrt(variance)
            means[at] = 0.5 * float((slopes * c) @ row_variance)
            skewness[at] = float(slopes @ c**3)
    return means, skewness


class SkewNormal:
    """Skew normal distributions: density 2 / w phi(u) Phi(a u), u = (x − location) / w (Azzalini 1985)."""

    def __init__(self, location: Array, width: Array, shape: Array) -> None:
        self.location, self.width, self.shape = location, width, shape

    def log_density(self, x: Array) -> Array:
        """Return log densities at x, which broadcasts against the parameters."""
        from scipy.special import log_ndtr

        u = (x - self.location) / self.width
        return np.asarray(
            0.5 * np.log(2.0 / np.pi) - np.log(self.width) - 0.5 * np.square(u) + log_ndtr(self.shape * u)
        )


def skew_normal(mean: Array, sd: Array, skewness: Array) -> SkewNormal:
    """Return the skew normal distributions with these moments; the skewness is cut at ±.95."""
    g = np.clip(skewness, -MOST, MOST)
    ratio = np.cbrt(2.0 * np.abs(g) / (4.0 - np.pi))
    m = np.sign(g) * ratio / np.sqrt(1.0 + ratio**2)  # the mean in units of w
    delta = np.sqrt(0.5 * np.pi) * m
    width = sd / np.sqrt(1.0 - m**2)
    return SkewNormal(mean - width * m, width, delta / np.sqrt(1.0 - delta**2))


def halves(mean: Array, sd: Array, skewness: Array) -> tuple[Array, Array]:
    """Return means and sds (2, …) of two normals of weight one half with these means, sds and skewnesses together.

    Their means are ½ sd to either side; their variances differ: with variances v ± e in units of sd², v = 1 − a² and
    3 a e = skewness (cut at ±.9). Where there is no skewness the excess kurtosis is −.125.
    """
    g = np.clip(skewness, -GREATEST, GREATEST)
    e = g / (3.0 * APART)
    v = 1.0 - APART**2
    spread = np.sqrt(np.stack([v - e, v + e]))
    return np.stack([mean - APART * sd, mean + APART * sd]), spread * sd
