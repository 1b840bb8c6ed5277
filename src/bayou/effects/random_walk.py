"""Random walks of order 1 and 2 over points of time, even or uneven, open or around a circle.

Order 1: increments over a gap d are N(0, d sd²). Order 2, by Lindgren & Rue (2008), On the second-order random
walk model for irregular locations, Scandinavian Journal of Statistics 35: with gaps d_i = t_{i+1} − t_i, inside

    (x_{i+1} − x_i)/d_i − (x_i − x_{i−1})/d_{i−1} ~ N(0, sd² (d_{i−1} + d_i)/2),

for even gaps the second differences. Its null space holds the lines; around a circle only the constants.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse

from bayou._types import Array, Integers
from bayou.effects.base import OneScale
from bayou.effects.circulant import Circulant, is_even
from bayou.effects.constrained import Anchored
from bayou.effects.differences import Differences, polynomials
from bayou.effects.extending import conditional, placed
from bayou.effects.pattern import Matrix, lower_values
from bayou.effects.scaling import reference_variance
from bayou.errors import DataError

MOST_STEPS = 500  # beyond the last point, towards new ones
WIDEST = 1e5  # ratio of the widest gap to the narrowest that rw2 takes


class RandomWalk(OneScale):
    """`rw1` or `rw2`: a random walk of order 1 or 2.

    Parameters
    ----------
    order
        1 or 2.
    coordinate
        (m,) increasing points of time.
    cyclic
        Whether the last point is followed by the first.
    period
        Length of the circle; by default the points are taken as one whole turn in even steps.
    scaled
        Whether sd is the geometric mean of the marginal sds; else it is that of the increments of one unit of time.
    constrained
        Whether the values add up to zero.
    replicates, scale
        As in `OneScale`.

    Raises
    ------
    DataError
        The points do not increase, are too few, or do not fit the circle.

    Examples
    --------
    >>> walk = RandomWalk(1, np.array([0.0, 1.0, 3.0]), scaled=False)
    >>> walk.dense(np.zeros(1)).round(1)
    array([[ 1. , -1. ,  0. ],
           [-1. ,  1.5, -0.5],
           [ 0. , -0.5,  0.5]])
    """

    def __init__(
        self,
        order: int,
        coordinate: Array,
        cyclic: bool = False,
        period: float | None = None,
        scaled: bool = True,
        constrained: bool = True,
        replicates: int = 1,
        scale: float = 1.0,
    ) -> None:
        kind = f"rw{order}"
        t = np.asarray(coordinate, dtype=np.float64)
        self.order, self.coordinate = order, t
        check_increasing(kind, t, order + 2 if cyclic else order + 1)
        if order == 2:
            check_gaps(t)
        self.period = circumference(kind, t, period) if cyclic else None
        m = len(t)
        if self.period is None:
            null = polynomials(t, order)
            inverse: Anchored = Differences(*open_walk(order, t), null)
            R = inverse.R  # type: ignore[attr-defined]
        else:
            null = np.full((m, 1), m**-0.5)
            R = closed_walk(order, t, self.period)
            even = is_even(t, self.period)
            inverse = Circulant(order, m, self.period) if even else Anchored(*_lower(R), null)
        self.unit = reference_variance(inverse, null) if scaled else 1.0
        constraints, anchors = sum_to_zero(m, constrained)
        # the constant is that of R: what scaling adds is known
        super().__init__(kind, R, null, constraints, anchors, inverse, replicates, scale)
        self.rescale(self.unit)

    def extend_mean(self, theta: Array, coordinates: Array) -> tuple[Array, Array]:
        """Return the law of the walk at new times given it at the nodes: a bridge between them, wider beyond them."""
        new = np.asarray(coordinates, dtype=np.float64)
        if self.period is not None:
            new = self.coordinate[0] + np.mod(new - self.coordinate[0], self.period)
        steps = onward(self.coordinate, new) if self.period is None and self.order == 2 else None
        union, old_at, new_at = placed(self.coordinate, new, steps)
        if self.period is None:
            weights, precision = open_walk(self.order, union)
            R = Differences(weights, precision, polynomials(union, self.order)).R
        else:
            R = closed_walk(self.order, union, self.period)
        return conditional(R * (self.unit * np.exp(-2.0 * theta[0])), old_at, new_at)


def _lower(R: Matrix) -> tuple[Integers, Integers, Array]:
    indptr, indices, values = lower_values([R])
    return indptr, indices, values[0]


def sum_to_zero(m: int, constrained: bool) -> tuple[Array, Integers]:
    """Return the constraint that all values add up to zero, with its anchor; or none."""
    if not constrained:
        return np.zeros((0, m)), np.zeros(0, dtype=np.int64)
    return np.full((1, m), m**-0.5), np.zeros(1, dtype=np.int64)


def check_increasing(kind: str, t: Array, fewest: int) -> None:
    """Raise DataError unless the points are finite, increase and are enough."""
    if t.ndim != 1 or not np.all(np.isfinite(t)) or np.any(np.diff(t) <= 0.0):
        raise DataError(f"{kind} needs points of time that are finite, increasing and distinct.")
    if len(t) < fewest:
        raise DataError(f"{kind} needs at least {fewest} distinct points, but there are {len(t)}.")


def check_gaps(t: Array) -> None:
    """Raise DataError for gaps so different that rounding of the precision hides the line from it.

    The elements of a precision of order 2 grow like 1 / gap³; against an exact reference (120 digits, 60 points) the
    log density of the data was off by 1e-9 at a ratio of 2e3 between gaps, 1e-6 at 4e4, and 34 at 2e6.
    """
    gaps = np.diff(t)
    ratio = float(gaps.max() / gaps.min())
    if ratio > WIDEST:
        where = int(gaps.argmin())
        raise DataError(
            f"rw2 loses its digits: two times are {gaps.min():.3g} apart ({t[where]:.6g} and {t[where + 1]:.6g}), "
            f"others {gaps.max():.3g}, {ratio:.1e} times as far; {WIDEST:,.0f} is the most. Round the times, take "
            "their logarithms, or use s() or rw1."
        )


def circumference(kind: str, t: Array, period: float | None) -> float:
    """Return the length of the circle that the points stand on."""
    span = float(t[-1] - t[0])
    if period is None:
        gaps = np.diff(t)
        if not np.allclose(gaps, gaps.mean(), rtol=1e-6):
            raise DataError(
                f"{kind} with cyclic=True over uneven points: give the length of the circle as well, for instance "
                f"period={span + float(gaps.min()):g}."
            )
        return span + float(gaps.mean())
    if not np.isfinite(period) or period <= span:
        raise DataError(f"{kind}: period={period:g} must be above the span of the points, {span:g}.")
    return float(period)


def onward(old: Array, new: Array) -> Array:
    """Return points from the ends of the old ones towards new ones beyond, in steps that are usual among the old.

    In one long step the slope of a walk of order 2 would change once: its spread would depend on what else is asked.
    """
    step = float(np.median(np.diff(old)))
    parts: list[Array] = [np.zeros(0)]
    for end, far, sign in ((old[0], new.min(initial=np.inf), -1.0), (old[-1], new.max(initial=-np.inf), 1.0)):
        distance = sign * (float(far) - float(end))
        if np.isfinite(distance) and distance > step:
            count = min(int(distance / step * (1.0 - 1e-12)), MOST_STEPS)
            width = max(step, distance / (count + 1))
            parts.append(np.asarray(float(end) + sign * width * np.arange(1, count + 1)))
    return np.concatenate(parts)


def open_walk(order: int, t: Array) -> tuple[Array, Array]:
    """Return rows of D (m − order, order + 1) and the diagonal of H."""
    d = np.diff(t)
    if order == 1:
        return np.tile([-1.0, 1.0], (len(d), 1)), 1.0 / d
    before, after = d[:-1], d[1:]
    weights = np.column_stack([1.0 / before, -1.0 / before - 1.0 / after, 1.0 / after])
    return weights, 2.0 / (before + after)


def closed_walk(order: int, t: Array, period: float) -> Matrix:
    """Return R of a walk around a circle, (m, m) sparse."""
    m = len(t)
    d = np.diff(np.append(t, t[0] + period))  # d_i from point i to the next
    i = np.arange(m)
    after, before = (i + 1) % m, (i - 1) % m
    if order == 1:
        parts, columns, precision = [-np.ones(m), np.ones(m)], [i, after], 1.0 / d
    else:
        parts = [1.0 / d[before], -1.0 / d[before] - 1.0 / d, 1.0 / d]
        columns, precision = [before, i, after], 2.0 / (d[before] + d)
    D = scipy.sparse.csc_array(
        (np.concatenate(parts), (np.tile(i, len(parts)), np.concatenate(columns))), shape=(m, m)
    )
    return (D.T @ scipy.sparse.diags_array(precision) @ D).tocsc()
