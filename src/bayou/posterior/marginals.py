"""Marginal distributions that are known as densities, not as draws."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit, logit

from bayou._types import Array
from bayou.errors import BayouError

__all__ = ["SCALES", "Marginal"]

INTERVALS, TAIL = 800, 50  # of the fine grid between the points, and in each tail; Simpson's rule on each
DEPTH = 25.0  # tails are followed until the log density is this far below its top


class Scale(NamedTuple):
    """A map from the real line: value(t), t of a value, dvalue/dt."""

    value: Callable[[Array], Array]
    internal: Callable[[Array], Array]
    slope: Callable[[Array], Array]


def _logistic_slope(t: Array) -> Array:
    chance = expit(t)
    return np.asarray(chance * (1.0 - chance))


SCALES = {
    "identity": Scale(lambda t: t, lambda v: v, np.ones_like),
    "log": Scale(np.exp, np.log, np.exp),
    "atanh": Scale(np.tanh, np.arctanh, lambda t: np.cosh(t) ** -2.0),
    "logit": Scale(expit, logit, _logistic_slope),
}


class _Table(NamedTuple):
    """The density at the 2 K + 1 points of a fine grid of t, and its integral up to every second one.

    Each interval between two given points is cut into as many parts, so that the grid is fine where the points are.
    """

    t: Array
    p: Array
    cumulative: Array

    def integral(self, values: Array) -> float:
        """Return the integral of values at t."""
        return float(_simpson(self.t, values).sum())


class Marginal:
    """The marginal distribution of one number, from values of its log density.

    The log density is interpolated by a cubic spline (exact for a normal density), continued by parabolas
    where it falls at an end, and normalised. Nothing is computed before it is asked for.

    Parameters
    ----------
    points
        Where the log density is known, (K,), at least 4, increasing; on the internal scale.
    log_density
        Of the internal coordinate there (its Jacobian included), (K,), up to a constant.
    scale
        What the points are of the number that is reported: ``"identity"``, its ``"log"``, ``"atanh"`` or ``"logit"``.
    moments
        Mean and sd of the number where they are known better than from the density.

    Raises
    ------
    BayouError
        If the points do not increase, or there are too few with a finite log density.

    Examples
    --------
    >>> import numpy as np
    >>> t = np.linspace(-4.0, 4.0, 9)
    >>> one = Marginal(t, -0.5 * t**2)
    >>> round(one.mean, 6), round(one.sd, 6), round(float(one.quantile(0.975)), 4)
    (0.0, 1.0, 1.96)
    """

    def __init__(
        self, points: Any, log_density: Any, scale: str = "identity", moments: tuple[float, float] | None = None
    ) -> None:
        t, height = np.asarray(points, dtype=np.float64), np.asarray(log_density, dtype=np.float64)
        if scale not in SCALES:
            raise BayouError(f"scale={scale!r} of a marginal is not one of {', '.join(SCALES)}.")
        if t.shape != height.shape or t.ndim != 1 or np.isnan(height).any() or (height == np.inf).any():
            raise BayouError("A marginal needs one finite log density (or minus infinity) for each point.")
        known = height > -np.inf
        t, height = t[known], height[known]
        if len(t) < 4 or not np.isfinite(t).all() or not (np.diff(t) > 0.0).all():
            raise BayouError("A marginal needs at least 4 increasing points with a finite log density.")
        self.points, self.log_density = t, height - height.max()
        self.scale, self.moments = scale, moments

    def __repr__(self) -> str:
        return f"Marginal(mean={self.mean:.4g}, sd={self.sd:.4g})"

    # ---- made from something else ----------------------------------------------------------

    @classmethod
    def normal(cls, mean: float, sd: float, scale: str = "identity") -> Marginal:
        """Return a normal distribution of the internal coordinate."""
        z = np.linspace(-5.0, 5.0, 11)
        exact = (float(mean), float(sd)) if scale == "identity" else None
        return cls(mean + sd * z, -0.5 * np.square(z), scale, exact)

    @classmethod
    def mixture(cls, means: Any, sds: Any, weights: Any, scale: str = "identity") -> Marginal:
        """Return Σ weight N(mean, sd²) of the internal coordinate; weights (K,) of any sum."""
        m, s = (np.atleast_1d(np.asarray(x, dtype=np.float64)) for x in (means, sds))
        w = np.asarray(weights, dtype=np.float64).reshape(m.shape)
        if not (np.isfinite(m).all() and np.isfinite(s).all() and (s > 0.0).all()):
            raise BayouError(
                "A marginal has no finite mean, or no spread: the precision of the coefficients is singular up to "
                "rounding. Look for times that are very near to each other beside others that are far apart, and for "
                "columns of extreme size."
            )
        w = w / w.sum()
        centre = float(w @ m)
        spread = float(np.sqrt(w @ (np.square(s) + np.square(m - centre))))
        used = w > 1e-12
        low, high = (m - 6.0 * s)[used].min(), (m + 6.0 * s)[used].max()
        # dense enough for the narrowest part wherever it lies
        parts = np.ravel(m[used, None] + s[used, None] * np.linspace(-6.0, 6.0, 41))
        t = np.unique(np.concatenate([np.linspace(low, high, 121), parts]))
        t = np.interp(np.linspace(0.0, len(t) - 1.0, min(len(t), 601)), np.arange(len(t)), t)
        t = t[np.concatenate([[True], np.diff(t) > 1e-9 * (high - low)])]
        z = (t[:, None] - m) / s
        with np.errstate(divide="ignore"):
            height = np.log(np.exp(-0.5 * np.square(z)) @ (w / s))
        return cls(t, height, scale, (centre, spread) if scale == "identity" else None)

    @classmethod
    def of_draws(cls, draws: Any, weights: Any = None, scale: str = "identity") -> Marginal:
        """Return a kernel density estimate from draws of the number (not of its internal coordinate).

        The draws are pulled to their mean so that the smoothing does not widen them; mean and sd are those of the
        draws. ``weights`` (S,) have any sum.
        """
        v = np.ravel(np.asarray(draws, dtype=np.float64))
        w = np.full(len(v), 1.0 / len(v)) if weights is None else np.ravel(np.asarray(weights, dtype=np.float64))
        w = w / w.sum()
        with np.errstate(divide="ignore"):
            t = SCALES[scale].internal(v)
        if not np.isfinite(t).all() or not np.ptp(t) > 0.0:
            raise BayouError("The draws of a marginal must be finite and differ.")
        mean, sd = _moments(t, w)
        order = np.argsort(t)
        quarters = np.interp((0.25, 0.75), np.cumsum(w[order]), t[order])
        spread = min(sd, (quarters[1] - quarters[0]) / 1.34) or sd
        width = 0.9 * spread * float(np.square(w).sum()) ** 0.2
        shrink = sd / np.hypot(sd, width)
        centred = mean + shrink * (t - mean)
        low, high = centred.min() - 4.0 * width, centred.max() + 4.0 * width
        points = np.linspace(low, high, 129)
        # draws are counted on a fine grid first, so that a million cost no more than a thousand
        cells = 1024
        share = np.bincount(np.minimum(((centred - low) / (high - low) * cells).astype(np.int64), cells - 1), w, cells)
        middles = low + (np.arange(cells) + 0.5) * (high - low) / cells
        kernel = np.exp(-0.5 * np.square((points[:, None] - middles) / max(width, (high - low) / cells)))
        with np.errstate(divide="ignore"):
            height = np.log(kernel @ share)
        return cls(points, height, scale, _moments(v, w))

    # ---- what it says ----------------------------------------------------------------------

    @cached_property
    def _spline(self) -> Array:
        """First derivatives of the cubic spline at the points (not-a-knot ends, exact for cubics)."""
        from scipy.linalg import solve_banded

        t, y = self.points, self.log_density
        h, n = np.diff(t), len(t)
        rise = np.diff(y) / h
        A, r = np.ones((3, n)), np.zeros(n)  # the three diagonals
        A[1, 1:-1], A[0, 2:], A[2, :-2] = 2.0 * (h[:-1] + h[1:]), h[:-1], h[1:]
        r[1:-1] = 3.0 * (h[1:] * rise[:-1] + h[:-1] * rise[1:])
        A[1, 0], A[0, 1] = h[1], h[0] + h[1]
        r[0] = ((h[0] + 2.0 * (h[0] + h[1])) * h[1] * rise[0] + h[0] ** 2 * rise[1]) / (h[0] + h[1])
        A[1, -1], A[2, -2] = h[-2], h[-1] + h[-2]
        r[-1] = ((h[-1] + 2.0 * (h[-1] + h[-2])) * h[-2] * rise[-1] + h[-1] ** 2 * rise[-2]) / (h[-1] + h[-2])
        return np.asarray(solve_banded((1, 1), A, r))

    @cached_property
    def _tails(self) -> tuple[float, float]:
        """Second derivatives at the outer points, never positive: a normal tail goes on as one."""
        t, y, d = self.points, self.log_density, self._spline
        first = (6.0 * (y[1] - y[0]) / (t[1] - t[0]) - 4.0 * d[0] - 2.0 * d[1]) / (t[1] - t[0])
        last = (2.0 * d[-2] + 4.0 * d[-1] - 6.0 * (y[-1] - y[-2]) / (t[-1] - t[-2])) / (t[-1] - t[-2])
        return min(float(first), 0.0), min(float(last), 0.0)

    def _log(self, t: Array) -> Array:
        """Return the interpolated log density of the internal coordinate, not normalised."""
        x, y, d = self.points, self.log_density, self._spline
        k = np.clip(np.searchsorted(x, t, side="right") - 1, 0, len(x) - 2)
        h = x[k + 1] - x[k]
        u = np.clip((t - x[k]) / h, 0.0, 1.0)
        rise = (y[k + 1] - y[k]) / h
        c2, c3 = 3.0 * rise - 2.0 * d[k] - d[k + 1], d[k] + d[k + 1] - 2.0 * rise
        inside = y[k] + h * u * (d[k] + u * (c2 + u * c3))
        left, right = np.minimum(t - x[0], 0.0), np.maximum(t - x[-1], 0.0)
        bends = self._tails
        beyond = left * (d[0] + 0.5 * bends[0] * left) + right * (d[-1] + 0.5 * bends[1] * right)
        return np.asarray(inside + beyond)

    @cached_property
    def _ends(self) -> tuple[float, float]:
        """Where the density ends: at the outer points, or where a falling tail is negligible."""
        x, y, d, bends = self.points, self.log_density, self._spline, self._tails
        ends = []
        for place, fall, bend in ((0, d[0], bends[0]), (-1, -d[-1], bends[1])):
            left = max(DEPTH + y[place], 0.0)
            reach = 2.0 * left / (fall + np.sqrt(fall**2 - 2.0 * bend * left)) if fall > 0.0 else 0.0
            ends.append(min(reach, 3.0 * (x[-1] - x[0])))
        return float(x[0] - ends[0]), float(x[-1] + ends[1])

    @cached_property
    def _table(self) -> _Table:
        x, (low, high) = self.points, self._ends
        each = -(-INTERVALS // (len(x) - 1))
        inner = x[:-1, None] + np.diff(x)[:, None] * np.arange(2 * each) / (2 * each)
        parts = [np.ravel(inner), x[-1:]]
        if low < x[0]:
            parts.insert(0, np.linspace(low, x[0], 2 * TAIL + 1)[:-1])
        if high > x[-1]:
            parts.append(np.linspace(x[-1], high, 2 * TAIL + 1)[1:])
        t = np.concatenate(parts)
        p = np.exp(self._log(t))
        mass = np.concatenate([[0.0], np.cumsum(_simpson(t, p))])
        return _Table(t, p / mass[-1], mass / mass[-1])

    def expected(self, function: Callable[[Array], Array]) -> float:
        """Return the mean of a function of the number, by Simpson's rule."""
        table = self._table
        return table.integral(function(SCALES[self.scale].value(table.t)) * table.p)

    @cached_property
    def mean(self) -> float:
        """The mean of the number."""
        return self.expected(lambda v: v) if self.moments is None else float(self.moments[0])

    @cached_property
    def sd(self) -> float:
        """The standard deviation of the number."""
        if self.moments is not None:
            return float(self.moments[1])
        mean = self.mean
        return float(np.sqrt(self.expected(lambda v: np.square(v - mean))))

    def density(self, x: Any) -> Array:
        """Return the density of the number at x; zero outside of what it can be."""
        v = np.asarray(x, dtype=np.float64)
        scale, table = SCALES[self.scale], self._table
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            t = scale.internal(v)
            level = table.p.max() / np.exp(self._log(table.t[table.p.argmax()]))
            inside = (t >= table.t[0]) & (t <= table.t[-1])
            t = np.where(inside, t, table.t[0])
            return np.where(inside, level * np.exp(self._log(t)) / scale.slope(t), 0.0)

    def cumulative(self, x: Any) -> Array:
        """Return the probability of at most x."""
        v = np.asarray(x, dtype=np.float64)
        t, p, F = self._table
        with np.errstate(invalid="ignore", divide="ignore"):
            own = np.nan_to_num(SCALES[self.scale].internal(v), nan=-np.inf)
        # a number below the range of the map, such as a negative sd, has no internal value
        inside = np.clip(own, t[0], t[-1])
        k = np.clip(np.searchsorted(t[::2], inside, side="right") - 1, 0, len(F) - 2)
        step = t[2 * k + 2] - t[2 * k]
        under = np.clip(F[k] + step * _within(p, k, (inside - t[2 * k]) / step), 0.0, 1.0)
        return np.where(own >= t[-1], 1.0, np.where(own <= t[0], 0.0, under))

    def quantile(self, chance: Any) -> Array:
        """Return the values below which the number is with the given probabilities."""
        wanted = np.asarray(chance, dtype=np.float64)
        if not ((wanted >= 0.0) & (wanted <= 1.0)).all():
            raise BayouError("Quantiles are asked for by probabilities between 0 and 1.")
        t, p, F = self._table
        k = np.clip(np.searchsorted(F, wanted, side="right") - 1, 0, len(F) - 2)
        step = t[2 * k + 2] - t[2 * k]
        mass = np.maximum(F[k + 1] - F[k], 1e-300)
        u = np.clip((wanted - F[k]) / mass, 0.0, 1.0)
        for _ in range(6):
            slope = np.maximum(step * _height(p, k, u), 1e-300)
            u = np.clip(u - (F[k] + step * _within(p, k, u) - wanted) / slope, 0.0, 1.0)
        return np.asarray(SCALES[self.scale].value(t[2 * k] + step * u))

    def draw(self, rng: np.random.Generator, count: int) -> Array:
        """Draw ``count`` independent values."""
        return self.quantile(rng.random(count))

    @property
    def x(self) -> Array:
        """A grid of values of the number where its density is worth drawing."""
        t, p, _ = self._table
        seen = np.flatnonzero(p > 1e-5 * p.max())
        return np.asarray(SCALES[self.scale].value(t[seen[0] : seen[-1] + 1]))

    @property
    def y(self) -> Array:
        """The density at `x`."""
        return self.density(self.x)


def _moments(values: Array, weights: Array) -> tuple[float, float]:
    mean = float(weights @ values)
    spread = float(weights @ np.square(values - mean))
    # the divisor n - 1 of equal weights, and what it is for others
    return mean, float(np.sqrt(spread / max(1.0 - float(np.square(weights).sum()), 1e-12)))


def _simpson(t: Array, values: Array) -> Array:
    """Return the integral over each interval, from its ends and its middle."""
    return np.asarray((t[2::2] - t[:-2:2]) / 6.0 * (values[:-2:2] + 4.0 * values[1:-1:2] + values[2::2]))


def _height(p: Array, k: Any, u: Array) -> Array:
    """Return the parabola through three points of the fine grid, at u of interval k."""
    a, b, c = p[2 * k], p[2 * k + 1], p[2 * k + 2]
    return np.asarray(a + u * (-3.0 * a + 4.0 * b - c + u * (2.0 * a - 4.0 * b + 2.0 * c)))


def _within(p: Array, k: Any, u: Array) -> Array:
    """Return its integral from 0 to u."""
    a, b, c = p[2 * k], p[2 * k + 1], p[2 * k + 2]
    return np.asarray(u * (a + u * (0.5 * (-3.0 * a + 4.0 * b - c) + u * (2.0 * a - 4.0 * b + 2.0 * c) / 3.0)))
