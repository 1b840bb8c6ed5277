"""The walk along one parameter: the likelihood maximised over all others at each of its values.

With l(v) the profile log likelihood and l its maximum, the signed root

    zeta(v) = sign(v − estimate) √(2 (l − l(v)))

is about standard normal at the true v (Bates & Watts 1988, *Nonlinear Regression Analysis*, chapter 6). Its slope
comes with every point: at a constrained maximum the likelihood's derivative in v is its partial one, so that
dzeta/dv = −(dl/dv)/zeta.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from bayou._types import Array
from bayou.engines.marginal.climb import hessian
from bayou.engines.marginal.descent import GOING, VALUE, advance, new_descent, usable_inverse
from bayou.inference.coordinates import Coordinate
from bayou.inference.estimated import steady
from bayou.packed import packed

if TYPE_CHECKING:
    from bayou.conditional.laplace import Laplace

STEP = 0.4  # of zeta
MOST = 80  # points on one side
CLOSE = 1e-9  # of zeta, for the ends of intervals
SLACK = 1e-7  # of log likelihood by which a constrained maximum may exceed the maximum
ZERO = 1e-4  # a free entry of a factor that has vanished
PROBE = 3e-2


class HigherMaximum(Exception):
    """A constrained maximum above what was taken for the maximum: the profile begins again from there."""

    def __init__(self, psi: Array) -> None:
        super().__init__("higher maximum")
        self.psi = psi


@dataclass
class Point:
    """A constrained maximum."""

    v: float
    zeta: float
    slope: float  # dzeta/dv
    x: Array
    H: Array = field(repr=False)  # (d − 1, d − 1) inverse Hessian in x


class Walk:
    """Points along one parameter, from the estimate outwards as far as they are asked for.

    Parameters
    ----------
    of
        The likelihood.
    coordinate
        The parameter.
    psi, best
        Where the likelihood is highest, and minus its logarithm there.

    Attributes
    ----------
    estimate
        The point of the maximum.
    points
        By rising v; the estimate is among them.
    ended
        For both sides, whether the end of what the parameter can be was reached.
    """

    def __init__(self, of: Laplace, coordinate: Coordinate, psi: Array, best: float) -> None:
        self.of, self.coordinate, self.best = of, coordinate, best
        self.evaluate = steady(of)
        v, x = coordinate.split(psi)
        own, others = coordinate.slopes(v, x)
        J = np.column_stack([own, others])
        H = J.T @ hessian(self.evaluate, psi, np.eye(of.size)) @ J
        whole = usable_inverse(H)
        inner = usable_inverse(H[1:, 1:])
        self.se = float(np.sqrt(max(whole[0, 0], 1e-300)))
        self.tangent = -inner @ H[1:, 0]
        self.estimate = Point(v, 0.0, 1.0 / self.se, x, inner)
        self.points = [self.estimate]
        self.ended = {-1: False, 1: False}
        # in which entries of psi a column of a factor may vanish, and where they stand in x
        numbers = of.numbers
        diagonal = of.explicit + np.flatnonzero(numbers.row == numbers.column)
        self._diagonal = [(int(k), m) for k in diagonal if (m := self._free(int(k))) is not None]

    def _free(self, k: int) -> int | None:
        """Return where entry k of psi stands in x, None if it is none of it."""
        _, others = self.coordinate.slopes(0.5, np.zeros(self.of.size - 1))
        places = np.flatnonzero(others[k])
        return int(places[0]) if len(places) == 1 and np.count_nonzero(others[:, places[0]]) == 1 else None

    # ---- one point -------------------------------------------------------------------------

    def at(self, v: float, x: Array, H: Array) -> Point:
        """Return the constrained maximum at v, searched from x with an inverse Hessian.

        Raises
        ------
        HigherMaximum
            If it is higher than the maximum.
        """
        evaluate = self._within(v)
        value, x, H = _descend(evaluate, x, H)
        for k, m in self._diagonal:
            if abs(self.coordinate.join(v, x)[k]) < ZERO:
                tried = x.copy()
                tried[m] = PROBE
                if evaluate(tried)[0] < value - SLACK:
                    value, x, H = _descend(evaluate, tried, H)
        psi = self.coordinate.join(v, x)
        value, gradient = self.evaluate(psi)
        if value < self.best - SLACK:
            raise HigherMaximum(psi)
        centre = self.estimate
        zeta = float(np.sign(v - centre.v) * np.sqrt(max(2.0 * (value - self.best), 0.0)))
        along = float(self.coordinate.slopes(v, x)[0] @ gradient)
        slope = along / zeta if abs(zeta) > 1e-3 else centre.slope
        return Point(v, zeta, slope, x, H)

    def _within(self, v: float) -> Callable[[Array], tuple[float, Array]]:
        """Return the likelihood as a function of x."""

        def evaluate(x: Array) -> tuple[float, Array]:
            with np.errstate(over="ignore", invalid="ignore"):
                psi = self.coordinate.join(v, x)
            if not np.isfinite(psi).all():
                return np.inf, np.zeros(len(x))
            value, gradient = self.evaluate(psi)
            return value, self.coordinate.slopes(v, x)[1].T @ gradient

        return evaluate

    # ---- the walk --------------------------------------------------------------------------

    def reach(self, cut: float) -> None:
        """Walk to both sides until zeta is beyond ±cut, or the parameter can go no further."""
        for side in (-1, 1):
            self._reach(side, cut)

    def _reach(self, side: int, cut: float) -> None:
        bound = self.coordinate.lower if side < 0 else self.coordinate.upper
        for _ in range(MOST):
            last = self.points[0 if side < 0 else -1]
            if self.ended[side] or side * last.zeta >= cut:
                return
            if last.v == bound:
                self.ended[side] = True
                return
            before = self.points[1 if side < 0 else -2] if len(self.points) > 1 else None
            length = STEP / max(abs(last.slope), 1e-300)
            if before is not None and side * before.zeta >= 0.0:
                # nor much further than last time, however flat it is
                length = min(length, 3.0 * abs(last.v - before.v))
            v = last.v + side * length
            if np.isfinite(bound) and side * (v - bound) > -0.1 * length:
                v = bound
            if v == last.v or not np.isfinite(v):
                break
            x = self._guess(last, before, v, side)
            point = self.at(v, x, last.H)
            if not np.isfinite(point.zeta):  # the likelihood vanishes on the way: half as far
                point = self.at(last.v + 0.25 * (v - last.v), last.x, last.H)
                if not np.isfinite(point.zeta):
                    break
            self.points.insert(0 if side < 0 else len(self.points), point)
        self.ended[side] = True

    def _guess(self, last: Point, before: Point | None, v: float, side: int) -> Array:
        """Return where the other parameters may be at v: along the line of the last two points."""
        if before is None or side * before.zeta < 0.0 or before.v == last.v:
            return np.asarray(last.x + self.tangent * (v - last.v))
        return np.asarray(last.x + (last.x - before.x) * ((v - last.v) / (last.v - before.v)))

    # ---- intervals -------------------------------------------------------------------------

    def solve(self, target: float) -> float:
        """Return the v where zeta is ``target``; the end of what it can be, if the walk ended before.

        The monotone curve through the points gives a first value, Newton's method the rest.
        """
        side = 1 if target > 0.0 else -1
        self._reach(side, abs(target))
        end = self.points[0 if side < 0 else -1]
        if side * end.zeta < abs(target):
            bound = self.coordinate.lower if side < 0 else self.coordinate.upper
            return bound
        low = max((p for p in self.points if p.zeta <= target), key=lambda p: p.v)
        high = min((p for p in self.points if p.zeta >= target and p.v >= low.v), key=lambda p: p.v)
        v = float(self.curve()(target))
        for _ in range(30):
            if not low.v < v < high.v:
                v = 0.5 * (low.v + high.v)
            near = low if v - low.v < high.v - v else high
            point = self.at(v, low.x + (high.x - low.x) * ((v - low.v) / (high.v - low.v)), near.H)
            if point.zeta < target:
                low = point
            else:
                high = point
            if abs(point.zeta - target) < CLOSE or high.v - low.v < 1e-13 * (abs(high.v) + self.se):
                break
            v = point.v + (target - point.zeta) / point.slope
        return point.v

    def curve(self) -> Callable[[float], float]:
        """Return v as a monotone function of zeta, through the points."""
        from scipy.interpolate import PchipInterpolator

        zeta = np.array([p.zeta for p in self.points])
        v = np.array([p.v for p in self.points])
        rising = np.concatenate([[True], zeta[1:] > np.maximum.accumulate(zeta)[:-1]])
        if rising.sum() < 2:
            return lambda _: float(v[0])
        made: Callable[[float], float] = PchipInterpolator(zeta[rising], v[rising])
        return made


def _descend(evaluate: Callable[[Array], tuple[float, Array]], x: Array, H: Array) -> tuple[float, Array, Array]:
    """Minimise from x; returns the value, x and the inverse Hessian that the descent has learnt."""
    if not len(x):
        return evaluate(x)[0], x, H
    state = new_descent(x, H.copy())
    handed = packed(state)
    status = GOING
    while status == GOING:
        status = int(advance(handed, *evaluate(state.trial)))
    return float(state.facts[VALUE]), state.x.copy(), state.H
