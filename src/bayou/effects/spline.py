"""P-splines: coefficients of B-splines whose differences of some order are N(0, sd²).

The structured form of basis coefficients: a curve Σ b_k B_k(x) with b ~ N(0, sd² R⁻), smooth since neighbouring
coefficients resemble each other. Over even knots R penalises what a random walk does, and the null space holds the
polynomials of a degree below the order, in the coefficients as in x. Sources: Eilers & Marx (1996), Flexible
smoothing with B-splines and penalties, Statistical Science 11; Lang & Brezger (2004), Bayesian P-splines, Journal of
Computational and Graphical Statistics 13.
"""

from __future__ import annotations

import numpy as np

from bayou._types import Array
from bayou.effects.base import OneScale
from bayou.effects.differences import Differences, polynomials
from bayou.effects.random_walk import sum_to_zero
from bayou.effects.scaling import reference_variance
from bayou.errors import DataError


class Spline(OneScale):
    """`s`: the coefficients of B-splines over even knots.

    Parameters
    ----------
    basis
        Number of coefficients m.
    order
        Of the differences that are penalised, at least 1.
    scaled, constrained, replicates, scale
        As in `bayou.effects.random_walk.RandomWalk`; the constraint is that the coefficients add up to zero.

    Raises
    ------
    DataError
        There are fewer coefficients than the differences need.

    Examples
    --------
    >>> Spline(6).null  # the straight line is free
    1
    """

    def __init__(
        self,
        basis: int,
        order: int = 2,
        scaled: bool = True,
        constrained: bool = True,
        replicates: int = 1,
        scale: float = 1.0,
    ) -> None:
        if order < 1 or basis < order + 1:
            raise DataError(f"s with differences of order {order} needs at least {max(order, 1) + 1} B-splines.")
        self.order = order
        null = polynomials(np.arange(float(basis)), order)
        inverse = Differences(*differences(basis, order), null)
        constraints, anchors = sum_to_zero(basis, constrained)
        super().__init__("s", inverse.R, null, constraints, anchors, inverse, replicates, scale)
        if scaled:
            self.rescale(reference_variance(inverse, null))


def differences(m: int, order: int) -> tuple[Array, Array]:
    """Return the rows of D, (m − order, order + 1), and H = I."""
    row = np.ones(1)
    for _ in range(order):
        row = np.convolve(row, [1.0, -1.0])
    return np.tile(row[::-1], (m - order, 1)), np.ones(m - order)
