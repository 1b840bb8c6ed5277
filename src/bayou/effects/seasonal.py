"""Seasonal variation: x_i + … + x_{i + period − 1} ~ N(0, sd²), so that a pattern of the season may drift.

Its null space holds the patterns that repeat and add up to zero over a period: these are free, like fixed effects.
Source: Rue & Held (2005), Gaussian Markov Random Fields, section 3.4.3.
"""

from __future__ import annotations

import numpy as np

from bayou._types import Array
from bayou.effects.base import OneScale
from bayou.effects.constrained import complement
from bayou.effects.differences import Differences
from bayou.effects.extending import conditional, placed
from bayou.effects.random_walk import check_increasing, sum_to_zero
from bayou.effects.scaling import reference_variance
from bayou.errors import DataError


class Seasonal(OneScale):
    """`seasonal`: a season of ``period`` steps over consecutive whole times.

    Parameters
    ----------
    coordinate
        (m,) consecutive whole numbers.
    period
        Steps of one season, at least 2.
    scaled, constrained, replicates, scale
        As in `bayou.effects.random_walk.RandomWalk`.

    Raises
    ------
    DataError
        The times are not consecutive, or do not reach beyond one season.

    Examples
    --------
    >>> effect = Seasonal(np.arange(24.0), 12, scaled=False)
    >>> effect.null, effect.rank
    (11, 12)
    """

    def __init__(
        self,
        coordinate: Array,
        period: int,
        scaled: bool = True,
        constrained: bool = True,
        replicates: int = 1,
        scale: float = 1.0,
    ) -> None:
        t = np.asarray(coordinate, dtype=np.float64)
        if period < 2:
            raise DataError(f"seasonal: period={period} must be at least 2.")
        check_increasing("seasonal", t, period + 1)
        if np.any(np.abs(np.diff(t) - 1.0) > 1e-9):
            raise DataError("seasonal needs consecutive whole numbers: steps of one.")
        self.coordinate, self.period = t, period
        null = patterns(len(t), period)
        inverse = Differences(*seasons(len(t), period), null)
        self.unit = reference_variance(inverse, null) if scaled else 1.0
        constraints, anchors = sum_to_zero(len(t), constrained)
        super().__init__("seasonal", inverse.R, null, constraints, anchors, inverse, replicates, scale)
        self.rescale(self.unit)

    def extend_mean(self, theta: Array, coordinates: Array) -> tuple[Array, Array]:
        """Return the law of the season at new whole times, those between the nodes and the new ones integrated out."""
        new = np.asarray(coordinates, dtype=np.float64)
        if np.any(np.abs(new - np.rint(new)) > 1e-9):
            raise DataError("seasonal has values at whole times only.")
        whole = np.arange(
            min(self.coordinate[0], new.min(initial=np.inf)), max(self.coordinate[-1], new.max(initial=-np.inf)) + 0.5
        )
        union, old_at, new_at = placed(self.coordinate, np.rint(new), whole)
        R = Differences(*seasons(len(union), self.period), patterns(len(union), self.period)).R
        return conditional(R.tocsr() * (self.unit * np.exp(-2.0 * theta[0])), old_at, new_at)


def seasons(m: int, period: int) -> tuple[Array, Array]:
    """Return the rows of ones of D, (m − period + 1, period), and H = I."""
    return np.ones((m - period + 1, period)), np.ones(m - period + 1)


def patterns(m: int, period: int) -> Array:
    """Return an orthonormal basis (m, period − 1) of the patterns that repeat and add up to zero over a period."""
    contrasts = complement(np.ones((1, period)), period)
    basis: Array = np.linalg.qr(contrasts[np.arange(m) % period])[0]
    return basis
